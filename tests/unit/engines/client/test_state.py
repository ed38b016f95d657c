"""What is believed of an engine, and when it may get requests."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.client.breaker import FAILURES_TO_OPEN, MOST_PAUSE_S
from penstock.engines.client.metrics_text import EngineLoad, read_load
from penstock.engines.client.state import (
    LEAST_SPEED_SHARE,
    SLOW_START_S,
    EngineFacts,
    EngineState,
    InFlight,
    Ledger,
)


def state() -> EngineState:
    return EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0))


def test_unknown_is_not_idle() -> None:
    engine = state()
    assert engine.unavailable(0.0) == "was never seen"
    engine.observe(EngineLoad(), 1.0)
    assert engine.unavailable(1.0) is None
    engine.lost()
    assert engine.unavailable(2.0) == "does not answer"


def test_a_health_check_may_time_out_once_in_a_row() -> None:
    engine = state()
    engine.late()
    assert engine.unavailable(0.0) == "was never seen"
    engine.observe(EngineLoad(), 1.0)
    engine.late()
    assert engine.unavailable(2.0) is None
    engine.observe(EngineLoad(), 3.0)
    engine.late()
    assert engine.unavailable(4.0) is None
    engine.late()
    assert engine.unavailable(5.0) == "does not answer"


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
    assert read_load(OLD) == EngineLoad(2, 1, 0.25, "vllm")
    assert read_load(NEW) == EngineLoad(5, 0, pytest.approx(0.6), "vllm")


@pytest.mark.parametrize("text", [b"", b"garbage\xff\n", b"vllm:num_requests_running NaN\n",
                                  b"vllm:num_requests_running 1e300\n",
                                  b"vllm:num_requests_running{} x\n"])
def test_what_is_not_told_is_not_known(text) -> None:
    assert replace(read_load(text), kind=None) == EngineLoad()


@pytest.mark.parametrize(("text", "kind"), [
    (OLD, "vllm"), (b"sglang:num_queue_reqs 1\n", "sglang"), (b"up 1\n", None),
    (b"llamacpp:requests_processing 1\n", "llamacpp"), (b"http:x 1\n", None),
    (b"vllm 1\n", None)])
def test_metrics_betray_who_tells_them(text, kind) -> None:
    assert read_load(text).kind == kind


def test_what_the_file_says_is_believed_more_than_metrics() -> None:
    engine = state()
    assert engine.kind == "openai"
    engine.observe(read_load(OLD), 0.0)
    engine.observe(EngineLoad(), 1.0)
    assert engine.kind == "vllm", "it does not become another software by telling nothing"
    told = EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0, "openai"))
    told.observe(read_load(OLD), 0.0)
    assert told.kind == "openai"


def test_after_a_pause_one_request_probes_and_the_others_wait() -> None:
    engine = state()
    engine.observe(EngineLoad(), 0.0)
    for _ in range(FAILURES_TO_OPEN):
        engine.failed(0.0)
    assert engine.unavailable(0.5) == "failed 3 times in a row"
    assert engine.unavailable(1.5) is None
    engine.begin(7, InFlight(10))
    assert engine.unavailable(1.5) == "is being tried with one request"
    engine.end(7)  # its client left: nothing was learned
    assert engine.unavailable(1.5) is None
    engine.begin(8, InFlight(10))
    engine.succeeded(2.0)
    engine.end(8)
    assert engine.unavailable(2.0) is None
    assert engine.snapshot(2.0).speed == pytest.approx(LEAST_SPEED_SHARE)
    assert engine.snapshot(2.0 + 0.5 * SLOW_START_S).speed == pytest.approx(0.5)
    assert engine.snapshot(2.0 + SLOW_START_S).speed == 1.0


def test_an_engine_that_comes_back_starts_slowly_a_new_one_does_not() -> None:
    engine = state()
    engine.observe(EngineLoad(), 0.0)
    assert engine.snapshot(0.0).speed == 1.0
    engine.lost()
    engine.observe(EngineLoad(), 5.0)
    assert engine.snapshot(5.0).speed == pytest.approx(LEAST_SPEED_SHARE)


class Naive:
    """Sums counted from scratch over a plain list of requests."""

    def __init__(self):
        self.all = {}

    def sums(self):
        own = self.all.values()
        waiting = [one for one in own if not one.output_tokens]
        return (len(waiting), sum(one.prompt_tokens for one in waiting),
                sum(one.prompt_tokens + one.output_tokens for one in own if one.output_tokens),
                pytest.approx(sum(one.pending_output_tokens for one in own)))


@given(st.lists(st.tuples(st.sampled_from(["begin", "advance", "end"]), st.integers(0, 30),
                          st.integers(1, 50)), max_size=60))
def test_sums_are_what_counting_would_give(steps) -> None:
    ledger, naive = Ledger(), Naive()
    for number, (what, pick, amount) in enumerate(steps):
        if what == "begin":
            one = InFlight(amount, float(pick * amount % 97))
            ledger.begin(number, one)
            naive.all[number] = one
        elif naive.all:
            key = list(naive.all)[pick % len(naive.all)]
            if what == "advance":
                ledger.advance(naive.all[key], naive.all[key].output_tokens + amount)
            else:
                ledger.end(key)
                del naive.all[key]
        assert (ledger.num_waiting, ledger.queued_prompt_tokens, ledger.held_tokens,
                ledger.pending_output_tokens) == naive.sums()
        assert len(ledger.queue()) == len(naive.all)
