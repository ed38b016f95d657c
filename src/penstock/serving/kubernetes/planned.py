"""A Fleet without ``replicas``: the plan of its groups, in its status and as its file's part."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.engines.launch.kinds import check_engine
from penstock.fleet.kubernetes import usual_kubernetes
from penstock.fleet.scaling import MOST_REPLICAS
from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.objects import Document

_ADDED = ("variant", "costPerHour")
"""Keys of a planned group beside those of the fleet file's ``replicas``."""


class Plan(NamedTuple):
    """Groups that a plan found for a generation of a Fleet's file: entries of ``replicas``, each
    with its ``variant`` and ``costPerHour``. ``demands`` has what is predicted of each demand,
    ``bound_per_hour`` the cost that no schedule undercuts, None where none is proven."""

    generation: int
    groups: Sequence[Document]
    demands: Sequence[Document]
    cost_per_hour: float
    bound_per_hour: float | None

    @property
    def num_replicas(self) -> int:
        """Return the number of all replicas."""
        return sum(int(group["count"]) for group in self.groups)

    def status(self) -> dict[str, Any]:
        """Return the part ``plan`` of the status, which ``plan_of`` reads."""
        return {"observedGeneration": self.generation, "costPerHour": self.cost_per_hour,
                "groups": [dict(one) for one in self.groups],
                "demands": [dict(one) for one in self.demands]}


def is_planned(spec: Document) -> bool:
    """Whether Penstock plans the groups of a file."""
    return not spec.get("replicas")


def plan_of(status: Document) -> Plan | None:
    """Return the plan of a Fleet's status, None where there is none that can be read."""
    found = status.get("plan") or {}
    try:
        return Plan(found["observedGeneration"], found["groups"], found["demands"],
                    found["costPerHour"], status.get("boundCostPerHour"))
    except KeyError:
        return None


def made_plan(document: Mapping[str, Any], generation: int) -> Plan:
    """Return the plan of ``plan.json``'s document. Raises InputError where the plan does not serve
    all traffic within its objectives."""
    if not document["served_in_full"]:
        raise InputError(_why_not(document))
    costs = {(one["demand"], one["variant"]): one["cost_per_hour"]
             for one in document["candidates"]}
    kinds = [(demand["name"], variant, count) for demand in document["demands"]
             for variant, count in demand["replicas"].items()]
    groups = [{**{key: value for key, value in section.items() if key != "kubernetes"},
               "variant": variant, "costPerHour": _rounded(count * costs[demand, variant])}
              for section, (demand, variant, count) in zip(document["replicas"], kinds,
                                                           strict=True)]
    least = document.get("least")
    return Plan(generation, groups, [_demand(one) for one in document["demands"]],
                _rounded(document["cost_per_hour"]),
                None if least is None else _rounded(least["cost_per_hour"]))


def _why_not(document: Mapping[str, Any]) -> str:
    reasons = [one["text"] for one in document.get("explanations") or ()]
    missed = [one["name"] for one in document["demands"] if not one["meets"]]
    return "; ".join(reasons) or (f"no plan keeps the objectives of {', '.join(missed)}; "
                                  "`penstock plan` says more")


def _demand(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is predicted of a demand. The least attainment of its classes counts."""
    shares = [entry["attainment"] for entry in one["classes"] if "attainment" in entry]
    found = {"name": one["name"], "model": one["model"], "ratePerSecond": one["rate_per_s"],
             "headroom": one["headroom"], "attainment": min(shares, default=None)}
    return {key: _rounded(value) if isinstance(value, float) else value
            for key, value in found.items() if value is not None}


def _rounded(value: float) -> float:
    return round(value, 6)


def planned_spec(spec: Document, drawn: Fleet, groups: Sequence[Document]) -> dict[str, Any]:
    """Return the file with planned groups. ``drawn`` is the fleet of the file without them.

    Where a policy scales, a group's bounds are those of the sections `plan` and `sizing`.
    """
    names = {pool.accelerator.name: one["name"] for pool, one
             in zip(drawn.accelerators, spec["accelerators"], strict=True)} | {
        model.spec.name: one["name"] for model, one
        in zip(drawn.models, spec["models"], strict=True)}
    found = []
    for group in groups:
        entry = {key: value for key, value in group.items() if key not in _ADDED}
        for key in ("model", "accelerator"):
            entry[key] = names.get(entry[key], entry[key])
        if drawn.scales:
            entry["min_replicas"] = min(drawn.plan.min_replicas, entry["count"])
            entry["max_replicas"] = min(max(drawn.sizing.max_replicas, entry["count"]),
                                        MOST_REPLICAS)
        found.append(entry)
    return {**spec, "replicas": found}


def running_groups(before: Plan, drawn: Fleet) -> list[Document]:
    """Return the groups of an earlier plan whose model and accelerator the file still has."""
    models = {one.spec.name for one in drawn.models}
    pools = {one.accelerator.name for one in drawn.accelerators}
    return [group for group in before.groups
            if group["model"] in models and group["accelerator"] in pools]


def check_plannable(values: Fleet) -> None:
    """Raise InputError for a fleet whose groups could be planned but not run."""
    check_engine(values.engine.name or "", "engine.name")
    models = dict.fromkeys(spec.model for spec in values.traffic)
    for model in models:
        for pool in values.accelerators:
            if usual_kubernetes(values.kubernetes, model, pool.accelerator.name) is None:
                raise InputError(
                    f"kubernetes: no entry fits {model} on {pool.accelerator.name}; expected "
                    "create with an image, or replicas that each have the section kubernetes")


def text_of(spec: Document) -> str:
    """Return a file as text that its reader takes: JSON, which is YAML."""
    return json.dumps(spec, ensure_ascii=False)
