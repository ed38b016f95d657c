"""Output of ``penstock profile estimate`` on a choice, as tables and as JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.estimate.choosing import Options
    from penstock.perf.fingerprint.estimator import Estimates
    from penstock.policy.place.intent import Choice, Criteria, Scored

_SHOWN, _WORDINGS = 12, 3


def measure_next(model: str, answered: "Options", found: "Estimates") -> list[str]:
    """The runs that should shrink the widest intervals most."""
    from penstock.perf.fingerprint.advice import advice
    spec = found.subjects[model].model
    return advice(model, spec.num_layers, answered.estimates, spec.leading_dense_layers)


def choice_tables(model: str, choice: "Choice", answered: "Options",
                  criteria: "Criteria") -> list[Any]:
    """The best first, and why the others were rejected."""
    from penstock.core.units import GIB
    from penstock.policy.place.intent import pareto
    from penstock.report.model.table import Column, table

    best = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    front = {one.candidate.configuration for one in pareto(best)}
    rows = []
    for one in best[:_SHOWN]:
        candidate, latency, memory = one.candidate, one.candidate.latency_s, \
            one.candidate.memory_bytes
        placed = answered.placements[candidate.configuration]
        rows.append((candidate.configuration.name, _range(latency.value, latency.low, latency.high),
                     _range(memory.value / GIB, memory.low / GIB, memory.high / GIB),
                     "-" if candidate.accuracy is None else f"{candidate.accuracy:g}",
                     "yes" if candidate.configuration in front else "",
                     " ".join(map(str, placed.layer_map)),
                     "; ".join(latency.extrapolated)))
    said: list[Any] = []
    if rows:
        said.append(table(
            f"{model} by {criteria.intent}: the best first",
            ("configuration", Column("latency", unit="s"), Column("memory", unit="GiB"), "accuracy",
             "Pareto", "layers by stage", "beyond what was measured"), rows))
        if len(best) > _SHOWN:
            said.append(f"and {len(best) - _SHOWN} more")
    else:
        said.append(choice.reason)
    if choice.rejected:
        said.append(table("Rejected", ("reason", "configurations"),
                          _reasons(why for _, why in choice.rejected)))
    return said


def _reasons(rejected: "Iterable[str]") -> list[tuple[str, str]]:
    """Reasons and how many had them, the most frequent first; where a kind of reason (what stands
    before the colon) has many wordings, they are one."""
    kinds: dict[str, dict[str, int]] = {}
    for why in rejected:
        wordings = kinds.setdefault(why.partition(":")[0], {})
        wordings[why] = wordings.get(why, 0) + 1
    rows: list[tuple[str, int]] = []
    for wordings in kinds.values():
        if len(wordings) > _WORDINGS:
            rows.append((f"{next(iter(wordings))}, and the like", sum(wordings.values())))
        else:
            rows += wordings.items()
    return [(why, str(count)) for why, count in sorted(rows, key=lambda row: -row[1])]


def _range(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({low:.3g} to {high:.3g})"


def choice_document(model: str, choice: "Choice", answered: "Options",
                    found: "Estimates") -> dict[str, Any]:
    """All of it for programs."""
    from penstock.estimate.documents import rejected_document

    best = [one for one in (choice.chosen, *choice.alternatives) if one is not None]
    return {
        "model": model, "reason": choice.reason or None,
        "chosen": None if choice.chosen is None else _entry(choice.chosen, answered),
        "nearest": None if choice.nearest is None else choice.nearest.candidate.configuration.name,
        "alternatives": [_entry(one, answered) for one in best[1:]],
        "rejected": rejected_document(choice),
        "measure_next": measure_next(model, answered, found)}


def _entry(scored: "Scored", answered: "Options") -> dict[str, Any]:
    from penstock.estimate.documents import scored_document, stages_document

    placed = answered.placements[scored.candidate.configuration]
    return {**scored_document(scored), **stages_document(placed)}
