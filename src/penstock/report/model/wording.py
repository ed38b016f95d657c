"""Numbers and verdicts in words, alike in the terminal and on the page."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from penstock.core.slo import Slo
    from penstock.metrics.pool_summary import Pool
    from penstock.metrics.run_summary import (
        ClassSummary,
        Fewest,
        OverallSummary,
        RunSummary,
        Sizing,
        Trial,
    )
    from penstock.metrics.transfer_summary import Transfers

ABSENT = "\N{EN DASH}"

LATENCIES = {"ttft_s": "TTFT", "itl_mean_s": "ITL mean", "itl_p99_s": "ITL p99", "tpot_s": "TPOT",
             "e2e_s": "e2e", "queue_s": "queue"}
PERCENTILES = ("p50", "p90", "p95", "p99")


def seconds(value: float | None) -> str:
    """Three significant digits, in milliseconds below one second."""
    if value is None:
        return ABSENT
    if value < 0.9995:
        return f"{_significant(value * 1000.0)} ms"
    return f"{_significant(value)} s"


def _significant(value: float, digits: int = 3) -> str:
    if value <= 0:
        return "0"
    decimals = max(0, digits - 1 - floor(log10(value)))
    text = f"{value:,.{min(decimals, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float | None, decimals: int = 2) -> str:
    """A share in per cent, rounded down: 98.996 % must not look like an attained 99 %."""
    if share is None:
        return ABSENT
    scale = 10**decimals
    return f"{floor(share * 100 * scale + 1e-9) / scale:.{decimals}f} %"


def level(percentile: float) -> str:
    """An objective's percentile as a level of attainment."""
    return f"{percentile:g} %"


def policy(name: str, settings: Mapping[str, object]) -> str:
    """A policy with its settings, as options of commands take them."""
    return ":".join((name, *(f"{key}={value}" for key, value in settings.items())))


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return ABSENT if value is None else f"{value:,.0f}"


def rate(value: float | None, unit: str = "/s") -> str:
    """A rate to three significant digits."""
    return ABSENT if value is None else f"{_significant(value)} {unit}".strip()


def energy(kwh: float | None) -> str:
    """Kilowatt-hours to three significant digits."""
    return ABSENT if kwh is None else f"{_significant(kwh)} kWh"


def carbon(kg: float | None) -> str:
    """Kilograms of CO2 to three significant digits."""
    return ABSENT if kg is None else f"{_significant(kg)} kg"


def money(value: float | None) -> str:
    """Dollars; more decimals for sums below one."""
    if value is None:
        return ABSENT
    if value < 0:
        return f"-{money(-value)}"
    if value and value < 1:
        return f"${value:,.{min(6, 2 - floor(log10(value)))}f}"
    return f"${value:,.2f}"


def probability(share: float | None) -> str:
    """A probability in whole per cent; the ends of what is known are marked as such."""
    if share is None:
        return ABSENT
    if share >= 0.949:
        return "> 95 %"
    return "< 5 %" if share <= 0.051 else f"{share:.0%}".replace("%", " %")


def ends(values: Sequence[float | None] | None) -> str:
    """Both ends of an interval of a latency."""
    return ABSENT if values is None else " to ".join(map(seconds, values))


def interval(low: float | None, high: float | None) -> str:
    """An interval of a share."""
    return ABSENT if low is None else f"{percent(low, 1)} to {percent(high, 1)}"


def target(latency: str, slo: "Slo") -> float | None:
    """The target that a latency is held against, if it has one.

    A strict pace at the 99th percentile binds the p99 of a request's gaps and a mean one its TPOT;
    at other percentiles, or paced, it binds what none of the reported latencies shows.
    """
    if latency == "tpot_s":
        return slo.itl_s if slo.itl == "mean" else None
    if latency == "itl_p99_s":
        return slo.itl_s if slo.itl == "strict" and slo.percentile == 99 else None
    return {"ttft_s": slo.ttft_s, "e2e_s": slo.e2e_s}.get(latency)


def late_target(slo: "Slo") -> float | None:
    """The share of its tokens that a request of a paced class may have late; None if not paced."""
    if slo.itl_s is None or slo.itl != "paced":
        return None
    return 1.0 - slo.percentile / 100.0


def is_late(percentile: str, share: float | None, slo: "Slo") -> bool | None:
    """Whether that percentile of requests broke its pace; None where the objective says nothing."""
    allowed = late_target(slo)
    if share is None or allowed is None or float(percentile[1:]) > slo.percentile:
        return None
    return share > allowed + 1e-9


def late_share(share: float | None) -> str:
    """A share of late tokens in per cent, rounded up: 1.004 % must not look like an allowed 1 %."""
    return ABSENT if share is None else f"{ceil(share * 1e4 - 1e-7) / 100:.4g} %"


