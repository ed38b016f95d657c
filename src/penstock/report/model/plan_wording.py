"""A plan in words, alike in the terminal and on the page."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from penstock.report.model import plan_certainty, wording
from penstock.report.model.plan_view import (
    CENT,
    Compared,
    Document,
    Outcome,
    accelerators_used,
    differing,
    dominated_point,
    listed,
    num_replicas,
)
from penstock.report.model.wording import Fact

ENDLESS = "∞"
ITL_P99 = ("the median over requests of the gap that 99 % of a request's gaps do not exceed, "
           "predicted and simulated alike")
FOOTER = (f"TTFT is first token minus arrival; ITL p99 is {ITL_P99}. Attainment is requests within "
          "every target divided by requests that entered. Accelerators are paid for by the hour, "
          "busy or not; power is list power.")
ESTIMATED_NOTE = ("~: by the model alone. Other numbers are what simulation left of the model's "
                  "estimate. TTFT is the model's at that number of replicas.")
NO_GAP_NOTE = ("A paced ITL has no target here: early tokens make up for late ones, so no "
              "percentile of gaps says whether it is met. Attainment does.")
WORTH_NOTE = ("One more saves: what the plan would cost less with one more than there are. Some "
              "may be idle and yet too few for the next cheaper plan.")
HEADROOM_NOTE = ("Headroom: how much faster a demand's requests may arrive before an objective is "
                 "missed in simulation; the search ends at +100 %. Used: the request rate "
                 "as a share of the throughput bound, which no schedule exceeds for long.")


def least(document: Document) -> list[str]:
    """Return a note on what no schedule undercuts, and the gap to the plan; none where the document
    has no bound."""
    found = document.get("least")
    if not found:
        return []
    gap = ceil(100.0 * (found.get("gap") or 0.0) - 1e-9)
    return [f"Proven bound: with the step times believed, no schedule keeps the objectives on "
            f"fewer than {wording.count(found.get('accelerators'))} accelerators, or for less than "
            f"{wording.money(found.get('cost_per_hour'))} an hour. {gap} % of this plan's cost "
            "is above that."]


def power(value_w: float | None) -> str:
    """Watts, or kilowatts from one upwards."""
    if value_w is None:
        return wording.ABSENT
    return wording.rate(value_w, "W") if value_w < 999.5 else wording.rate(value_w / 1000.0, "kW")


def growth(share: float | None) -> str:
    """A headroom, rounded down."""
    return wording.ABSENT if share is None else f"+{wording.percent(share, 0)}"


def error(found: Compared) -> str:
    """How far a prediction is from the simulation, relative to the simulation."""
    return wording.ABSENT if found.error is None else f"{100 * found.error:+,.0f} %"


def predicted(found: Compared) -> str:
    """A predicted latency."""
    return ENDLESS if found.endless else wording.seconds(found.predicted_s)


def replicas_of(variant: str, number: object, unmeasured: Sequence[str] = ()) -> str:
    """A number of replicas of a variant, marked where the step times of it rest on no
    measurement."""
    mark = f" ({' and '.join(unmeasured)} not measured)" if unmeasured else ""
    return f"{number} x {variant}{mark}"


def counted(replicas: Mapping[str, int] | None) -> list[str]:
    """Replicas by variant."""
    return [replicas_of(variant, number) for variant, number in (replicas or {}).items()]


def carries(candidate: Mapping[str, Any]) -> str:
    """The rate that one replica is taken to carry: simulation's where it said something, else the
    model's, marked."""
    if candidate.get("corrected") is False:
        return f"~{wording.rate(candidate.get('rate_per_s'))}"
    return wording.rate(candidate.get("believed_per_s"))


def amount(resource: str, value: float | None) -> str:
    """How much of something limited: accelerators, money by the hour or watts."""
    if resource == "cost_per_hour":
        return wording.money(value)
    return power(value) if resource == "power_w" else wording.count(value)


def resource_name(resource: str) -> str:
    """Return the name of a limited resource."""
    return {"cost_per_hour": "cost per hour", "power_w": "power"}.get(resource, resource)


def worth(price: Mapping[str, Any]) -> str:
    """Return the rate that one more would serve or, where everything is served, the saving."""
    serves = sum((price.get("serves_per_s") or {}).values())
    if serves > 0:
        return f"serves {wording.rate(serves)} more"
    saves = price.get("one_more_saves_per_hour")
    return wording.ABSENT if saves is None else f"{wording.money(saves)} per hour"


def what_if_title(found: Mapping[str, Any]) -> str:
    """The settings that a plan was made with once more."""
    return f"What if {', '.join(map(str, found.get('settings') or ()))}"


def what_if_cost(found: Mapping[str, Any]) -> str:
    """Return the cost of the plan with other settings beside this plan, and the unserved part."""
    saves = found.get("saves_per_hour") or 0.0
    change = "as much as this plan" if abs(saves) < CENT else \
        f"{wording.money(abs(saves))} {'less' if saves > 0 else 'more'}"
    missing = ", ".join(map(str, found.get("unserved") or ()))
    return (f"It would cost {wording.money(found.get('cost_per_hour'))} per hour, {change}"
            + (f"; not served in full: {missing}" if missing else "") + ".")


