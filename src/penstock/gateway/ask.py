"""What a client asks for, as far as the gateway must understand it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.core.errors import nearest
from penstock.core.request import AUTO
from penstock.core.slo import ServiceClass
from penstock.gateway.errors import GatewayError

CLASS_HEADER = "X-Penstock-Class"
_BYTES_PER_TOKEN = 4
_DEFAULT_MAX_TOKENS = 1024  # for what a request may become, where neither it nor the model says


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: its own ``body`` with every field, and what was understood of it.

    ``prompt_tokens`` is an estimate from the prompt's bytes (exact for token ids). ``model`` is
    None where any may answer.
    """

    body: dict[str, Any]
    model: str | None
    service_class: ServiceClass
    stream: bool
    wants_usage: bool
    prompt_tokens: int
    max_tokens: int


def read_ask(content: bytes, headers: Mapping[str, str], classes: Mapping[str, ServiceClass],
             models: Mapping[str, int]) -> Ask:
    """The request in a body; ``models`` has the longest context of each. Raises GatewayError."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise GatewayError(400, f"the body is not JSON ({error})", "invalid_json") from None
    if not isinstance(body, dict):
        raise GatewayError(400, "the body is not a JSON object", "invalid_json")
    model = _model(body.get("model"), models)
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise GatewayError(400, "stream: expected true or false", "invalid_value", "stream")
    options = body.get("stream_options")
    asked = _limit(body)
    prompt_tokens = _prompt_tokens(body)
    room = (models[model] if model else max(models.values())) - prompt_tokens
    return Ask(body, model, _service_class(headers, classes), stream,
               isinstance(options, dict) and bool(options.get("include_usage")), prompt_tokens,
               asked if asked is not None else max(1, min(room, _DEFAULT_MAX_TOKENS)))


def _model(name: object, models: Mapping[str, int]) -> str | None:
    if name is None or name == AUTO:
        return None if len(models) > 1 else next(iter(models))
    if not isinstance(name, str):
        raise GatewayError(400, "model: expected a name", "invalid_value", "model")
    if name not in models:
        raise GatewayError(404, f"no model {name[:80]!r}{nearest(name[:80], models)}",
                           "model_not_found", "model")
    return name


def _service_class(headers: Mapping[str, str],
                   classes: Mapping[str, ServiceClass]) -> ServiceClass:
    name = headers.get(CLASS_HEADER)
    if name is None:
        return next(iter(classes.values()))
    if name not in classes:
        raise GatewayError(400, f"{CLASS_HEADER}: no service class {name[:60]!r}"
                                f"{nearest(name[:60], classes)}", "unknown_class", CLASS_HEADER)
    return classes[name]


def _limit(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GatewayError(400, f"{name}: expected a whole number of at least 1",
                               "invalid_value", name)
        return value
    return None


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    prompt = body.get("prompt", body.get("input"))
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    num_bytes = _num_bytes(prompt) + _num_bytes(body.get("messages"))
    return max(1, -(-num_bytes // _BYTES_PER_TOKEN))


def _num_bytes(value: object) -> int:
    """Bytes of all text in a prompt or in messages."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(_num_bytes(one) for one in value)
    if isinstance(value, dict):
        return sum(_num_bytes(value.get(key)) for key in ("content", "text"))
    return 0
