"""What is believed of an engine, and when it may get requests."""

import pytest

from penstock.engine.live.breaker import FAILURES_TO_OPEN, MOST_PAUSE_S
from penstock.engine.live.metrics_text import EngineLoad, read_load
from penstock.engine.live.state import EngineFacts, EngineState, InFlight


def state() -> EngineState:
    return EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0))


def test_unknown_is_not_idle() -> None:
    engine = state()
    assert engine.unavailable(0.0) == "was never seen"
    engine.observe(EngineLoad(), 1.0)
    assert engine.unavailable(1.0) is None
    engine.lost()
    assert engine.unavailable(2.0) == "does not answer"


def test_the_larger_of_ledger_and_metrics_counts() -> None:
    engine = state()
    engine.observe(EngineLoad(num_running=3, num_waiting=1, kv_used_share=0.5), 7.0)
    for number, prompt_tokens in enumerate((100, 200, 50)):
        engine.begin(number, InFlight(prompt_tokens))
    engine.ledger.advance(engine.in_flight[2], 10)
    found = engine.snapshot(7.0)
    assert (found.num_waiting, found.num_running, found.queued_prompt_tokens) == (2, 3, 300)
    assert (found.kv_used_tokens, found.kv_total_tokens, found.observed_at) == (500, 1000, 7.0)
    engine.observe(EngineLoad(), 8.0)
    found = engine.snapshot(8.0)
    assert (found.num_running, found.kv_used_tokens) == (1, 60)


def test_failures_in_a_row_close_the_way_for_longer_and_longer() -> None:
    engine = state()
    engine.observe(EngineLoad(), 0.0)
    for _ in range(FAILURES_TO_OPEN - 1):
        engine.failed(0.0)
    assert engine.unavailable(0.0) is None
    pauses = []
    for _ in range(8):
        engine.failed(0.0)
        low, high = 0.0, 2 * MOST_PAUSE_S
        while high - low > 1e-6:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if engine.unavailable(middle) else (low, middle)
        pauses.append(high)
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(1.0, abs=1e-3)
    assert pauses[-1] == pytest.approx(MOST_PAUSE_S, abs=1e-3)
    engine.succeeded(100.0)
    engine.failed(100.0)
    assert engine.unavailable(100.0) is None


OLD = b'''# HELP vllm:num_requests_running x
vllm:num_requests_running{model_name="m"} 2.0
vllm:num_requests_waiting{model_name="m"} 1.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
'''
NEW = b'''vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.7
'''


def test_old_and_new_names_are_read() -> None:
    assert read_load(OLD) == EngineLoad(2, 1, 0.25)
    assert read_load(NEW) == EngineLoad(5, 0, pytest.approx(0.6))


@pytest.mark.parametrize("text", [b"", b"garbage\xff\n", b"vllm:num_requests_running NaN\n",
                                  b"vllm:num_requests_running 1e300\n",
                                  b"vllm:num_requests_running{} x\n"])
def test_what_is_not_told_is_not_known(text) -> None:
    assert read_load(text) == EngineLoad()
