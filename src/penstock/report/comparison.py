"""Policies side by side: means over seeds by class, and differences to the first policy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.report import wording
from penstock.report.cells import footnote, marked
from penstock.report.fitting import Column, FittingTable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Figures = Mapping[str, Mapping[str, Any]]


def comparison_tables(document: Mapping[str, Any]) -> "list[RenderableType]":
    """Tables of what ``penstock compare --json`` prints: overall, by class, and differences."""
    policies, num_seeds = document["policies"], len(document["seeds"])
    classes = policies[0]["runs"][0]["classes"]
    tables: list[RenderableType] = [_overall(policies, list(classes), num_seeds)]
    tables += [_of_class(policies, name, entry["slo"]) for name, entry in classes.items()]
    if policies[0].get("turns"):
        tables.append(_turns(policies))
    if len(policies) > 1:
        tables.append(_differences(policies, classes, num_seeds))
    if wording.is_paced(classes):
        tables.append(footnote(wording.PACED_NOTE))
    return tables


def _overall(policies: Sequence[Mapping[str, Any]], classes: Sequence[str],
             num_seeds: int) -> FittingTable:
    seeds = f"{num_seeds} seed{'' if num_seeds == 1 else 's'}"
    table = FittingTable(f"Policies on the same requests, mean of {seeds}", [
        Column("policy"), Column("attainment"), *(Column(name, 1) for name in classes),
        Column("goodput", 2), Column("cost per request within targets", 3)], keys=1)
    for policy in policies:
        figures: Figures = policy["figures"]
        table.add_row(
            _label(policy), _percent(figures["attainment"]),
            *(_percent(figures[f"{name}.attainment"]) for name in classes),
            _counted(wording.rate(figures["goodput_requests_per_s"]["mean"]),
                     figures["goodput_requests_per_s"]),
            _counted(wording.money(figures["cost_per_met_request"]["mean"]),
                     figures["cost_per_met_request"]))
    return table


def _turns(policies: Sequence[Mapping[str, Any]]) -> FittingTable:
    """Return the table of devices that models take turns on."""
    table = FittingTable("Devices of model multiplexing", [
        Column("policy"), Column("pool", left=True), Column("loads"), Column("load mean", 2),
        Column("batches", 2), Column("mean batch", 1), Column("loading"), Column("computing"),
        Column("idle", 1)], keys=2)
    for policy in policies:
        for pool, entry in zip(policy["turns"], wording.pools(policy["runs"][0]), strict=True):
            table.add_row(
                _label(policy), entry["name"], wording.rate(pool["loads"]["mean"], ""),
                wording.seconds(pool["load_mean_s"]["mean"]),
                wording.rate(pool["batches"]["mean"], ""),
                wording.rate(pool["mean_batch"]["mean"], ""),
                *(wording.percent(pool[name]["mean"], 1) for name in (
                    "loading_share", "computing_share", "idle_share")))
    return table


def _of_class(policies: Sequence[Mapping[str, Any]], name: str,
              slo: Mapping[str, Any]) -> FittingTable:
    """Attainment and latencies of one class, its p99s marked where they break a target."""
    pace = "late tokens" if _is_paced(slo) else "ITL p99"
    table = FittingTable(f"{name}: {wording.objective(slo)}", [
        Column("policy"), Column("attainment"), Column("TTFT p50", 2), Column("TTFT p99"),
        Column(f"{pace} p50", 3), Column(f"{pace} p99"), Column("e2e p50", 2), Column("e2e p99")],
        keys=1)
    for policy in policies:
        figures: Figures = policy["figures"]
        cells = [_latency(figures, name, key, q, slo)
                 for key in ("ttft_s", _pace_key(slo), "e2e_s") for q in ("p50", "p99")]
        table.add_row(_label(policy), _percent(figures[f"{name}.attainment"]), *cells)
    return table


def _latency(figures: Figures, name: str, key: str, percentile: str,
             slo: Mapping[str, Any]) -> "Text":
    found = figures[f"{name}.{key}.{percentile}"]
    if key == "late_token_share":
        over = wording.is_late(percentile, found["mean"], slo)
        return marked(_counted(wording.late_share(found["mean"]), found), over)
    over = wording.is_over(percentile, found["mean"], slo, key)
    return marked(_counted(wording.seconds(found["mean"]), found), over)


def _differences(policies: Sequence[Mapping[str, Any]], classes: Mapping[str, Any],
                 num_seeds: int) -> FittingTable:
    how = f"mean of {num_seeds} paired seeds ± half of its 95 % interval" if num_seeds > 1 else \
        "one seed, so without an interval"
    kinds = {"late tokens" if _is_paced(entry["slo"]) else "ITL p99" for entry in classes.values()}
    table = FittingTable(f"Differences to {policies[0]['label']}: {how}", [
        Column("class"), Column("policy", left=True), Column("attainment"), Column("TTFT p99"),
        Column(" or ".join(sorted(kinds)) + (" p99" if kinds == {"late tokens"} else ""), 1),
        Column("e2e p99", 1)], keys=2)
    for name, entry in classes.items():
        for place, policy in enumerate(policies[1:]):
            figures: Figures = policy["figures"]
            table.add_row(
                "" if place else name, _label(policy), _points(figures[f"{name}.attainment"]),
                _time(figures[f"{name}.ttft_s.p99"]),
                _points(figures[f"{name}.late_token_share.p99"]) if _is_paced(entry["slo"])
                else _time(figures[f"{name}.itl_p99_s.p99"]), _time(figures[f"{name}.e2e_s.p99"]))
        table.add_section()
    return table


def _is_paced(slo: Mapping[str, Any]) -> bool:
    return wording.late_target(slo) is not None


def _pace_key(slo: Mapping[str, Any]) -> str:
    return "late_token_share" if _is_paced(slo) else "itl_p99_s"


def _label(policy: Mapping[str, Any]) -> str:
    """The policy, its settings below it."""
    return str(policy["label"]).replace(":", "\n  ")


def _percent(found: Mapping[str, Any]) -> str:
    return _counted(wording.percent(found["mean"]), found)


def _counted(text: str, found: Mapping[str, Any]) -> str:
    """With the number of seeds that have a value, where some have none."""
    known, every = found["num_known"], found["num_seeds"]
    return text if known == every or every == 1 else f"{text} ({known} of {every})"


def _points(found: Mapping[str, Any]) -> str:
    """A difference of shares, in percentage points."""
    change: Mapping[str, Any] = found["difference"]
    if change["mean"] is None:
        return _counted(wording.ABSENT, change)
    text = f"{100 * change['mean']:+.2f}"
    if change["half_width"] is not None:
        text += f" ± {100 * change['half_width']:.2f}"
    return _counted(f"{text} pt", change)


def _time(found: Mapping[str, Any]) -> str:
    change: Mapping[str, Any] = found["difference"]
    if change["mean"] is None:
        return _counted(wording.ABSENT, change)
    text = f"{'-' if change['mean'] < 0 else '+'}{wording.seconds(abs(change['mean']))}"
    if change["half_width"] is not None:
        text += f" ± {wording.seconds(change['half_width'])}"
    return _counted(text, change)
