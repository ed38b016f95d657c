"""Decodes with ample slack sit out where all decodes together would make the tightest late."""

import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler
from penstock.registry.step_times import published_step_time
from support.reference_driver import Trace, run_reference

MODEL = published_step_time("vidur-a100-llama-3-8b")
LAX = ServiceClass("lax", Slo(e2e_s=1800.0))
NUM_LAX = 120


def flooded(itl_s: float, mode: str, *, may_wait: bool) -> tuple[Trace, list[Request]]:
    """A replica whose decodes of long contexts take about 35 ms, and ten tight requests."""
    tight = ServiceClass("tight", Slo(ttft_s=6.0, itl_s=itl_s, itl=mode))  # type: ignore[arg-type]
    requests = [Request(i, 0.01 * i, 2400, 1000, LAX) for i in range(NUM_LAX)]
    requests += [Request(NUM_LAX + i, 30.0 + i, 400, 100, tight) for i in range(10)]
    outputs = {r.request_id: r.max_tokens for r in requests}
    scheduler = build_scheduler(scheduler_options("penstock", decodes_may_wait=may_wait), MODEL,
                                CountingKv(60_000, 16))
    return run_reference(scheduler, StepClock(MODEL), requests, outputs), requests


def late_share(trace: Trace, requests: list[Request], itl_s: float) -> float:
    """Share of the tight requests' gaps above their target."""
    gaps = [(b - a) / 1e12 for r in requests[NUM_LAX:]
            for a, b in zip(trace.token_ps[r.request_id], trace.token_ps[r.request_id][1:],
                            strict=False)]
    return sum(gap > itl_s for gap in gaps) / len(gaps)


@pytest.mark.parametrize("itl_s", [0.025, 0.03])
def test_strict_gaps_are_kept_by_letting_ample_decodes_wait(itl_s: float) -> None:
    waiting, requests = flooded(itl_s, "strict", may_wait=True)
    crowding, _ = flooded(itl_s, "strict", may_wait=False)
    assert late_share(waiting, requests, itl_s) <= 0.01
    assert late_share(crowding, requests, itl_s) > 0.5


def test_those_that_waited_still_end_in_time() -> None:
    trace, requests = flooded(0.03, "strict", may_wait=True)
    for request in requests[:NUM_LAX]:
        assert len(trace.token_ps[request.request_id]) == request.max_tokens
        assert trace.token_ps[request.request_id][-1] / 1e12 - request.arrival_s <= 1800.0