PACED_NOTE = ("ITL paced: token n is due at arrival + TTFT target + n * ITL target; late tokens "
              "came after that.")


def is_paced(classes: "Mapping[str, ClassSummary]") -> bool:
    """Whether any class has a paced ITL target, which ``PACED_NOTE`` explains."""
    return any(late_target(entry.slo) is not None for entry in classes.values())


_TARGETS = {"unserved": "not served", "ttft_s": "TTFT", "itl_s": "ITL", "e2e_s": "e2e"}


def pace_name(slo: "Slo") -> str:
    """The name of the latency that ``itl_s`` binds."""
    return "TPOT" if slo.itl == "mean" else "ITL"


def missed_by(missed: Mapping[str, int], slo: "Slo | None" = None) -> str:
    """Return the missed targets with their numbers of requests, most first."""
    names = _TARGETS if slo is None else _TARGETS | {"itl_s": pace_name(slo)}
    counts = sorted(((number, key) for key, number in missed.items() if number),
                    key=lambda pair: -pair[0])
    return ", ".join(f"{names.get(key, key)} {count(number)}" for number, key in counts)


def is_over(percentile: str, value: float | None, slo: "Slo",
            latency: str) -> bool | None:
    """Whether a reported percentile breaks its target, ``None`` where no target binds it.

    An objective for 95 % of requests says nothing of the p99.
    """
    bound = target(latency, slo)
    if value is None or bound is None or float(percentile[1:]) > slo.percentile:
        return None
    return value > bound + 1e-9


def objective(slo: "Slo") -> str:
    """All targets of a class in one line."""
    how = "" if slo.itl == "mean" else f" {slo.itl}"
    targets = {"TTFT": (slo.ttft_s, ""), pace_name(slo): (slo.itl_s, how), "e2e": (slo.e2e_s, "")}
    parts = [f"{name} ≤ {seconds(value)}{how}" for name, (value, how) in targets.items()
             if value is not None]
    if slo.task_s is not None:
        whole = f"session ≤ {seconds(slo.task_s)} for {level(slo.percentile)} of sessions"
        return f"{', '.join(parts)} for {level(slo.percentile)} of requests, {whole}" \
            if parts else whole
    if not parts:
        return "no targets: every finished request counts"
    return f"{', '.join(parts)} for {level(slo.percentile)} of requests"


def verdict(meets: bool | None) -> str:
    """Whether a class meets its objective, in one word or two."""
    return {True: "meets", False: "misses", None: "no requests"}[meets]


