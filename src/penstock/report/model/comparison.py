"""Policies side by side: means over seeds by class, and differences to the first policy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.core.slo import Slo
from penstock.metrics.record import read_record
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.multiplexing import SHARES
from penstock.report.model.table import Block, Cell, Column, Note, Table, table

Figures = Mapping[str, Mapping[str, Any]]


def comparison_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    """Tables of what ``penstock compare --json`` prints: overall, by class, and differences."""
    policies, num_seeds = document["policies"], len(document["seeds"])
    slos = {name: read_record(Slo, entry["slo"])
            for name, entry in policies[0]["runs"][0]["classes"].items()}
    yield _overall(policies, list(slos), num_seeds)
    for name, slo in slos.items():
        yield _of_class(policies, name, slo)
    if "sessions.time_mean_s" in policies[0]["figures"]:
        yield _sessions(policies)
    if policies[0].get("turns"):
        yield _pools(policies)
    if len(policies) > 1:
        yield _differences(policies, slos, num_seeds)
    if any(map(_is_paced, slos.values())):
        yield Note((wording.PACED_NOTE,))


def _overall(policies: Sequence[Mapping[str, Any]], classes: Sequence[str],
             num_seeds: int) -> Table:
    seeds = f"{num_seeds} seed{'' if num_seeds == 1 else 's'}"
    rows = []
    for policy in policies:
        figures: Figures = policy["figures"]
        goodput, cost = figures["goodput_requests_per_s"], figures["cost_per_met_request"]
        rows.append((_label(policy), _percent(figures["attainment"]),
                     *(_percent(figures[f"{name}.attainment"]) for name in classes),
                     _counted(wording.rate(goodput["mean"]), goodput),
                     _counted(wording.money(cost["mean"]), cost)))
    return table(f"Policies on the same requests, mean of {seeds}", [
        "policy", "attainment", *(Column(name, 1) for name in classes),
        Column("goodput", 2), Column("cost per request within targets", 3)], rows, keys=1)


def _sessions(policies: Sequence[Mapping[str, Any]]) -> Table:
    """Times of sessions as a whole, with differences to the first policy."""
    base = policies[0]["label"]
    rows = []
    for policy in policies:
        figures: Figures = policy["figures"]
        times = [figures[f"sessions.{name}"] for name in ("time_mean_s", "time_s.p50",
                                                          "time_s.p99")]
        rows.append((_label(policy), _percent(figures["sessions.attainment"]),
                     *(_counted(wording.seconds(one["mean"]), one) for one in times),
                     _time(times[0]), _time(times[2])))
    return table("Sessions, from the first arrival to the last token", [
        "policy", "attainment", "mean", Column("p50", 2), "p99",
        Column(f"mean less {base}'s", 1), Column(f"p99 less {base}'s", 1)], rows, keys=1,
        notes=["Only finished sessions have a time; all that began are in the attainment."])


def _pools(policies: Sequence[Mapping[str, Any]]) -> Table:
    """Means over seeds of the devices that models share."""
    return table("Devices of model multiplexing", [
        "policy", Column("pool", left=True), "loads", Column("load mean", 2),
        Column("batches", 2), Column("mean batch", 1), "loading", "computing",
        Column("idle", 1)], [
        (_label(policy), entry["name"], wording.rate(pool["loads"]["mean"], ""),
         wording.seconds(pool["load_mean_s"]["mean"]), wording.rate(pool["batches"]["mean"], ""),
         wording.rate(pool["mean_batch"]["mean"], ""),
         *(wording.percent(pool[share]["mean"], 1) for share in SHARES))
        for policy in policies for pool, entry in zip(
            policy["turns"], policy["runs"][0]["multiplexing"], strict=True)], keys=2)


def _of_class(policies: Sequence[Mapping[str, Any]], name: str, slo: Slo) -> Table:
    """Attainment and latencies of one class, its p99s marked where they break a target."""
    pace, key = _pace(slo)
    return table(f"{name}: {wording.objective(slo)}", [
        "policy", "attainment", Column("TTFT p50", 2), "TTFT p99",
        Column(f"{pace} p50", 3), f"{pace} p99", Column("e2e p50", 2), "e2e p99"],
        [(_label(policy), _percent(policy["figures"][f"{name}.attainment"]),
          *(_latency(policy["figures"], name, latency, q, slo)
            for latency in ("ttft_s", key, "e2e_s") for q in ("p50", "p99")))
         for policy in policies], keys=1)


def _latency(figures: Figures, name: str, key: str, percentile: str, slo: Slo) -> Cell:
    found = figures[f"{name}.{key}.{percentile}"]
    if key == "late_token_share":
        over = wording.is_late(percentile, found["mean"], slo)
        return cell.judged(_counted(wording.late_share(found["mean"]), found), over)
    over = wording.is_over(percentile, found["mean"], slo, key)
    return cell.judged(_counted(wording.seconds(found["mean"]), found), over)


def _differences(policies: Sequence[Mapping[str, Any]], slos: Mapping[str, Slo],
                 num_seeds: int) -> Table:
    how = f"mean of {num_seeds} paired seeds ± half of its 95 % interval" if num_seeds > 1 else \
        "one seed, so without an interval"
    kinds = {_pace(slo)[0] for slo in slos.values()}
    return table(f"Differences to {policies[0]['label']}: {how}", [
        Column("policy", left=True), "attainment", "TTFT p99",
        Column(" or ".join(sorted(kinds)) + ("" if "ITL p99" in kinds else " p99"), 1),
        Column("e2e p99", 1)], groups=[
        cell.group([_difference(policy, name, _pace(slo)[1]) for policy in policies[1:]],
                   name) for name, slo in slos.items()], keys=2, by="class")


def _difference(policy: Mapping[str, Any], name: str, key: str) -> tuple[str, ...]:
    figures: Figures = policy["figures"]
    pace = (_points if key == "late_token_share" else _time)(figures[f"{name}.{key}.p99"])
    return (_label(policy), _points(figures[f"{name}.attainment"]),
            _time(figures[f"{name}.ttft_s.p99"]), pace, _time(figures[f"{name}.e2e_s.p99"]))


def _is_paced(slo: Slo) -> bool:
    return wording.late_target(slo) is not None


def _pace(slo: Slo) -> tuple[str, str]:
    """The name and the key of the latency that shows how a class keeps its pace."""
    if _is_paced(slo):
        return "late tokens", "late_token_share"
    return ("TPOT", "tpot_s") if slo.itl == "mean" else ("ITL p99", "itl_p99_s")


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
