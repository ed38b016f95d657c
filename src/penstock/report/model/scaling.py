"""The tables of a run whose replicas a policy scaled."""

from penstock.metrics.scaling_summary import ScaledGroup, Scaling
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Column, Table, table

MOST_DECISIONS = 200


def groups_table(scaling: Scaling) -> Table:
    """Replicas and GPU-hours by group."""
    rows = [[f"{group.model} on {group.accelerator}", f"{group.min_replicas}-{group.max_replicas}",
             *_figures(group)] for group in scaling.groups]
    several = len(rows) > 1
    return table(
        "Scaling", [Column("replicas of", left=True), Column("bounds", 2), "mean", "peak",
                    "GPU-hours", "cost"], rows,
        total=["all", "", *_figures(scaling)] if several else None,
        notes=[f"Policy {wording.policy(scaling.policy, scaling.settings)}: "
               f"{wording.count(scaling.starts)} starts, {wording.count(scaling.stops)} stops"
               f"{_faults(scaling)}.{_least(scaling)}", *_starts(scaling), _energy(scaling),
               _deferred(scaling)])


def _faults(scaling: Scaling) -> str:
    counts = ((scaling.failed_starts, "failed starts"), (scaling.failures, "failures"),
              (scaling.reclaims, "reclaims"))
    return "".join(f", {wording.count(number)} {name}" for number, name in counts if number)


def _starts(scaling: Scaling) -> list[str]:
    """Return a line on the expected start for each group whose parts are known, one for groups
    that start alike."""
    found: dict[str, list[str]] = {}
    for group in scaling.groups:
        if group.start_parts_s is not None:
            parts = ", ".join(f"{name.replace('_', '-')} {wording.seconds(mean_s)}"
                              for name, mean_s in group.start_parts_s.items())
            text = f"{wording.seconds(sum(group.start_parts_s.values()))}: {parts}"
            found.setdefault(text, []).append(f"{group.model} on {group.accelerator}")
    return [f"A start of {' and '.join(dict.fromkeys(names))} takes {text}."
            for text, names in found.items()]


def _energy(scaling: Scaling) -> str:
    """Say the energy, its carbon, and how far the power is known; empty where it is not at all."""
    if not scaling.power_coverage:
        return ""
    if scaling.energy_kwh is None:
        return f"The power of {wording.percent(scaling.power_coverage)} of the GPU-hours is known."
    carbon = "" if scaling.carbon_kg is None else f", {wording.carbon(scaling.carbon_kg)} of CO2"
    return f"Energy: {wording.energy(scaling.energy_kwh)}{carbon}."


def _deferred(scaling: Scaling) -> str:
    if not scaling.num_deferred:
        return ""
    return (f"{wording.count(scaling.num_deferred)} requests were held back, for "
            f"{wording.seconds(scaling.deferred_mean_s)} on average.")


def _least(scaling: Scaling) -> str:
    if not scaling.least_gpu_hours or scaling.over_least is None:
        return ""
    return (f" No policy needs fewer than {scaling.least_gpu_hours:,.1f} GPU-hours; this one took "
            f"{scaling.over_least:.2f} times as many.")


def calibration_table(scaling: Scaling) -> Table | None:
    """The step times that were learned while the replicas served; None where none were."""
    rows = [[f"{group.model} on {group.accelerator}", name, f"{one.values[name]:.4g}",
             f"{one.low[name]:.4g} to {one.high[name]:.4g}",
             "open" if name in one.unidentified else "yes"]
            for one in scaling.calibrated for group in [scaling.groups[one.group]]
            for name in one.values]
    if not rows:
        return None
    notes = [f"{scaling.groups[one.group].model} on {scaling.groups[one.group].accelerator}: "
             f"{wording.count(one.num_points)} points, {wording.count(one.num_drifts)} changes of "
             f"the engines found, {one.speed:.2f} times the believed rate of a replica."
             for one in scaling.calibrated]
    return table("Calibrated step times", [
        Column("replicas of", left=True), Column("parameter", left=True), "value",
        "95 % interval", "identified"], rows, notes=notes)


def decisions_table(scaling: Scaling) -> Table:
    """The decisions that changed a target, with their causes."""
    shown = scaling.decisions[:MOST_DECISIONS]
    rows = [[wording.seconds(one.at_s), _change(one.before, one.targets), one.reason,
             ", ".join(f"{name} {value:.3g}" for name, value in one.terms.items()),
             wording.percent(one.attainment)] for one in shown]
    left = len(scaling.decisions) - len(shown)
    found = table("Decisions", [
        "at", "replicas", Column("reason", left=True, prose=True),
        Column("figures", 1, left=True, prose=True), Column("predicted attainment", 2)], rows,
        notes=[f"The first {MOST_DECISIONS} of {wording.count(len(scaling.decisions))} decisions; "
               "summary.json has all." if left else "Decisions that changed a target."])
    predicted = any(one.attainment is not None for one in shown)
    return found if predicted else found.without("predicted attainment")


def _change(before: tuple[int, ...], targets: tuple[int, ...]) -> str:
    return ", ".join(f"{old} \u2192 {new}" if old != new else str(old)
                     for old, new in zip(before, targets, strict=True))


def _figures(one: ScaledGroup | Scaling) -> list[cell.Cell | str]:
    return [f"{one.mean_replicas:.2f}", cell.count(one.peak_replicas), f"{one.gpu_hours:,.1f}",
            wording.money(one.cost)]