def counted(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def replicas(number: int) -> str:
    """A number of replicas in words."""
    return counted(number, "replica")


_MOST_GROUPS = 3  # in a sentence


def fleet_phrase(summary: "RunSummary") -> str:
    """The replicas and pools in words, such as ``3 replicas of llama-3-8b on a100-80gb``."""
    if summary.measured:
        return str(summary.measured.load["url"])
    phrases = _group_phrases((summary.fleet or {}).get("replicas") or [])
    phrases += [_pool_phrase(pool) for pool in summary.pools]
    return " and ".join(phrases) or ("no replicas" if summary.plan else "this fleet")


def _group_phrases(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(groups) > _MOST_GROUPS:
        total = sum(int(group.get("count", 1)) for group in groups)
        return [f"{replicas(total)} in {len(groups):,} groups"]
    phrases = []
    for group in groups:
        number = int(group.get("count", 1))
        place = f" on {group['accelerator']}" if group.get("accelerator") else ""
        served = group.get("service_classes")
        said = [*([group["role"]] if group.get("role", "both") != "both" else ()), *(served or ())]
        whose = f" ({', '.join(said)})" if said else ""
        phrases.append(f"{replicas(number)} of {group.get('model', 'a model')}{place}{whose}")
    return phrases


def _pool_phrase(pool: "Pool") -> str:
    """A pool in words, such as ``3 models on 1 h100-80gb``."""
    models = pool.num_models
    return (f"{models:,} model{'' if models == 1 else 's'} on {pool.num_devices} "
            f"{pool.accelerator}")


def headline(summary: "RunSummary") -> str:
    """The outcome in one sentence."""
    verb = "Planned as" if summary.plan else "Sized to" if summary.sizing else "Served by"
    classes = summary.classes
    missed = [name for name, entry in classes.items() if entry.meets_slo is False]
    judged = [name for name, entry in classes.items() if entry.meets_slo is not None]
    if not judged:
        outcome = "no requests were received"
    elif not missed:
        outcome = ("every class meets its objective" if len(judged) > 1
                   else f"{judged[0]} meets its objective")
    elif len(missed) == len(judged) > 1:
        outcome = "every class misses its objective"
    else:
        verb_form = "misses its objective" if len(missed) == 1 else "miss their objectives"
        outcome = f"{' and '.join(missed)} {verb_form}"
    return f"{verb} {fleet_phrase(summary)}: {outcome}."


class Fact(NamedTuple):
    """A figure with its label, and what qualifies it."""

    label: str
    value: str
    detail: str


def facts(summary: "RunSummary") -> tuple[Fact, ...]:
    """The few figures that stand beside the headline."""
    overall = summary.overall
    low, high = overall.attainment_low, overall.attainment_high
    reached = (
        Fact("Attainment", percent(overall.attainment),
             "" if low is None else f"95 % CI {interval(low, high)}"),
        Fact("Goodput", rate(overall.goodput_requests_per_s), "requests within every target"))
    if summary.measured:
        ttft, e2e = overall.latency.ttft_s, overall.latency.e2e_s
        return (*reached,
                Fact("Output", rate(overall.output_tokens_per_s, "tokens/s"),
                     f"{count(overall.output_tokens)} tokens"),
                Fact("Median TTFT", seconds(ttft.p50), f"p99 {seconds(ttft.p99)}"),
                Fact("Median e2e", seconds(e2e.p50), f"p99 {seconds(e2e.p99)}"))
    cost = overall.cost
    return (
        *reached,
        Fact("Cost per hour", money(cost.per_hour), f"{money(cost.total)} for this run"),
        Fact("Cost per million tokens", money(cost.per_million_tokens),
             "prompt and output alike"),
        Fact("Busy", percent(overall.busy, 1), "time not idle"),
        *offered(overall),
    )


def offered(overall: "OverallSummary") -> tuple[Fact, ...]:
    """The arrivals as a share of the throughput bound, where the bound is known."""
    bound = overall.bound
    if bound is None or bound.throughput_bound_per_s is None:
        return ()
    return (Fact("Arrivals against the throughput bound", percent(bound.bound_share, 0),
                 f"no schedule exceeds {rate(bound.throughput_bound_per_s)}"),)


def arrivals(summary: "RunSummary") -> str:
    """How many requests came, over what time and at what rate; runs of earlier versions do not
    know the time."""
    overall, over_s = summary.overall, summary.arrival_window_s
    came = counted(overall.received, "request")
    if over_s is None:
        return f"{came} over {seconds(summary.window_s)}"
    unsent = f", {count(summary.unsent)} were not sent before the end" if summary.unsent else ""
    return (f"{came} arrived over {seconds(over_s)} ({rate(overall.received_requests_per_s)})"
            f"{unsent}; goodput, cost and busy time are over {seconds(summary.window_s)}, until "
            f"the last token{_transfers(summary.transfers)}")


def _transfers(found: "Transfers | None") -> str:
    if found is None:
        return ""
    if found.mean_s is None:
        return "; no prompt moved to another replica"
    return (f"; {counted(found.num_transfers, 'prompt')} moved to the replicas that decoded them, "
            f"{_significant(found.num_bytes / 1e9)} GB, in {seconds(found.mean_s)} on average and "
            f"{seconds(found.longest_s)} at most")


def sizing_variable(sizing: "Sizing") -> str:
    """Return the name of the quantity that the sizing search varied."""
    names = {"num_replicas": "replicas", "rate_per_s": "requests per second"}
    return names.get(sizing.variable, sizing.variable)


def trial_missed(trial: "Trial") -> str:
    """Return the classes that a trial failed, with the missed targets."""
    return "; ".join(f"{name}: {missed_by(missed)}"
                     for name, missed in (trial.missed or {}).items())


def sizing_limits(sizing: "Sizing") -> list[str]:
    """Why fewer replicas than the fewest tried were not, a sentence per group of replicas."""
    lines = []
    for limit in sizing.limits:
        fewer = limit.fewest - 1
        if not fewer:
            continue
        were = "were" if fewer > 1 else "was"
        lines.append(f"{'Up to ' * (fewer > 1)}{replicas(fewer)} {were} not tried: "
                     f"{_why_not(limit, fewer)}.")
    return lines


def _why_not(limit: "Fewest", fewer: int) -> str:
    if limit.reason != "throughput bound":
        return f"the fleet file asks for at least {limit.fewest}"
    whose = f" of {' and '.join(limit.classes)}" if limit.classes else ""
    each_per_s = limit.replica_rate_per_s
    most = rate(None if each_per_s is None else fewer * each_per_s)
    return (f"below the throughput bound; {replicas(fewer)} cannot carry "
            f"{rate(limit.rate_per_s, 'requests/s')}{whose}, at most {most}".replace(" /s", "/s"))


def sampled(stands_for: int) -> list[str]:
    """Return the note on requests of which each stands for several, none for all requests."""
    return [] if stands_for == 1 else [
        f"From one of every {stands_for:,} requests; numbers are scaled to all."]
