"""Translation of OpenAI's requests to Ollama's (/api/chat, /api/generate and /api/embed)."""

from collections.abc import Mapping
from typing import Any

import orjson

from penstock.engines.client.dialects import UnsupportedError

# OpenAI's field (or a common extension) and the matching option of Ollama.
_OPTIONS = {
    "max_tokens": "num_predict", "max_completion_tokens": "num_predict",
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "seed": "seed", "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty", "repeat_penalty": "repeat_penalty",
    "repetition_penalty": "repeat_penalty"}

# Fields that Ollama does not support, with the values that are still accepted.
_NO_WORDS: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},)}

_AS_THEY_ARE = ("keep_alive", "think")


def ollama_call(path: str, body: Mapping[str, Any], model: str, *,
                stream: bool) -> tuple[str, dict[str, Any]]:
    """Return Ollama's path and body for a request. Raises UnsupportedError."""
    for name, fine in _NO_WORDS.items():
        if body.get(name) is not None and body[name] not in fine:
            raise UnsupportedError(f"Ollama has no {name}")
    call: dict[str, Any] = {"model": model}
    call |= {name: body[name] for name in _AS_THEY_ARE if name in body}
    if path.endswith("/embeddings"):
        call["input"] = body.get("input")
        if isinstance(body.get("dimensions"), int):
            call["dimensions"] = body["dimensions"]
        return "/api/embed", call
    call["stream"] = stream
    if options := _options(body):
        call["options"] = options
    if (wanted := _format(body.get("response_format"))) is not None:
        call["format"] = wanted
    if path.endswith("/chat/completions"):
        return "/api/chat", call | _chat(body)
    return "/api/generate", call | _completion(body)


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    found = {option: body[name] for name, option in _OPTIONS.items() if body.get(name) is not None}
    stop = body.get("stop")
    if stop is not None:
        found["stop"] = stop if isinstance(stop, list) else [stop]
    own = body.get("options")
    return found | own if isinstance(own, dict) else found


def _format(wanted: Any) -> Any:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return "json"
    schema = wanted.get("json_schema")
    return schema.get("schema") if isinstance(schema, dict) else None


def _completion(body: Mapping[str, Any]) -> dict[str, Any]:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise UnsupportedError("Ollama takes one prompt, as text")
    if body.get("suffix"):
        return {"prompt": prompt, "suffix": body["suffix"]}  # the model's template joins the two
    return {"prompt": prompt, "raw": True}


def _chat(body: Mapping[str, Any]) -> dict[str, Any]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise UnsupportedError("messages: expected a list of objects")
    call: dict[str, Any] = {}
    names: dict[str, str] = {}
    call["messages"] = [_message(one, names) for one in messages]
    if body.get("tools") and body.get("tool_choice") != "none":
        call["tools"] = body["tools"]
    effort = body.get("reasoning_effort")
    if effort is not None and "think" not in body:
        call["think"] = False if effort == "none" else effort
    return call


def _message(message: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a message in Ollama's form. ``names`` collects the tools' names by their call ids."""
    text, images = _content(message.get("content"))
    found: dict[str, Any] = {"role": str(message.get("role", "user")), "content": text}
    if images:
        found["images"] = images
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str):
        found["thinking"] = thinking
    calls = [one for one in message.get("tool_calls") or () if isinstance(one, dict)]
    if calls:
        found["tool_calls"] = [_tool_call(one, names) for one in calls]
    if found["role"] == "tool":
        name = message.get("name") or names.get(str(message.get("tool_call_id")))
        if name:
            found["tool_name"] = name
    return found


def _content(content: Any) -> tuple[str, list[str]]:
    """Return text and images (base64) of a message."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, images = [], []
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise UnsupportedError(f"Ollama takes no content of type {kind!r}")
    return "\n".join(texts), images


def _image(image: Any) -> str:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url.startswith("data:") or ";base64," not in url:
        raise UnsupportedError("Ollama takes images as data: URLs in base64 only")
    return url.partition(";base64,")[2]


def _tool_call(call: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    name, arguments = str(function.get("name", "")), function.get("arguments")
    names[str(call.get("id"))] = name
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError:
            raise UnsupportedError(f"arguments of tool call {name!r}: not JSON") from None
    return {"function": {"name": name, "arguments": arguments or {}}}
