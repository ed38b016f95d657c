"""A scaler's decisions in words: the change, its cause, and the observation behind the cause."""

from collections.abc import Iterator, Mapping, Sequence

from penstock.metrics.scaling_summary import Scaling, ScalingChoice, ScalingView
from penstock.report.model import wording

MOST_DECISIONS = 2_000
"""Decisions that a page marks; of more, those that changed the most replicas."""


def marked(scaling: Scaling) -> tuple[ScalingChoice, ...]:
    """Return the decisions that a page marks, in order of time."""
    found = scaling.decisions
    if len(found) <= MOST_DECISIONS:
        return found
    by_size = sorted(range(len(found)), key=lambda place: (-_size(found[place]), place))
    return tuple(found[place] for place in sorted(by_size[:MOST_DECISIONS]))


def heading(scaling: Scaling, one: ScalingChoice) -> str:
    """Return the change in one line."""
    changes = "; ".join(
        f"{_group(scaling, number)}{old} \u2192 {new} replicas"
        for number, (old, new) in enumerate(zip(one.before, one.targets, strict=True))
        if old != new)
    return f"{clock(one.at_s)}: {changes or 'no change'}"


def details(scaling: Scaling, one: ScalingChoice) -> list[tuple[str, str]]:
    """Return names and values of all that is known about a decision."""
    found = [("Reason", one.reason)]
    if one.terms:
        found.append(("Figures", ", ".join(f"{name} {value:.4g}"
                                           for name, value in one.terms.items())))
    found.append(("Choice", _option(scaling, one.targets, one.attainment)))
    if one.next_best is not None:
        found.append(("Next best", _option(scaling, one.next_best.targets,
                                           one.next_best.attainment)))
    else:
        found.append(("Next best", "the policy names none"))
    if one.seen is not None:
        found += _seen(scaling, one.seen)
    return found


def clock(at_s: float) -> str:
    """Return a time of a run as days, hours, minutes and seconds, the empty ones left out."""
    minutes, seconds = divmod(at_s, 60.0)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "",
             f"{minutes} min" if minutes else "", f"{seconds:.3g} s" if seconds else ""]
    return " ".join(filter(None, parts)) or "0 s"


def cost_per_hour(scaling: Scaling, targets: Sequence[int]) -> float | None:
    """Return the price of numbers of replicas, None where the summary has no prices."""
    total = 0.0
    for group, target in zip(scaling.groups, targets, strict=True):
        if group.cost_per_hour is None:
            return None
        total += group.cost_per_hour * target
    return total


def _size(one: ScalingChoice) -> int:
    return sum(abs(new - old) for old, new in zip(one.before, one.targets, strict=True))


def _group(scaling: Scaling, number: int) -> str:
    group = scaling.groups[number]
    return "" if len(scaling.groups) == 1 else f"{group.model} on {group.accelerator} "


def _option(scaling: Scaling, targets: Sequence[int], attainment: float | None) -> str:
    cost = cost_per_hour(scaling, targets)
    return ", ".join(filter(None, (
        f"{' + '.join(map(str, targets))} replicas",
        "" if cost is None else f"{wording.money(cost)} per hour",
        "attainment not predicted" if attainment is None
        else f"predicted attainment {wording.percent(attainment)}")))


def _seen(scaling: Scaling, seen: ScalingView) -> Iterator[tuple[str, str]]:
    held = "" if seen.num_held is None else f"{wording.count(seen.num_held)} at the gateway, "
    yield "Arrivals", "unknown" if seen.arrivals_per_s is None else \
        f"{wording.rate(seen.arrivals_per_s)} since the decision before"
    yield "Queue", f"{held}{wording.count(seen.num_waiting)} at the engines"
    unseen = f"; {seen.num_unseen} serving without metrics" if seen.num_unseen else ""
    yield "Running", wording.count(seen.num_running) + unseen
    yield "Replicas", "; ".join(
        f"{_group(scaling, number)}{_counts(states) or 'none'}"
        for number, states in enumerate(seen.states))
    ages = [f"{state} for up to {wording.seconds(age_s)}"
            for state, age_s in seen.state_ages_s.items()]
    if seen.gauges_age_s is not None:
        ages.append(f"metrics up to {wording.seconds(seen.gauges_age_s)} old")
    yield "Ages", ", ".join(ages) or "none"


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())
