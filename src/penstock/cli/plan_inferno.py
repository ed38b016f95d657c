"""A plan of an Inferno bundle on the command line: settings, tables, files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.console import note, print_json, print_tables
from penstock.cli.exits import MISSED, OK
from penstock.core.errors import InputError, nearest
from penstock.published.inferno.change import scale_capacity
from penstock.published.inferno.doubts import doubts
from penstock.published.inferno.export import plan_document, solution
from penstock.published.inferno.read import read_bundle
from penstock.published.inferno.solve import SOLVERS, InfernoPlan, Settings, settings_of, solve
from penstock.published.inferno.values import POLICIES, System

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """Options of the command line; None is the bundle's own option."""

    solver: str | None = None
    saturation: str | None = None
    delayed: bool | None = None
    capacity_factor: float = 1.0
    time_limit_s: float | None = None


def plan_bundle(path: Path, request: Request, out: Path | None, as_json: bool) -> int:
    """Plan, print and keep; the exit status."""
    system = read_bundle(path)
    chosen = settings(system, request)
    for doubt in doubts(system):
        note(f"note: {doubt}")
    plan = _planned(scale_capacity(system, request.capacity_factor), chosen, out)
    if as_json:
        print_json(plan_document(plan))
    else:
        print_tables(tables(plan, str(path)))
    if out is not None:
        note(f"files in {out}")
    return OK if plan.complete else MISSED


def settings(system: System, request: Request) -> Settings:
    """The bundle's options with the command line's in their place. Raises InputError."""
    own = settings_of(system.options)
    delayed = own.delayed_best_effort if request.delayed is None else request.delayed
    return replace(
        own, solver=_one_of("--solver", request.solver, SOLVERS) or own.solver,
        saturation_policy=_one_of("--saturation", request.saturation, POLICIES)
        or own.saturation_policy, delayed_best_effort=delayed, time_limit_s=request.time_limit_s)


def _one_of(option: str, name: str | None, valid: "Sequence[Any]") -> Any:
    """The valid name that is meant, whatever its case."""
    if name is None:
        return None
    for candidate in valid:
        if candidate.lower() == name.lower():
            return candidate
    raise InputError(f"{option} {name!r}{nearest(name, valid)}")


def _planned(system: System, chosen: Settings, out: Path | None) -> InfernoPlan:
    """The plan, and its files where a folder is named; a folder of others is refused beforehand."""
    if out is None:
        return solve(system, chosen)
    from penstock.report.run_files import staged

    with staged(out, "plan of a bundle") as staging:
        plan = solve(system, chosen)
        write_plan(staging, plan)
    return plan


def write_plan(folder: Path, plan: InfernoPlan) -> None:
    """``plan.json`` with everything, ``solution-data.json`` as Inferno writes it."""
    from penstock.report.files import write_summary
    from penstock.report.run_files import PLAN, SOLUTION

    write_summary(folder / PLAN, plan_document(plan))
    write_summary(folder / SOLUTION, solution(plan))


def tables(plan: InfernoPlan, title: str) -> list[Any]:
    """Allocations, who is left out, cards, and the figures of the solution."""
    from penstock.report.model.table import table

    shown: list[Any] = [table(
        f"Plan of {title}", ("server", "accelerator", "replicas", "batch", "cents/h", "ITL ms",
                             "target", "TTFT ms", "target", ""),
        [row for name in sorted(plan.parts) for row in _rows(plan, name)])]
    if plan.unserved:
        shown.append(table("Not served", ("server", "why"), sorted(plan.unserved.items())))
    if plan.system.capacity is not None:
        shown.append(table("Cards", ("pool", "used", "available"), [
            (pool, used, "any" if plan.settings.solver == "unlimited"
             else plan.system.capacity.get(pool, 0))
            for pool, used in sorted(plan.used_devices.items())]))
    return [*shown, _verdict(plan)]


def _rows(plan: InfernoPlan, name: str) -> "list[Sequence[object]]":
    server = plan.system.servers[name]
    target = plan.system.service_classes[server.service_class].targets[server.model]
    rows: list[Sequence[object]] = []
    for part in plan.parts[name]:
        note = "▲ saturated" if name in plan.saturated else "✓"
        rows.append((name if not rows else "", part.accelerator or "none", part.num_replicas,
                     part.max_batch, f"{part.cost_cents_per_hour:g}", f"{part.itl_ms:.1f}",
                     _target(target.itl_ms), f"{part.ttft_ms:.1f}", _target(target.ttft_ms),
                     note if not rows else ""))
    return rows


def _target(value: float | None) -> str:
    return f"{value:g}" if value else "-"


def _verdict(plan: InfernoPlan) -> str:
    parts = [f"{plan.settings.solver}: {plan.status}",
             f"total {plan.total_cost:,.10g} cents/h (${plan.total_cost / 100.0:,.2f}/h)",
             f"{len(plan.parts)} of {len(plan.system.servers)} served",
             f"{len(plan.saturated)} saturated"]
    if plan.gap is not None:
        parts.append(f"objective {plan.objective:,.10g}, bound {plan.bound:,.10g}, "
                     f"gap {plan.gap:.2%}")
    return "   ".join([*parts, f"{plan.time_s:.2f} s"])
