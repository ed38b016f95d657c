"""The law of the emulated engine: every token at the moment that the plain simulator gives it."""

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.engines.emulated.clock import EngineClock
from penstock.engines.emulated.engine import EmulatedEngine
from penstock.engines.server.stream import RefusedError
from penstock.journal.journal import Journal
from penstock.journal.replay import replay, scheduler_of
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from support.adapter_cases import ROOMS, adapted, store_of
from support.fake_clock import FakeLoop, play, settle
from support.reference_driver import Trace, run_reference
from support.scaled_examples import unit_examples
from support.scheduler_runs import header, make_scheduler, step_by_step
from support.strategies import EVIDENCE, SERVICE_CLASSES, Case, cases

STEP_TIME = LinearStepTime(0.01, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)


@dataclass
class Seen:
    """What the clients of an emulated engine saw; times in picoseconds."""

    scheduler: ReplicaScheduler
    token_ps: dict[int, list[int]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    ended_early: dict[int, str] = field(default_factory=dict)
    blamed: list[int] = field(default_factory=list)
    journal: bytes = b""
    lags_s: list[float] = field(default_factory=list)


def emulate(case: Case, speed: float = 1.0, late_s=lambda: 0.0,
            adapters: AdapterStore | None = None) -> Seen:
    """The case on an emulated engine, in no time at all."""
    return asyncio.run(_emulate(case, speed, late_s, adapters))


async def _emulate(case: Case, speed: float, late_s, adapters: AdapterStore | None) -> Seen:
    loop, stream, tasks = FakeLoop(late_s), BytesIO(), []
    seen = Seen(make_scheduler(case, adapters))
    room = {} if adapters is None else {"max_loras": adapters.max_loras}
    engine = EmulatedEngine(seen.scheduler, StepClock(case.step_time), EngineClock(loop, speed),
                            journal=Journal(stream, header(case) | room), adapters=adapters)

    async def client(request: Request) -> None:
        number = request.request_id
        try:
            tokens = await engine.submit(request, case.output_tokens[number])
        except RefusedError as error:
            seen.refused[number] = str(error)
            seen.blamed += [number] if error.final else []
            return
        try:
            async for token in tokens:
                assert token.number == len(seen.token_ps.setdefault(number, []))
                seen.token_ps[number].append(to_ps(token.time_s))
                seen.lags_s.append(engine.lag_s)
                if token.finish_reason:
                    seen.reasons[number] = token.finish_reason
        except RefusedError as error:
            seen.ended_early[number] = str(error)
            seen.blamed += [number] if error.final else []

    async def leave(number: int) -> None:
        engine.cancel(number)

    def start(coroutine, argument) -> None:
        tasks.append(asyncio.create_task(coroutine(argument)))

    calls = [(r.arrival_s, 0, partial(start, client, r)) for r in case.requests]
    calls += [(time_s, 1, partial(start, leave, number)) for time_s, number in case.aborts]
    running = asyncio.create_task(engine.run())
    await play(loop, [(time_s / speed, call) for time_s, _, call in
                      sorted(calls, key=lambda call: call[:2])])
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.gather(*tasks)
    seen.journal = stream.getvalue()
    return seen


def on_the_clock(case: Case) -> Case:
    """The case with every moment a whole number of picoseconds, as the engine stamps them."""
    return replace(
        case, aborts=tuple((to_ps(time_s) / PS_PER_S, number) for time_s, number in case.aborts),
        requests=tuple(r._replace(arrival_s=to_ps(r.arrival_s) / PS_PER_S) for r in case.requests))


def assert_same(case: Case, seen: Seen, trace: Trace | None = None) -> None:
    trace = trace or step_by_step(case)
    assert seen.token_ps == {number: times for number, times in trace.token_ps.items() if times}
    assert seen.refused == trace.refused
    assert sorted(seen.blamed) == sorted(seen.refused)
    shed = {number: reason for number, reason in seen.ended_early.items()
            if number in trace.shed}
    assert shed == trace.shed
    assert set(seen.ended_early) - set(shed) == trace.aborted
    seen.scheduler.check_integrity()


@unit_examples(300)
@given(cases(aborts=True))
def test_tokens_come_when_the_plain_simulator_says(case: Case) -> None:
    case = on_the_clock(case)
    assert_same(case, emulate(case))


@unit_examples(200)
@given(adapted(cases(aborts=True)), ROOMS)
def test_so_they_come_with_adapters(case: Case, room: tuple[int, int]) -> None:
    case = on_the_clock(case)
    real, plain = store_of(room), store_of(room)
    trace = run_reference(make_scheduler(case, plain), StepClock(case.step_time), case.requests,
                          case.output_tokens, aborts=case.aborts, adapters=plain)
    seen = emulate(case, adapters=real)
    assert_same(case, seen, trace)
    assert (real.num_fetches, real.num_copies, real.loaded_ps) == (
        plain.num_fetches, plain.num_copies, plain.loaded_ps)
    assert list(real.device) == list(plain.device)
    records = [orjson.loads(line) for line in seen.journal.splitlines()]
    assert replay(records, scheduler_of(records[0], case.step_time)).mismatch is None


@unit_examples(200)
@given(cases(aborts=True), st.integers(0, 2**32), st.sampled_from((0.001, 0.1, 3.0)))
def test_late_wake_ups_change_nothing(case: Case, seed: int, most_s: float) -> None:
    """However late the event loop is, steps neither drift nor know of what comes after them."""
    case, random = on_the_clock(case), Random(seed)
    assert_same(case, emulate(case, late_s=lambda: random.uniform(0.0, most_s)))


@unit_examples(60)
@given(cases(), st.sampled_from((0.5, 2.0, 64.0)))
def test_speed_changes_the_wall_and_not_the_engine(case: Case, speed: float) -> None:
    case = on_the_clock(case)
    assert_same(case, emulate(case, speed))


@unit_examples(150)
@given(cases(aborts=True))
def test_its_journal_replays(case: Case) -> None:
    records = [orjson.loads(line) for line in emulate(case).journal.splitlines()]
    report = replay(records, scheduler_of(records[0], case.step_time))
    assert report.mismatch is None
    assert report.num_plans == sum(record["kind"] == "plan" for record in records)


def simple(*requests: Request, output_tokens=None, aborts=(), **options) -> Case:
    options = {"chunk_tokens": 64, **options}
    return Case(scheduler_options("sarathi", **options), STEP_TIME, 16, 100, prefix_caching=False,
                requests=requests, aborts=aborts,
                output_tokens=output_tokens or {r.request_id: r.max_tokens for r in requests})


def asked(number: int, arrival_s: float = 0.0, prompt: int = 40, most: int = 4) -> Request:
    return Request(number, arrival_s, prompt, most, SERVICE_CLASSES[0])


def test_the_end_of_a_step_is_its_start_and_its_duration() -> None:
    seen = emulate(simple(asked(0)))
    # 40 prompt tokens take 10 ms and 0.1 ms each, a decode 10 ms.
    assert seen.token_ps[0] == [to_ps(s) for s in (0.014, 0.024, 0.034, 0.044)]


def test_an_answer_ends_for_a_reason() -> None:
    seen = emulate(simple(asked(0), asked(1), output_tokens={0: 4, 1: 3}))
    assert seen.reasons == {0: "length", 1: "stop"}


def test_a_late_event_loop_is_told_of() -> None:
    assert emulate(simple(asked(0))).lags_s == [0.0] * 4
    # One wake-up finds all four steps over.
    assert emulate(simple(asked(0)), late_s=lambda: 0.25).lags_s == pytest.approx([0.25] * 4)


def test_a_client_that_leaves_gives_its_kv_back() -> None:
    seen = emulate(simple(asked(0, most=100), asked(1, most=3), aborts=((0.03, 0),)))
    assert seen.ended_early == {0: "the request was cancelled"}
    assert len(seen.token_ps[1]) == 3
    assert seen.scheduler.kv_used_tokens == 0
    assert not seen.scheduler.has_work()


def test_what_can_never_fit_is_refused_with_a_reason() -> None:
    seen = emulate(simple(asked(0, prompt=5000), asked(1)))
    assert "exceed the KV cache" in seen.refused[0]
    assert list(seen.token_ps) == [1]


def engine_on(loop: FakeLoop) -> EmulatedEngine:
    return EmulatedEngine(make_scheduler(simple()), StepClock(STEP_TIME), EngineClock(loop))


def test_a_stopped_engine_refuses_what_is_there_and_what_comes() -> None:
    async def run() -> None:
        engine = engine_on(FakeLoop())
        running = asyncio.create_task(engine.run())
        tokens = await engine.submit(asked(0), 4)
        waiting = asyncio.create_task(tokens.some())
        await settle()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        with pytest.raises(RefusedError, match="the engine has stopped"):
            await waiting
        with pytest.raises(RefusedError, match="the engine has stopped"):
            await engine.submit(asked(1), 4)

    asyncio.run(run())


def test_a_client_may_leave_before_it_is_heard() -> None:
    async def run() -> EmulatedEngine:
        engine = engine_on(FakeLoop())
        waiting = asyncio.create_task(engine.submit(asked(0), 4))
        await settle()  # nobody runs the engine yet
        assert engine.num_live == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        running = asyncio.create_task(engine.run())
        await settle()
        running.cancel()
        return engine

    engine = asyncio.run(run())
    assert engine.num_live == 0
    assert not engine.scheduler.has_work()


def test_to_cancel_what_has_ended_does_nothing() -> None:
    seen = emulate(simple(asked(0), aborts=((1.0, 0), (1.0, 7))))
    assert len(seen.token_ps[0]) == 4
    assert b'"abort"' not in seen.journal
