"""Demands: the requests that share replicas, and their load."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.request import AUTO
from penstock.core.slo import ServiceClass
from penstock.fleet.values import Fleet, ModelChoice
from penstock.workload.select import select
from penstock.workload.workload import Workload

SHORTEST_S = 1.0
"""Requests without a stated rate that arrive in less time than this are one burst."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests of one model that the same replicas serve.

    ``workloads`` has one workload per seed that has such requests; ``classes`` are the classes with
    traffic. Where ``exclusive``, the replicas take only these classes. ``lasting`` traffic states a
    rate and is meant to go on without end; the stated rate is ``growth`` times that of the first
    seed, or less. Every request of the ``confidential_tenants`` is confidential.
    """

    name: str
    model: ModelChoice
    classes: tuple[ServiceClass, ...]
    exclusive: bool
    workloads: tuple[Workload, ...]
    lasting: bool = True
    growth: float = 1.0
    confidential_tenants: frozenset[str] = frozenset()

    @property
    def confidential(self) -> bool:
        """Whether any request is confidential. Then all replicas must be attested, because any of
        them may serve it."""
        return any(c.confidential for c in self.classes) or any(
            workload.tenants[index] in self.confidential_tenants for workload in self.workloads
            for index in np.unique(workload.tenant_index))

    @property
    def sample(self) -> Workload:
        """The requests of the first seed."""
        return self.workloads[0]

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate of the first seed; that of a burst is its size per second."""
        least_s = 0.0 if self.lasting and self.sample.duration_s > 0.0 else SHORTEST_S
        return len(self.sample) / max(self.sample.duration_s, least_s)

    @property
    def lasting_per_s(self) -> float:
        """Rate that lasting traffic goes on with: the stated rate, or the first seed's if that is
        higher by chance."""
        return self.growth * self.rate_per_s

    @property
    def priority(self) -> int:
        """The priority of the most urgent class."""
        return min(c.priority for c in self.classes)

    @property
    def longest_tokens(self) -> int:
        """Most tokens that one request may hold in the KV cache, over all seeds."""
        return max(int((w.prompt_tokens + w.max_tokens).max()) for w in self.workloads)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes as a replica group states them: ``None`` means every class."""
        return tuple(c.name for c in self.classes) if self.exclusive else None


def demands_of(fleet: Fleet, workloads: tuple[Workload, ...]) -> tuple[Demand, ...]:
    """The demands of a fleet in order of name; ``workloads`` are its traffic, one per seed.

    Raises InputError for traffic with ``model: auto``.
    """
    if any(spec.model == AUTO for spec in fleet.traffic):
        raise InputError("traffic: leaves the model to the router (model: auto), so there is no "
                         "demand of each model to plan for; name the models")
    found = []
    for model in fleet.models:
        of_model = _with_requests(_of_model(w, model.spec.name) for w in workloads)
        if not of_model:
            continue
        lasting = all(spec.rate_per_s is not None for spec in fleet.traffic
                      if spec.model == model.spec.name)
        classes = _classes_with_traffic(fleet, of_model)
        together = Demand(model.spec.name, model, classes, exclusive=False, workloads=of_model,
                          lasting=lasting,
                          confidential_tenants=fleet.gateway.confidential_tenants)
        together = replace(together, growth=_growth(fleet, together))
        if fleet.plan.pooling == "model" or len(classes) == 1:
            found.append(together)
            continue
        found += [part_of(together, (service_class,)) for service_class in classes]
    return tuple(sorted(found, key=lambda demand: demand.name))


def _growth(fleet: Fleet, demand: Demand) -> float:
    """Return the stated rate over that of the first seed, at least 1; 1 where parts of the traffic
    follow one another."""
    specs = [spec for spec in fleet.traffic if spec.model == demand.model.spec.name]
    if not demand.lasting or any(spec.start_s for spec in specs):
        return 1.0
    return max(1.0, sum(spec.rate_per_s or 0.0 for spec in specs) / demand.rate_per_s)


def part_of(demand: Demand, classes: tuple[ServiceClass, ...]) -> Demand:
    """Some classes of a demand as a demand of their own."""
    names = [c.name for c in classes]
    workloads = _with_requests(_of_classes(w, names) for w in demand.workloads)
    return Demand(f"{demand.model.spec.name}/{'+'.join(names)}", demand.model, classes,
                  exclusive=True, workloads=workloads, lasting=demand.lasting,
                  growth=demand.growth,
                  confidential_tenants=demand.confidential_tenants)


def redrawn(demand: Demand, workloads: Iterable[Workload]) -> Demand:
    """The demand with its requests of other workloads, its own where these have none."""
    names = [c.name for c in demand.classes]
    found = _with_requests(_of_classes(_of_model(w, demand.model.spec.name), names)
                           for w in workloads)
    return replace(demand, workloads=found or demand.workloads)


def in_part(demand: Demand, name: str, rows: Callable[[Workload], NDArray[np.bool_]]) -> Demand:
    """The requests of a demand that ``rows`` picks as a demand of that name, with all classes."""
    return replace(demand, name=f"{demand.name} {name}", workloads=_with_requests(
        select(workload, rows(workload)) for workload in demand.workloads))


def _with_requests(workloads: Iterable[Workload]) -> tuple[Workload, ...]:
    """Drop the workloads without requests: rare requests may be absent with some seeds."""
    return tuple(workload for workload in workloads if len(workload))


def _of_model(workload: Workload, model: str) -> Workload:
    indices = [i for i, name in enumerate(workload.models) if name == model]
    return select(workload, np.isin(workload.model_index, indices))


def _of_classes(workload: Workload, names: Container[str]) -> Workload:
    indices = [i for i, known in enumerate(workload.service_classes) if known in names]
    return select(workload, np.isin(workload.class_index, indices))


def _classes_with_traffic(fleet: Fleet,
                          workloads: tuple[Workload, ...]) -> tuple[ServiceClass, ...]:
    present = {workload.service_classes[index] for workload in workloads
               for index in np.unique(workload.class_index)}
    return tuple(c for c in fleet.service_classes if c.name in present)
