"""OpenAI's requests in Ollama's words and its answers in OpenAI's, cut wherever they may be."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.engines.client.dialects import UnsupportedError
from penstock.engines.client.sse import EventSplitter, data_of
from penstock.engines.ollama.ask import ollama_call
from penstock.engines.ollama.dialect import OllamaStream, OllamaWhole, holds_model, usage_of
from support.fake_ollama import LAST, chat_lines, generate_lines, wire

CHAT, COMPLETION, EMBEDDING = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TOOL = {"function": {"name": "weather", "arguments": {"place": "Ulm"}}}
TOOL_LINES = [{"message": {"role": "assistant", "content": "", "tool_calls": [TOOL, TOOL]},
               "done": False}, LAST]


def stream(chat=True):
    return OllamaStream("id-1", "llama3.1:8b", 1_700_000_000, 9, chat=chat)


def events(translator, pieces):
    """The documents of all events, None for [DONE]."""
    data = b"".join(translator.feed(piece) for piece in pieces) + translator.close()
    splitter = EventSplitter()
    found = [data_of(event) for event in splitter.feed(data)]
    assert splitter.close() == b""
    return [None if one == b"[DONE]" else orjson.loads(one) for one in found]


def deltas(found):
    return [event["choices"][0]["delta"] for event in found if event and event["choices"]]


# -- answers ------------------------------------------------------------------------------------

def test_a_chat_is_events_with_a_role_an_end_and_usage() -> None:
    *said, last, usage, done = events(stream(), [wire(chat_lines("Ri", "ver", "s"))])
    assert deltas(said) == [{"role": "assistant", "content": "Ri"}, {"content": "ver"},
                            {"content": "s"}]
    assert {event["object"] for event in said} == {"chat.completion.chunk"}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14,
        "durations": pytest.approx({"total_s": 2.5, "load_s": 1.5, "prefill_s": 0.2,
                                    "decode_s": 0.6})}
    assert done is None


def test_a_completion_is_text() -> None:
    found = events(stream(chat=False), [wire(generate_lines("a", "b", done_reason="length"))])
    assert [event["choices"][0]["text"] for event in found[:-2]] == ["a", "b", ""]
    assert found[-3]["choices"][0]["finish_reason"] == "length"
    assert found[0]["object"] == "text_completion"


@given(st.data())
def test_wherever_it_is_cut_the_events_are_the_same(data) -> None:
    content = wire([*chat_lines("Rí\n\n", "ver\u2028s", "{\"done\": true}"), *TOOL_LINES])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=12)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)],
                                                       strict=True)]
    assert events(stream(), pieces) == events(stream(), [content])


def test_cut_at_every_byte_the_events_are_the_same() -> None:
    content = wire(chat_lines("Rí", "ver"))
    whole = events(stream(), [content])
    for size in range(1, len(content)):
        pieces = [content[start:start + size] for start in range(0, len(content), size)]
        assert events(stream(), pieces) == whole


def test_tool_calls_are_numbered_and_their_arguments_are_text() -> None:
    found = events(stream(), [wire(TOOL_LINES)])
    calls = deltas(found)[0]["tool_calls"]
    assert [(one["index"], one["function"]["name"]) for one in calls] == [(0, "weather"),
                                                                          (1, "weather")]
    assert orjson.loads(calls[0]["function"]["arguments"]) == {"place": "Ulm"}
    assert calls[0]["id"] != calls[1]["id"]
    assert found[-3]["choices"][0]["finish_reason"] == "tool_calls"


def test_thinking_is_reasoning() -> None:
    lines = [{"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
             LAST]
    assert deltas(events(stream(), [wire(lines)]))[0] == {"role": "assistant",
                                                          "reasoning_content": "hm"}


def test_an_error_in_the_middle_is_an_error_and_no_end() -> None:
    found = events(stream(), [wire([*chat_lines("Ri")[:-1], {"error": "out of memory"}])])
    assert found[-1]["error"]["message"] == "out of memory"
    assert None not in found


def test_a_model_that_was_only_loaded_says_nothing_and_ends() -> None:
    translator = stream()
    found = events(translator, [wire([{"message": {"role": "assistant", "content": ""},
                                       "done_reason": "load", "done": True}])])
    assert found[0]["choices"][0]["finish_reason"] == "stop"
    assert found[1]["usage"]["completion_tokens"] == 0
    assert translator.load_s is None


@pytest.mark.parametrize("broken", [b"{\n", b"[]\n", b"<html>\n", b'"x"\n'])
def test_what_is_no_stream_is_said_to_be_none(broken) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  what the JSON library says is not ours
        stream().feed(broken)


def test_a_stream_that_breaks_in_a_line_is_no_whole_one() -> None:
    translator = stream()
    translator.feed(wire(chat_lines("Ri"))[:-9])
    with pytest.raises(ValueError):  # noqa: PT011
        translator.close()


def test_counts_that_are_left_out_are_filled_in() -> None:
    last = {key: value for key, value in LAST.items() if key != "prompt_eval_count"}
    assert usage_of(last, 9, 3)["prompt_tokens"] == 9
    assert usage_of({"done": True}, 9, 4) == {"prompt_tokens": 9, "completion_tokens": 4,
                                              "total_tokens": 13}
    cached = usage_of({**LAST, "prompt_eval_cached_count": 5}, 9, 3)
    assert cached["prompt_tokens_details"] == {"cached_tokens": 5}


def test_whole_answers() -> None:
    whole = OllamaWhole("id-1", "m", 1, 9)
    answer, load_s = whole.document(CHAT, {**LAST, "message": {"content": "Rivers"}})
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Rivers"}
    assert answer["usage"]["completion_tokens"] == 3
    assert load_s == pytest.approx(1.5)
    answer, _ = whole.document(CHAT, {**LAST, "message": {"tool_calls": [TOOL]}})
    assert "index" not in answer["choices"][0]["message"]["tool_calls"][0]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    answer, _ = whole.document(EMBEDDING, {"embeddings": [[1.0]], "prompt_eval_count": 4})
    assert (answer["data"][0]["embedding"], answer["usage"]["prompt_tokens"]) == ([1.0], 4)
    with pytest.raises(ValueError, match="says nothing"):
        whole.document(COMPLETION, {"error": "x"})


def test_which_models_are_loaded() -> None:
    document = {"models": [{"name": "llama3.1:8b"}, {"model": "phi:latest"}]}
    assert holds_model(document, "llama3.1:8b")
    assert holds_model(document, "phi")
    assert not holds_model(document, "llama3.1")
    assert not any(holds_model(broken, "phi") for broken in (None, [], {}, {"models": [1]}))


# -- requests -----------------------------------------------------------------------------------

def asked(path=CHAT, **body):
    body.setdefault("messages", [{"role": "user", "content": "Hello"}])
    return ollama_call(path, body, "llama3.1:8b", stream=True)


def test_options_have_ollamas_names() -> None:
    path, call = asked(max_tokens=5, temperature=0.0, top_p=0.9, seed=3, stop="x",
                       repetition_penalty=1.1, options={"num_ctx": 8192}, keep_alive="10m")
    assert path == "/api/chat"
    assert call["options"] == {"num_predict": 5, "temperature": 0.0, "top_p": 0.9, "seed": 3,
                               "stop": ["x"], "repeat_penalty": 1.1, "num_ctx": 8192}
    assert (call["model"], call["stream"], call["keep_alive"]) == ("llama3.1:8b", True, "10m")
    assert "options" not in asked()[1]


def test_formats_tools_and_effort() -> None:
    schema = {"type": "object"}
    assert asked(response_format={"type": "json_object"})[1]["format"] == "json"
    assert asked(response_format={"type": "json_schema",
                                  "json_schema": {"schema": schema}})[1]["format"] == schema
    assert "format" not in asked(response_format={"type": "text"})[1]
    tools = [{"type": "function", "function": {"name": "weather"}}]
    assert asked(tools=tools)[1]["tools"] == tools
    assert "tools" not in asked(tools=tools, tool_choice="none")[1]
    assert asked(reasoning_effort="none")[1]["think"] is False
    assert asked(reasoning_effort="low")[1]["think"] == "low"


def test_messages_with_images_and_tools() -> None:
    _, call = asked(messages=[
        {"role": "user", "content": [
            {"type": "text", "text": "What is"}, {"type": "text", "text": "this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "function": {"name": "weather", "arguments": "{\"place\":\"Ulm\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"}])
    user, assistant, tool = call["messages"]
    assert user == {"role": "user", "content": "What is\nthis?", "images": ["aGk="]}
    assert assistant["tool_calls"] == [TOOL]
    assert tool == {"role": "tool", "content": "rain", "tool_name": "weather"}


def test_completions_are_raw_unless_something_follows() -> None:
    assert asked(COMPLETION, prompt="x")[1]["raw"] is True
    _, call = asked(COMPLETION, prompt=["x"], suffix="y")
    assert (call["prompt"], call["suffix"], "raw" in call) == ("x", "y", False)
    path, call = ollama_call(EMBEDDING, {"input": ["a", "b"]}, "m", stream=False)
    assert (path, call) == ("/api/embed", {"model": "m", "input": ["a", "b"]})


@pytest.mark.parametrize("body", [
    {"n": 2}, {"logprobs": True}, {"echo": True}, {"logit_bias": {"1": 2}},
    {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]},
    {"messages": "x"}])
def test_what_ollama_has_no_words_for_is_said(body) -> None:
    with pytest.raises(UnsupportedError):
        asked(**body)
    assert asked(n=1, logprobs=False, logit_bias={})[0] == "/api/chat"


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["a", "b"], None, [[1]]])
def test_prompts_that_are_not_one_text(prompt) -> None:
    with pytest.raises(UnsupportedError):
        asked(COMPLETION, prompt=prompt)
