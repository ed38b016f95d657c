"""What the engines of a pair are asked, by each kind of engine."""

import pytest

from penstock.engines.client.connectors import KEY_BITS, NIXL, SGLANG, TENSORRT_LLM, Meeting

MEETING = Meeting(7, "10.0.0.1", 8999)
BODY = {"prompt": "a", "max_completion_tokens": 9, "stream": True,
        "stream_options": {"include_usage": True}}
ENDED = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
LONGER = {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}


def test_vllm_is_asked_for_one_token_in_one_piece() -> None:
    body = NIXL.first(BODY, MEETING)
    assert body.pop("kv_transfer_params")["do_remote_decode"] is True
    assert body == {"prompt": "a", "max_completion_tokens": 1, "stream": False}
    assert NIXL.first({"prompt": "a"}, MEETING)["max_tokens"] == 1


def test_vllm_hands_its_parameters_over() -> None:
    found = {"do_remote_prefill": True, "remote_block_ids": [1]}
    assert NIXL.second(MEETING, {**LONGER, "kv_transfer_params": found}) == {
        "kv_transfer_params": found}


@pytest.mark.parametrize("connector", [NIXL, TENSORRT_LLM])
def test_nothing_is_handed_over_of_an_answer_that_has_ended(connector) -> None:
    assert connector.second(MEETING, ENDED) == {}


@pytest.mark.parametrize(("connector", "answer", "said"), [
    (NIXL, LONGER, "without kv_transfer_params: it runs without a KV connector"),
    (NIXL, [], "without kv_transfer_params"), (NIXL, {"choices": [3]}, "without kv_transfer"),
    (TENSORRT_LLM, LONGER, "without disaggregated_params"), (TENSORRT_LLM, [], "without choices"),
    (TENSORRT_LLM, {"choices": [{"disaggregated_params": {}}]}, "without disaggregated_params")])
def test_an_engine_without_a_connector_is_told_apart(connector, answer, said) -> None:
    with pytest.raises(ValueError, match=said):
        connector.second(MEETING, answer)


def test_sglangs_engines_meet_in_a_room() -> None:
    room = {"bootstrap_host": "10.0.0.1", "bootstrap_port": 8999, "bootstrap_room": 7}
    assert SGLANG.second(MEETING, None) == room
    assert SGLANG.first(BODY, MEETING) == {
        "prompt": "a", "max_completion_tokens": 9, "stream": False, **room}
    assert SGLANG.together
    assert SGLANG.needs_both


def test_tensorrt_llm_passes_state_and_tokens_on() -> None:
    number = (1 << KEY_BITS) + 7
    assert TENSORRT_LLM.first(BODY, MEETING) == {
        "prompt": "a", "max_completion_tokens": 9, "stream": False,
        "disaggregated_params": {"request_type": "context_only", "disagg_request_id": number}}
    state = {"request_type": "context_only", "first_gen_tokens": [3], "ctx_request_id": 5}
    handed = {**state, "request_type": "generation_only", "disagg_request_id": number}
    one = {"finish_reason": "not_finished", "disaggregated_params": state}
    assert TENSORRT_LLM.second(MEETING, {"choices": [one], "prompt_token_ids": [1, 2]}) == {
        "disaggregated_params": handed, "prompt": [1, 2]}
    assert TENSORRT_LLM.second(MEETING, {"choices": [{**one, "message": {}}],
                                         "prompt_token_ids": [1, 2]}) == {
        "disaggregated_params": handed, "prompt_token_ids": [1, 2]}
    assert TENSORRT_LLM.second(MEETING, {"choices": [one, one]}) == {}
