"""Steering a scheduler on a clock: order of steps, plans without work, what is learnt."""

from io import BytesIO
from itertools import count

import orjson
import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.calibrate import GUESS, Calibrator
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.journal.journal import Journal
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler

LATE = ServiceClass("late", Slo(ttft_s=0.001))


def driver(stream: BytesIO | None = None, calibrator: Calibrator | None = None, *,
           max_in_flight: int = 1, **knobs: object) -> EmbeddedScheduler:
    scheduler = build_scheduler(scheduler_options("penstock", **knobs), GUESS,
                                CountingKv(100, 16), max_in_flight=max_in_flight)
    ticks = count()
    journal = Journal(stream, {}) if stream is not None else None
    return EmbeddedScheduler(scheduler, lambda: next(ticks) / 10, journal, calibrator)


def kinds(stream: BytesIO) -> list[str]:
    return [orjson.loads(line)["kind"] for line in stream.getvalue().splitlines()]


def test_calls_are_journaled_in_the_order_made() -> None:
    stream = BytesIO()
    one = driver(stream)
    one.add(Request(0, 0.0, 20, 2, ServiceClass("any")))
    plan = one.plan()
    assert plan is not None
    one.commit(plan, ())
    one.abort(0)
    one.abort(0)  # it is gone: nothing to tell
    assert one.plan() is None
    assert kinds(stream) == ["header", "add", "plan", "commit", "abort"]


def test_what_is_shed_is_told_and_takes_no_step() -> None:
    stream = BytesIO()
    one = driver(stream, queue_timeout_s=0.0, review_s=0.0)
    one.add(Request(0, 0.0, 20, 2, LATE))
    assert one.plan() is None
    assert [number for number, _ in one.take_shed()] == [0]
    assert one.take_shed() == []
    assert kinds(stream) == ["header", "add", "plan", "commit"]


def test_a_plan_without_work_waits_for_those_before_it() -> None:
    stream = BytesIO()
    one = driver(stream, max_in_flight=3, queue_timeout_s=0.0, review_s=0.0)
    one.add(Request(0, 0.0, 20, 9, ServiceClass("any")))
    first = one.plan()
    assert first is not None
    one.add(Request(1, 0.0, 20, 2, LATE))
    second = one.plan()  # the decode, and the late one is shed with it or on its own
    assert second is not None
    one.commit(first, ())
    one.commit(second, ())
    assert [number for number, _ in one.take_shed()] == [1]
    assert kinds(stream).count("plan") == kinds(stream).count("commit")


def test_steps_end_in_order() -> None:
    one = driver(max_in_flight=2)
    one.add(Request(0, 0.0, 20, 9, ServiceClass("any")))
    first, second = one.plan(), one.plan()
    assert first is not None
    assert second is not None
    with pytest.raises(AssertionError, match="in order"):
        one.commit(second, ())


def test_measured_steps_become_beliefs() -> None:
    stream = BytesIO()
    one = driver(stream, Calibrator())
    one.add(Request(0, 0.0, 200, 100, ServiceClass("any")))
    for _ in range(40):
        plan = one.plan()
        assert plan is not None
        one.commit(plan, ())
    assert kinds(stream).count("believe") == 1
    record = next(orjson.loads(line) for line in stream.getvalue().splitlines()
                  if b"believe" in line)
    assert record["step_time"]["kind"] == "linear"
    assert abs(record["step_time"]["coefficients"]["base_s"] - 0.1) < 0.02
