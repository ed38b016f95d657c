"""Acceptance from the text of a vLLM server's /metrics."""

import pytest

from penstock.core.errors import InputError
from penstock.engines.client.draft_counters import DraftCounts, read_acceptance
from penstock.engines.client.metrics_text import read_load
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.serving.gateway.status import drafts_document

TEXT = b"""# TYPE vllm:spec_decode_num_drafts counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 600.0
vllm:spec_decode_num_drafts_total{engine="1",model_name="m"} 400.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 500.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="1",model_name="m",position="0"} 300.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} 600.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 1400.0
"""


def test_counters_of_all_engines_are_summed() -> None:
    found = read_acceptance(TEXT, "metrics.txt")
    assert found.rates == (0.8, 0.6)
    assert found.source == "metrics.txt"
    assert found.low[0] < 0.8 < found.high[0]


@pytest.mark.parametrize(("text", "said"), [
    (b"vllm:num_requests_running 1\n", "has no counters of drafts; expected vllm:spec_decode"),
    (TEXT.replace(b'position="1"', b'position="2"'), r"counts positions \[0, 2\]"),
    (TEXT.replace(b" 500.0", b" many"), "a counter of drafts is 'many'; expected a number"),
    (TEXT.replace(b" 500.0", b" 900.0"), "1200 accepted at position 0; expected at most 1000"),
])
def test_broken_counters_are_one_line(text: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_acceptance(text, "metrics.txt")


def test_a_look_at_an_engine_reads_its_drafts() -> None:
    assert read_load(TEXT).drafts == DraftCounts(1000.0, (800.0, 600.0))
    assert read_load(TEXT.replace(b" 500.0", b" many")).drafts is None
    assert read_load(b"vllm:num_requests_running 1\n").drafts is None


def test_the_status_has_the_acceptance_of_the_latest_drafts_beside_the_stated_one() -> None:
    engine = EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0, drafted_tokens=2.9))
    assert drafts_document(engine) == {}
    engine.observe(read_load(TEXT), 1.0)
    found = drafts_document(engine)["speculation"]
    assert found["acceptance"] == [0.8, 0.6]
    assert found["tokens_per_turn"] == pytest.approx(2.4)
    assert found["stated_tokens_per_turn"] == 2.9
    assert found["low"][1] < 0.6 < found["high"][1]


def test_an_engine_in_confidential_mode_tells_no_drafts() -> None:
    engine = EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0, confidential=True))
    engine.observe(read_load(TEXT), 1.0)
    assert drafts_document(engine) == {}
