"""Which requests share replicas, and what they ask for."""

from dataclasses import dataclass

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.fleet.values import Fleet, ModelChoice
from penstock.workload.select import select
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests of one model that the same replicas serve.

    ``workloads`` holds them once per seed, with their own arrival times; ``classes`` are those
    with traffic. ``exclusive`` says that the replicas take only these classes.
    """

    name: str
    model: ModelChoice
    classes: tuple[ServiceClass, ...]
    exclusive: bool
    workloads: tuple[Workload, ...]

    @property
    def sample(self) -> Workload:
        """The requests of the first seed, which estimates rest on."""
        return self.workloads[0]

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate of the first seed."""
        return self.sample.rate_per_s

    @property
    def priority(self) -> int:
        """That of its most urgent class."""
        return min(c.priority for c in self.classes)

    @property
    def longest_tokens(self) -> int:
        """Most tokens that one request may hold in the KV cache, over all seeds."""
        return max(int((w.prompt_tokens + w.max_tokens).max()) for w in self.workloads)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """As a replica group states them: ``None`` means every class."""
        return tuple(c.name for c in self.classes) if self.exclusive else None


def demands_of(fleet: Fleet, workloads: tuple[Workload, ...]) -> tuple[Demand, ...]:
    """The demands of a fleet in order of name; ``workloads`` are its traffic, one per seed."""
    found = []
    for model in fleet.models:
        of_model = tuple(_of_model(workload, model.spec.name) for workload in workloads)
        if not all(map(len, of_model)):
            continue
        classes = _classes_with_traffic(fleet, of_model)
        if fleet.plan.pooling == "model" or len(classes) == 1:
            found.append(Demand(model.spec.name, model, classes, exclusive=False,
                                workloads=of_model))
            continue
        for service_class in classes:
            parts = tuple(_of_class(workload, service_class.name) for workload in of_model)
            if all(map(len, parts)):
                found.append(Demand(f"{model.spec.name}/{service_class.name}", model,
                                    (service_class,), exclusive=True, workloads=parts))
    return tuple(sorted(found, key=lambda demand: demand.name))


def _of_model(workload: Workload, model: str) -> Workload:
    indices = [i for i, name in enumerate(workload.models) if name == model]
    return select(workload, np.isin(workload.model_index, indices))


def _of_class(workload: Workload, name: str) -> Workload:
    return select(workload, workload.class_index == workload.service_classes.index(name))


def _classes_with_traffic(fleet: Fleet,
                          workloads: tuple[Workload, ...]) -> tuple[ServiceClass, ...]:
    present = {workload.service_classes[index] for workload in workloads
               for index in np.unique(workload.class_index)}
    return tuple(c for c in fleet.service_classes if c.name in present)
