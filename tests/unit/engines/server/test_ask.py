"""What a body may hold, and what is told to whoever sent a wrong one."""

import json

import pytest

from penstock.engines.server.ask import Ask, read_chat, read_completion
from penstock.engines.server.errors import ApiError


def completion(**body) -> Ask:
    return read_completion(json.dumps({"prompt": "hello", **body}).encode())


def chat(*messages, **body) -> Ask:
    return read_chat(json.dumps({"messages": messages, **body}).encode())


def user(content) -> dict:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(("prompt", "tokens"), [
    ("", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), (["abcde"], 2), ([7], 1), ([1, 2, 3], 3),
    ([[1, 2, 3]], 3), ([0, 2**32 - 1], 2),
])
def test_prompt_tokens(prompt, tokens) -> None:
    assert completion(prompt=prompt).prompt_tokens == tokens


def test_the_content_of_a_chat_is_its_prompt() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "image_url", "image_url": {"url": "x"}},
             {"type": "text", "text": "cd"}]
    assert chat(user("abcd")).prompt == b"abcd"
    assert chat(user(parts)).prompt == b"abcd"
    between = {"role": "assistant", "content": None}
    assert chat(user("ab"), between, user("cd")).prompt == b"ab\n\ncd"


def test_limits_of_the_answer() -> None:
    assert completion().max_tokens == 16
    assert completion(max_tokens=3).max_tokens == 3
    assert chat(user("x")).max_tokens is None
    assert chat(user("x"), max_tokens=3).max_tokens == 3
    assert chat(user("x"), max_tokens=3, max_completion_tokens=5).max_tokens == 5


def test_the_rest_of_a_body() -> None:
    ask = completion(model="m", stream=True, ignore_eos=True, priority=2, n=1,
                     stream_options={"include_usage": True, "continuous_usage_stats": True},
                     vllm_xargs={"service_class": "batch"}, temperature="hot", unknown=[1])
    assert ask == Ask("m", b"hello", 16, True, True, True, True, "batch", 2,
                      temperature="hot", said={"service_class": "batch"})
    nothing = dict.fromkeys(("model", "stream", "ignore_eos", "n", "stream_options", "vllm_xargs",
                             "priority", "max_tokens"))
    assert completion(**nothing) == completion() == Ask(None, b"hello", 16)


@pytest.mark.parametrize(("body", "param"), [
    ({"n": 2}, "n"), ({"n": "1"}, "n"), ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"), ({"stream": 1}, "stream"),
    ({"ignore_eos": "yes"}, "ignore_eos"), ({"model": 3}, "model"),
    ({"stream_options": []}, "stream_options"), ({"vllm_xargs": 1}, "vllm_xargs"),
    ({"vllm_xargs": {"service_class": 1}}, "service_class"), ({"priority": "high"}, "priority"),
    ({"prompt": None}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": 3}, "prompt"),
    ({"prompt": ["a", "b"]}, "prompt"), ({"prompt": [1, "b"]}, "prompt"),
    ({"prompt": [[1], [2]]}, "prompt"), ({"prompt": [-1]}, "prompt"),
    ({"prompt": [2**32]}, "prompt"), ({"prompt": [True]}, "prompt"), ({"prompt": [[]]}, "prompt"),
])
def test_a_wrong_field_is_named(body, param) -> None:
    with pytest.raises(ApiError) as caught:
        completion(**body)
    assert caught.value.status == 400
    error = caught.value.document()["error"]
    assert error == {"message": str(caught.value), "type": "BadRequestError", "param": param,
                     "code": 400}


@pytest.mark.parametrize("messages", [
    None, [], "hello", ["hello"], [{"content": "x"}], [{"role": "user", "content": 3}],
    [{"role": "user", "content": ["x"]}], [{"role": "user", "content": [{"type": "text",
                                                                         "text": 1}]}],
])
def test_wrong_messages(messages) -> None:
    with pytest.raises(ApiError) as caught:
        read_chat(json.dumps({"messages": messages}).encode())
    assert caught.value.param == "messages"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"prompt": "\xff"}'])
def test_what_is_no_object(body) -> None:
    with pytest.raises(ApiError, match="the body is not"):
        read_completion(body)


def test_equal_beginnings_have_equal_hashes() -> None:
    one, other = completion(prompt="a" * 64 + "b" * 64), completion(prompt="a" * 64 + "c" * 63)
    hashes, others = one.prefix_hashes(8), other.prefix_hashes(8)
    assert (len(hashes), len(others)) == (4, 3)  # of 32 bytes each; the last is not whole
    assert hashes[:2] == others[:2]
    assert hashes[2] != others[2]
    assert len(set(hashes)) == 4  # a hash covers what comes before it, too
    assert all(0 <= value < 2**63 for value in hashes)
    ids = completion(prompt=list(range(32)))
    assert ids.prefix_hashes(16) == completion(prompt=list(range(40))).prefix_hashes(16)


def test_a_prompt_of_token_ids_and_a_conversation_are_kept_as_they_came() -> None:
    assert completion(prompt=[7, 8]).token_ids == (7, 8)
    assert completion(prompt="seven").token_ids is None
    ask = read_chat(json.dumps({"messages": [{"role": "user", "content": "a"},
                                             {"role": "assistant", "content": None}],
                                "vllm_xargs": {"ttft_s": 1.5}, "temperature": 0, "seed": 4}
                               ).encode())
    assert ask.messages == (("user", "a"), ("assistant", ""))
    assert ask.said == {"ttft_s": 1.5}
    assert (ask.temperature, ask.seed) == (0, 4)
