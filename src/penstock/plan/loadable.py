"""The fleet file that a plan writes: its replicas and the traffic that they serve.

A fleet file is not valid if no replicas serve a class of its traffic. So traffic that the plan does
not serve is left out of the file, and a comment says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from penstock.fleet.values import Fleet, ReplicaGroup, Sizing, TrafficSpec
from penstock.fleet.values_traffic import TraceFile
from penstock.fleet.write import to_yaml
from penstock.plan.plan import FleetPlan


def planned_yaml(plan: FleetPlan) -> str:
    """The text of a fleet file that loads without errors."""
    fleet = plan.fleet
    if not fleet.replicas:
        return "# No replicas: the plan serves nothing of this; plan.json says why.\n" \
            + to_yaml(fleet)
    left_out = [choice.demand.name for choice in plan.choices
                if not plan.checked.counts[choice.demand.name]]
    kept = served_only(fleet)
    lines = [f"# Left out, as the plan serves none of it: {', '.join(left_out)}; plan.json says "
             "why."] if left_out else []
    lines += [f"# Rows of {name} are still in the trace of {spec.name}: remove them before you "
              "simulate." for name in left_out for spec in kept.traffic
              if not spec.mix and name.startswith(f"{spec.model}/")]
    return "".join(f"{line}\n" for line in lines) + to_yaml(kept)


def served_only(fleet: Fleet) -> Fleet:
    """The fleet without traffic that no replicas serve. Rates and numbers of requests shrink by the
    shares of the removed classes."""
    names = tuple(c.name for c in fleet.service_classes)
    served = {model.spec.name: _served(model.spec.name, fleet.replicas, names)
              for model in fleet.models}
    mixed = [_without(spec, served[spec.model]) for spec in fleet.traffic if spec.mix]
    own = [spec for spec in fleet.traffic if not spec.mix]
    # Where a trace states the classes of its requests, all classes of the file must be served.
    needed = {*(name for spec in mixed if spec for name in spec.mix),
              *(name for spec in own for name in served[spec.model])} if own else {*names}
    kept = [name for name in names if name in needed]
    traffic = tuple(found for spec in fleet.traffic if (found := _without(
        spec, served[spec.model]) if spec.mix else
        spec if {*kept} <= {*served[spec.model]} else None))
    return replace(fleet, traffic=traffic, sizing=_sizing(fleet.sizing, kept),
                   service_classes=tuple(c for c in fleet.service_classes if c.name in needed))


def _served(model: str, groups: Sequence[ReplicaGroup], names: Sequence[str]) -> list[str]:
    mine = [group.service_classes for group in groups if group.model.name == model]
    return [name for name in names if any(c is None or name in c for c in mine)]


def _without(spec: TrafficSpec, served: Sequence[str]) -> TrafficSpec | None:
    """The traffic of the served classes alone; None where there is none."""
    left = {name: share for name, share in spec.mix.items() if name in served}
    share = sum(left.values())
    if share <= 0.0:
        return None
    if len(left) == len(spec.mix):
        return spec
    lengths, rate_per_s = spec.lengths, spec.rate_per_s
    if rate_per_s is not None:
        rate_per_s *= share
    elif isinstance(lengths, TraceFile):
        lengths = replace(lengths, scale=share * (lengths.scale or 1.0))
    number = spec.num_requests
    return replace(spec, mix={name: each / share for name, each in left.items()}, lengths=lengths,
                   rate_per_s=rate_per_s,
                   num_requests=None if number is None else max(1, round(share * number)))


def _sizing(sizing: Sizing, kept: Sequence[str]) -> Sizing:
    """The sizing groups without the removed classes."""
    groups = []
    for group in sizing.groups:
        classes = group.service_classes and tuple(c for c in group.service_classes if c in kept)
        if classes != ():
            groups.append(replace(group, service_classes=classes))
    return replace(sizing, groups=tuple(groups))
