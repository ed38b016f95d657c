"""Prompts of requests: their parts, and whether they may have more tokens than bytes."""

import pytest

from penstock.serving.gateway.prompt import estimated_tokens, read_prompt

IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
TEXT = {"type": "text", "text": "what is it?"}


@pytest.mark.parametrize(("body", "parts"), [
    ({"prompt": "one"}, ["one"]),
    ({"prompt": ["one", "two"]}, ["one", "two"]),
    ({"prompt": [[1, 2], [3]]}, [[1, 2], [3]]),
    ({"input": "embed me"}, ["embed me"]),
    ({"prompt": "one", "input": "two", "messages": [{"role": "user", "content": "three"}]},
     ["one", "two", "three"]),
    ({"messages": [{"role": "system", "content": "be brief"},
                   {"role": "user", "content": [TEXT, IMAGE]},
                   {"role": "assistant", "content": None}]}, ["be brief", "what is it?"]),
    ({}, []), ({"messages": 5, "prompt": {"a": 1}}, []),
])
def test_a_prompt_has_all_texts_and_token_ids_in_order(body, parts) -> None:
    assert list(read_prompt(body).parts) == parts


def test_a_prompt_as_deep_as_a_client_likes_is_read() -> None:
    content: object = "deep"
    for _ in range(5000):
        content = [{"content": content}]
    found = read_prompt({"messages": content, "prompt": ["first", {"text": "second"}]})
    assert found.parts == ("first", "second", "deep")


@pytest.mark.parametrize(("body", "unbounded"), [
    ({"prompt": "text"}, False), ({"prompt": [1, 2, 3]}, False), ({}, False),
    ({"messages": [{"role": "user", "content": "text"}]}, False),
    ({"messages": [{"role": "user", "content": [TEXT]}]}, False),
    ({"messages": [{"role": "user", "content": [TEXT, IMAGE]}]}, True),
    ({"messages": [{"role": "user", "content": "text", "images": ["x"]}]}, True),
    ({"messages": [{"role": "user", "content": "text", "images": []}]}, False),
    ({"messages": [{"role": "user", "content": [{"image_url": {"url": "x"}}]}]}, True),
    ({"input": [{"image": "x"}], "prompt": "text"}, True),
    ({"messages": [1, {"role": "user", "content": [IMAGE]}]}, True),
    ({"prompt": "text", "chat_template": "{{ x }}"}, True),
    ({"prompt": "text", "chat_template_kwargs": {"chat_template": "{{ x }}"}}, True),
    ({"prompt": "text", "chat_template_kwargs": {"enable_thinking": False}}, False),
    ({"prompt": "text", "chat_template_kwargs": ["chat_template"]}, False),
    ({"messages": [{"role": "user", "content": [{**TEXT, "cache_control": {}}]}]}, False),
    ({"messages": [{"role": "user", "content": [{**TEXT, "uuid": "x", "image_url": None}]}]}, True),
    ({"messages": [{"role": "user", "content": [{"text": "x", "image_url": "x"}]}]}, True),
    ({"prompt": {"text": "x", "prompt_string": "x", "multimodal_data": ["x"]}}, True),
    ({"messages": [{"role": "user", "content": [{**TEXT, "type": {}}]}]}, True),
])
def test_images_audio_and_templates_may_have_more_tokens_than_bytes(body, unbounded) -> None:
    assert read_prompt(body).is_unbounded is unbounded


@pytest.mark.parametrize(("parts", "tokens"), [
    ([], 1), (["abcd"], 1), (["abcde"], 2), (["\u00e9" * 4], 2), ([[5, 6, 7]], 3),
    ([[5, 6, 7], "abcd"], 4)])
def test_tokens_are_counted_or_estimated_from_bytes(parts, tokens) -> None:
    assert estimated_tokens(parts) == tokens