def plan_parts(document: Document, point: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A plan on the Pareto front by what it has else than this one: demands and their replicas."""
    if point.get("chosen"):
        return [("this plan", "")]
    if not point.get("replicas"):
        return [(str(point.get("label") or "plan"), "")]
    return [(demand, " + ".join(counted(replicas)) or "nothing")
            for demand, replicas in differing(document, point).items()] or [("this plan", "")]


def plan_lines(document: Document, point: Mapping[str, Any]) -> list[str]:
    """The same, a line for each demand."""
    return [": ".join(filter(None, part)) for part in plan_parts(document, point)]


def pareto_note(document: Document) -> str:
    """Return a note on the Pareto front, and why this plan is not on the front if so."""
    note = ("TTFT p99 is that of the slowest class by the model, each variant carrying its demand "
            "alone; only this plan was simulated. Others are told by where they differ from it.")
    return note + (" This plan is not on the front: by the model, another costs no more and "
                   "answers sooner." if dominated_point(document) is not None else "")


def used_of(used: int | None, available: int | None) -> str:
    """Accelerators in use of those there are."""
    if used is None:
        return wording.ABSENT
    return f"{used:,}" if available is None else f"{used:,} of {available:,}"


def binding(text: str | None) -> str:
    """Return the limit of a candidate's rate, for example ``interactive TTFT``."""
    words = (text or wording.ABSENT).split(" ")
    capitals = {"ttft": "TTFT", "itl": "ITL"}
    return " ".join([*words[:-1], capitals.get(words[-1], words[-1])])


def demand_verdict(demand: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Whether a demand is served in full and within its objectives, in a few words."""
    if not demand.get("replicas"):
        return False, "not served"
    if demand.get("meets") is None:
        return None, "not simulated"
    if not demand["meets"]:
        return False, "misses"
    share = float(demand.get("served_share") or 0.0)
    return (True, "in full") if share >= 1.0 - 1e-9 else (False, wording.percent(share, 1))


def trial_verdict(trial: Mapping[str, Any]) -> str:
    """Whether a trial held and, where its own attainment does not show it, why not."""
    if trial.get("meets"):
        return "holds"
    if trial.get("does_not_last"):
        return "does not last"
    return "misses with faster arrivals" if trial.get("only_faster_missed") else "misses"


def class_verdict(outcome: Outcome) -> str:
    """Whether a class met its objective with every seed."""
    if outcome.meets is None:
        return "not simulated" if outcome.served else "not served"
    return wording.verdict(outcome.meets)


def headline(document: Document) -> str:
    """Return the cost of the plan and whether the plan holds, in one sentence."""
    number = num_replicas(document)
    if not number:
        return "No demand can be served with these accelerators."
    cost = f"{wording.replicas(number)} for {wording.money(document.get('cost_per_hour'))} an hour"
    one = "s" if number == 1 else ""
    if not document.get("holds"):
        return f"{cost} still miss{'es' * bool(one)} an objective in simulation: search given up."
    demands = listed(document, "demands")
    left_out = len(listed(document, "unserved"))
    if not left_out:
        return f"{cost} meet{one} every objective in simulation."
    are = "is" if left_out == 1 else "are"
    return (f"{cost} meet{one} every objective of what is served, but {left_out:,} of "
            f"{wording.counted(len(demands), 'demand')} {are} not served in full.")


def facts(document: Document) -> tuple[Fact, ...]:
    """The few figures that stand beside the headline."""
    used, available = accelerators_used(document)
    switching = (document.get("optimum") or {}).get("switching_cost")
    once = f"and {wording.money(switching)} once, to get there" if switching else "busy or not"
    return (
        Fact("Cost per hour", wording.money(document.get("cost_per_hour"))
             + plan_certainty.cost(document), once),
        Fact("Cost per million tokens", wording.money(document.get("cost_per_million_tokens")),
             "prompt and output alike"),
        Fact("Power", power(document.get("power_w")), "list power of all accelerators used"),
        *_ownership(document.get("ownership") or {}),
        Fact("Accelerators", used_of(used, available), "in use"),
        _least_headroom(document), *([plan_certainty.fact(document)]
                                     if "holds_probability" in document else []),
        _optimum(document.get("optimum") or {}))


def _ownership(costs: Mapping[str, Any]) -> list[Fact]:
    """The costs beside the one that the plan minimises, where accelerators are owned."""
    words = {"list_cost_per_hour": ("At list prices", "per hour"),
             "cost_per_hour": ("As owned", "per hour, with energy"),
             "energy_cost_per_hour": ("Energy", "per hour, at list power")}
    return [Fact(title, wording.money(costs[key]), note) for key, (title, note) in words.items()
            if costs.get(key) is not None]


def _least_headroom(document: Document) -> Fact:
    known = [(demand["headroom"], str(demand.get("name")))
             for demand in listed(document, "demands") if demand.get("headroom") is not None]
    if not known:
        return Fact("Headroom", wording.ABSENT, "no demand is served in full")
    share, name = min(known)
    return Fact("Headroom", growth(share), f"more requests: {name}" if len(known) > 1
                else "more requests")


def _optimum(optimum: Mapping[str, Any]) -> Fact:
    gap = optimum.get("gap")
    how = str(optimum.get("method") or "")
    if gap is None:
        return Fact("Gap of the search", wording.ABSENT, how)
    # Rounded up: a gap must not look closed.
    return Fact("Gap of the search", f"{ceil(gap * 1e4 - 1e-9) / 100:g} %",
                f"{how}; proven for the rates believed" if how else "for the rates believed")


def considered(document: Document) -> str:
    """How much was looked at on the way."""
    trials = listed(document, "trials")
    held = sum(bool(trial.get("meets")) for trial in trials)
    num_demands = len(listed(document, "demands"))
    num_candidates = len(listed(document, "candidates"))
    return (f"{wording.counted(num_demands, 'demand')}, "
            f"{wording.counted(num_candidates, 'candidate')}; "
            f"{wording.counted(len(trials), 'proposal')} simulated, {held:,} held.")
