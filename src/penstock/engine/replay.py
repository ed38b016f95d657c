"""Feeds a journal to a fresh scheduler: the same calls must bring the same plans."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.engine.journal import read_plan, read_request
from penstock.perf.protocol import StepTimeModel
from penstock.policy.kv.counting import CountingKv
from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.build import build_scheduler
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.predict.length import LengthPredictor


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How many plans agreed, and the first that did not: (step, journaled plan, plan got)."""

    num_plans: int
    mismatch: tuple[int, StepPlan, StepPlan | None] | None = None


def replay(records: Iterable[Mapping[str, Any]], scheduler: ReplicaScheduler) -> ReplayReport:
    """Make the journaled calls, header ignored, and stop at the first plan that differs.

    ``scheduler`` must be fresh and made as the journaled one was. Raises InputError for a commit
    whose step was never planned or is committed already.
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
        elif isinstance(call, StepPlan):
            got = scheduler.plan(now_s)
            if got is None or got != call:
                return ReplayReport(num_plans, (call.step, call, got))
            num_plans += 1
            in_flight[call.step] = got
        elif isinstance(call, StepResult):
            plan = in_flight.pop(record["step"], None)
            if plan is None:
                raise InputError(f"journal record {number}: commits step {record['step']}, which "
                                 "is not in flight")
            scheduler.commit(plan, call, now_s)
    return ReplayReport(num_plans)


def _read(record: Mapping[str, Any], number: int) -> Request | int | StepPlan | StepResult | None:
    """The argument of a journaled call: add's, abort's, plan's answer, commit's; None else."""
    kind = record["kind"]
    try:
        if kind == "add":
            return read_request(record["request"])
        if kind == "abort":
            return int(record["request_id"])
        if kind == "plan":
            return read_plan(record["plan"])
        if kind == "commit":
            return StepResult(tuple(record["finished"]), record["num_steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"journal record {number}: broken {kind} record ({error!r})") from error
    return None


def scheduler_of(header: Mapping[str, Any], step_time: StepTimeModel,
                 lengths: LengthPredictor | None = None) -> ReplicaScheduler:
    """The fresh scheduler that a journal's header describes.

    ``step_time`` and ``lengths`` are the beliefs that the journaled scheduler had. Raises
    InputError when the header lacks something.
    """
    try:
        schedule = header["schedule"]
        block_tokens = _count(header, "block_tokens")
        total_blocks = _count(header, "kv_tokens") // block_tokens
        prefix_caching = bool(header["prefix_caching"])
        max_in_flight = _count(header, "max_in_flight")
        schedule = dict(schedule)
        policy = str(schedule.pop("policy"))
    except KeyError as error:
        raise InputError(f"journal header has no {error.args[0]!r}") from error
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError("journal header: schedule is not a mapping of options") from error
    # JSON has no tuples, and the options are compared and hashed as values.
    options = scheduler_options(policy, **{k: _tuples(v) for k, v in schedule.items()})
    kv: KvAllocator = (PrefixKv if prefix_caching else CountingKv)(total_blocks, block_tokens)
    return build_scheduler(options, step_time, kv, lengths, max_in_flight)


def _count(header: Mapping[str, Any], name: str) -> int:
    value = header[name]
    if type(value) is not int or value < 1:
        raise InputError(f"journal header: {name} is {value!r}; expected a whole number from 1")
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
