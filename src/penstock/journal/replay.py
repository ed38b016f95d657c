"""Replays a journal on a new scheduler: the same calls must give the same plans."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from penstock.core.draft_depth import DraftDepth
from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.journal.journal import read_plan, read_request
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.tiers import KvTiers, TierSpec
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.build import build_kv
from penstock.policy.schedule.drafting import Drafting
from penstock.predict.length import LengthPredictor
from penstock.registry.make import build_scheduler, schedule_options
from penstock.registry.step_times import step_time_from


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The number of equal plans, and the first difference: (step, journaled plan, replayed
    plan)."""

    num_plans: int
    mismatch: tuple[int, StepPlan, StepPlan | None] | None = None


class Amendment(NamedTuple):
    """Changes that an engine made to the latest plan; see ``AdaptableScheduler.amend``."""

    step: int
    ran: dict[int, tuple[int, int]]
    lost: frozenset[int]


class Returned(NamedTuple):
    """The KV cache of a request was returned; see ``ReplicaScheduler.returned``."""

    request_id: int


Call = Request | int | Returned | StepPlan | StepResult | Amendment | StepTimeModel


def replay(records: Iterable[Mapping[str, Any]], scheduler: AdaptableScheduler) -> ReplayReport:
    """Repeat the journaled calls, without the header, and stop at the first plan that differs.

    ``scheduler`` must be new and built like the journaled one. Raises InputError for a commit of a
    step that was never planned or is already committed.
    """
    num_plans = 0
    in_flight: dict[int, StepPlan] = {}
    for number, record in enumerate(records, 1):
        call = _read(record, number)
        now_s = record.get("now_s", 0.0)
        if isinstance(call, Request):
            scheduler.add(call, now_s)
        elif isinstance(call, int):
            scheduler.abort(call, now_s)
        elif isinstance(call, Returned):
            scheduler.returned(call.request_id)
        elif isinstance(call, StepPlan):
            got = scheduler.plan(now_s)
            if got is None or got != call:
                return ReplayReport(num_plans, (call.step, call, got))
            num_plans += 1
            in_flight[call.step] = got
        elif isinstance(call, Amendment):
            plan = _taken(in_flight, call.step, number, "amends")
            in_flight[call.step] = scheduler.amend(plan, call.ran, call.lost)
        elif isinstance(call, StepResult):
            scheduler.commit(_taken(in_flight, record["step"], number, "commits"), call, now_s)
        elif call is not None:
            scheduler.believe(call)
    return ReplayReport(num_plans)


def _taken(in_flight: dict[int, StepPlan], step: int, number: int, does: str) -> StepPlan:
    plan = in_flight.pop(step, None)
    if plan is None:
        raise InputError(f"journal record {number}: {does} step {step}, which is not in flight")
    return plan


def _read(record: Mapping[str, Any], number: int) -> Call | None:
    """Return the argument of a journaled call (for a plan its result), None for other records."""
    kind = record["kind"]
    try:
        if kind in _READERS:
            return _READERS[kind](record)
    except InputError as error:
        raise InputError(f"journal record {number}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"journal record {number}: broken {kind} record ({error!r})") from error
    return None


def _read_amendment(record: Mapping[str, Any]) -> Amendment:
    ran = {request_id: (tokens, past) for request_id, tokens, past in record["ran"]}
    return Amendment(record["step"], ran, frozenset(record["lost"]))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Call]] = {
    "add": lambda record: read_request(record["request"]),
    "abort": lambda record: int(record["request_id"]),
    "returned": lambda record: Returned(int(record["request_id"])),
    "plan": lambda record: read_plan(record["plan"]),
    "commit": lambda record: StepResult(tuple(record["finished"]), record["num_steps"]),
    "amend": _read_amendment,
    "believe": lambda record: step_time_from(record["step_time"], "step_time"),
}


def scheduler_of(header: Mapping[str, Any], step_time: StepTimeModel,
                 lengths: LengthPredictor | None = None) -> AdaptableScheduler:
    """Build the new scheduler that a journal's header describes.

    ``step_time`` is the model of step times, on which the header has the factor of the journaled
    scheduler's belief, and ``lengths`` is its belief about outputs. Raises InputError when the
    header lacks something.
    """
    try:
        schedule = header["schedule"]
        block_tokens = _count(header, "block_tokens")
        total_blocks = _count(header, "kv_tokens") // block_tokens
        prefix_caching = bool(header["prefix_caching"])
        max_in_flight = _count(header, "max_in_flight")
        factor = _factor(header)
        schedule = dict(schedule)
        policy = str(schedule.pop("policy"))
    except KeyError as error:
        raise InputError(f"journal header has no {error.args[0]!r}") from error
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError("journal header: schedule is not a mapping of options") from error
    # JSON has no tuples, and the options are compared and hashed as values.
    options = schedule_options(policy, **{k: _tuples(v) for k, v in schedule.items()})
    kv = build_kv(options, total_blocks, block_tokens, prefix_caching,
                  _tiers(header, block_tokens))
    return build_scheduler(options, biased(step_time, factor), kv, lengths, max_in_flight,
                           _drafting(header.get("drafting")),
                           adapters=AdapterStore(_count(header, "max_loras"))
                           if "max_loras" in header else None)


def _drafting(stated: Any) -> Drafting | None:
    if stated is None:
        return None
    try:
        (tokens, rows), parts = stated
        return Drafting(DraftDepth(tokens, tuple((low, high, k) for low, high, k in rows)),
                        {str(name): tuple(values) for name, values in parts.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError("journal header: drafting is no depth with parts of tokens") from error


def _tiers(header: Mapping[str, Any], block_tokens: int) -> KvTiers | None:
    """Return the empty tiers below the KV cache, None without any. Raises InputError where other
    replicas have changed a tier."""
    try:
        tiers = [TierSpec(*tier) for tier in header.get("kv_tiers", ())]
        shared = [tier.name for tier in tiers if tier.shared]
        if shared:
            raise InputError(f"journal header: the tier {shared[0]} is shared with other replicas, "
                             "so that the journal of one cannot be replayed")
        return KvTiers([tier.store(block_tokens) for tier in tiers]) if tiers else None
    except TypeError as error:
        raise InputError("journal header: kv_tiers is not a list of tiers") from error


def _count(header: Mapping[str, Any], name: str) -> int:
    value = header[name]
    if type(value) is not int or value < 1:
        raise InputError(f"journal header: {name} is {value!r}; expected a whole number from 1")
    return value


def _factor(header: Mapping[str, Any]) -> float:
    """Return 1 for journals of engines and of earlier releases, whose headers have no factor."""
    factor = header.get("step_time_factor", 1.0)
    if type(factor) not in (int, float) or not 0.0 < factor < inf:
        raise InputError(f"journal header: step_time_factor is {factor!r}; expected a positive "
                         "number")
    return float(factor)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
