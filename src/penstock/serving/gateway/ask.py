"""Requests of clients, parsed as far as the gateway needs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import orjson

from penstock.core.errors import nearest, one_of, quote
from penstock.core.request import AUTO, NO_NEEDS, Needs
from penstock.core.slo import ServiceClass
from penstock.engines.http_body import JsonBody, parse_json, read_json
from penstock.fleet.values_adapters import Adapter
from penstock.fleet.values_gateway import Alias, RequestParameters, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask_limits import (
    MOST_ANSWER_BYTES,
    hides_tokens,
    most_answer_bytes,
)
from penstock.serving.gateway.prompt import Part, estimated_tokens, read_prompt
from penstock.serving.gateway.request_parameters import KINDS, Found, read_request_parameters

CLASS_HEADER = KINDS["service_class"].header
ANYBODY = Tenant("default")
"""Tenant of requests where no key is needed."""

_DEFAULT_MAX_TOKENS = 1024  # assumed limit where neither the request nor the model states one
_TEMPLATE_TOKENS = 64       # most tokens that a chat template adds to the text
_MOST_ANSWERS = 10_000      # of one request, in the reserved amounts
_EVERY_MODEL = Alias()
Kind = Literal["chat", "completion", "embeddings"]


@dataclass(frozen=True, slots=True)
class Offer:
    """The models and classes on offer: service classes, the longest context of each served model,
    aliases, and the models of adapters by their names, with the adapters."""

    classes: Mapping[str, ServiceClass]
    models: Mapping[str, int]
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    adapters: Mapping[str, tuple[str, Adapter]] = field(default_factory=dict)

    def names(self, tenant: Tenant = ANYBODY) -> list[str]:
        """Return the model names that a tenant may request; ``auto`` where it has a choice."""
        own = [name for name in self.models if tenant.models is None or name in tenant.models]
        aliases = [name for name, alias in self.aliases.items() if alias.models is None
                   or any(model in own for model in alias.models)]
        auto = [AUTO] if len(own) > 1 and AUTO not in aliases else []
        adapters = [name for name in self.adapters if tenant.models is None
                    or name in tenant.models]
        return [*own, *auto, *aliases, *adapters] if own else adapters


class Ask(NamedTuple):
    """A parsed request: its complete ``body``, and the fields that the gateway uses.

    ``models`` may answer, None where any model may. The objective of ``service_class`` includes the
    request's own deadline, ``deadline_s`` after its arrival. ``prompt_tokens`` is estimated from
    the ``prompt_parts`` (exact for token ids). ``max_tokens`` bounds each of ``num_answers`` (0 for
    embeddings). ``most_prompt_tokens``, ``most_output_tokens`` and ``most_answer_bytes`` bound the
    whole request. ``hides_tokens`` says whether the engine may count tokens that the answer does
    not show. An ``adapter`` of the only model must answer, None for the model itself.
    """

    body: dict[str, Any]
    models: tuple[str, ...] | None
    service_class: ServiceClass
    stream: bool
    wants_usage: bool
    prompt_tokens: int
    max_tokens: int
    num_answers: int = 1
    most_prompt_tokens: int = 0
    most_output_tokens: int = 0
    most_answer_bytes: int = MOST_ANSWER_BYTES
    hides_tokens: bool = False
    needs: Needs = NO_NEEDS
    session: str = ""
    tenant: str = ANYBODY.name
    deadline_s: float | None = None
    prompt_parts: tuple[Part, ...] = ()
    adapter: Adapter | None = None

    @property
    def name(self) -> str | None:
        """The name of the adapter or the only model that may answer, None where there is a
        choice."""
        return self.model if self.adapter is None else self.adapter.name

    @property
    def model(self) -> str | None:
        """The only model that may answer, None where there is a choice."""
        return self.models[0] if self.models is not None and len(self.models) == 1 else None


async def parse(content: bytes, turns: asyncio.Lock) -> JsonBody:
    """Parse the JSON of a body, large ones in turns. Raises ServiceError."""
    try:
        return await parse_json(content, turns)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None


def read_ask(content: bytes | JsonBody, headers: Mapping[str, str], offer: Offer,
             tenant: Tenant = ANYBODY, path: str = "") -> Ask:
    """Parse a request body. Raises ServiceError.

    ``penstock.serving.gateway.request_parameters`` says which of several places counts. The
    ``path`` says which field has the prompt; without a path, the fields of the body do.
    """
    try:
        body, num_bytes = content if isinstance(content, JsonBody) else \
            JsonBody(read_json(content), len(content))
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None
    if not isinstance(body, dict):
        raise ServiceError(400, "the body is not a JSON object", "invalid_json")
    models, alias, adapter = _models(body.get("model"), offer, tenant)
    parameters = read_request_parameters(headers, body, alias.parameters, tenant.defaults)
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise ServiceError(400, f"stream: expected true or false, found {quote(stream)}",
                           "invalid_value", "stream")
    stream_options = body.get("stream_options")
    service_class = _service_class(parameters, offer, tenant)
    kind = _kind(path, body)
    asked, prompts = _limit(body, kind), _num_prompts(body, kind)
    answers = prompts * _answers_each(body, kind)
    prompt = read_prompt(body)
    prompt_tokens = estimated_tokens(prompt.parts)
    context = max(offer.models[name] for name in models or offer.models)
    expected = min(asked, context) if asked is not None else \
        max(1, min(context - prompt_tokens, _DEFAULT_MAX_TOKENS))
    most_prompt, most_output = context * max(prompts, answers), \
        min(context if asked is None else asked, context) * answers
    if not prompt.is_unbounded:
        # A token has at least one byte. Prompt and answer share the context. Templates print tools
        # with indentation: "1," becomes three tokens.
        printed = 2 if body.get("tools") or body.get("functions") else 1
        most_prompt = min(printed * num_bytes + _TEMPLATE_TOKENS, most_prompt)
    return Ask(
        body, models, service_class, stream,
        isinstance(stream_options, dict) and bool(stream_options.get("include_usage")),
        prompt_tokens, expected, answers, most_prompt, most_output,
        most_answer_bytes(body, most_prompt + most_output, 0 if answers else prompts),
        hides_tokens(body), _needs(parameters, service_class, tenant),
        parameters.get("session") or "", tenant.name, parameters.get("deadline_s"), prompt.parts,
        adapter)


def _not_json(error: orjson.JSONDecodeError) -> ServiceError:
    return ServiceError(400, f"the body is not JSON ({error})", "invalid_json")


def _models(name: object, offer: Offer, tenant: Tenant
            ) -> tuple[tuple[str, ...] | None, Alias, Adapter | None]:
    """Return the models that may answer (None: any), the alias that names them, and the adapter."""
    name = tenant.model or AUTO if name is None else name
    if not isinstance(name, str):
        raise ServiceError(400, f"model: expected a name, found {quote(name)}", "invalid_value",
                           "model")
    own = tenant.models
    if name in offer.models:
        if own is not None and name not in own:
            raise _not_allowed(f"model {name!r}", offer, tenant)
        return (name,), _EVERY_MODEL, None
    if name in offer.adapters:
        if own is not None and name not in own:
            raise _not_allowed(f"adapter {name!r}", offer, tenant)
        model, adapter = offer.adapters[name]
        return (model,), Alias(None, RequestParameters(adapter.service_class)), adapter
    alias = offer.aliases.get(name, _EVERY_MODEL if name == AUTO else None)
    if alias is None:
        raise ServiceError(404, f"no model {name[:80]!r}{nearest(name[:80], offer.names(tenant))}",
                           "model_not_found", "model")
    able = tuple(model for model in offer.models
                 if (own is None or model in own)
                 and (alias.models is None or model in alias.models))
    if not able:
        raise _not_allowed(f"any model of {name!r}", offer, tenant)
    return (None if 1 < len(able) == len(offer.models) else able), alias, None


def _not_allowed(what: str, offer: Offer, tenant: Tenant) -> ServiceError:
    return ServiceError(403, f"tenant {tenant.name!r} may not use {what}"
                             f"{one_of(offer.names(tenant))}", "model_not_allowed", "model")


def _service_class(parameters: Found, offer: Offer, tenant: Tenant) -> ServiceClass:
    name, allowed = parameters.get("service_class"), tenant.service_classes
    if name is None:
        found = next(one for one in offer.classes.values()
                     if allowed is None or one.name in allowed)
    elif name not in offer.classes:
        place = parameters.places["service_class"]
        raise ServiceError(400, f"{place}: no service class {name[:60]!r}"
                                f"{nearest(name[:60], allowed or offer.classes)}",
                           "unknown_class", place)
    elif allowed is not None and name not in allowed:
        place = parameters.places["service_class"]
        raise ServiceError(403, f"{place}: tenant {tenant.name!r} may not use class {name!r}"
                                f"{one_of(allowed)}", "class_not_allowed", place)
    else:
        found = offer.classes[name]
    deadline_s = parameters.get("deadline_s")
    return found if deadline_s is None else _narrowed(found, deadline_s)


def _narrowed(service_class: ServiceClass, deadline_s: float) -> ServiceClass:
    """Return the class with the deadline for its last token, and for its first token if that was
    later."""
    slo = service_class.slo
    e2e_s = deadline_s if slo.e2e_s is None else min(slo.e2e_s, deadline_s)
    ttft_s = None if slo.ttft_s is None else min(slo.ttft_s, e2e_s)
    return replace(service_class, slo=replace(slo, e2e_s=e2e_s, ttft_s=ttft_s))


def _needs(parameters: Found, service_class: ServiceClass, tenant: Tenant) -> Needs:
    min_quality, max_cost = parameters.get("min_quality"), parameters.get("max_cost")
    # A request may demand confidentiality beyond its class and tenant, and cannot waive theirs.
    confidential = (parameters.get("confidential") or service_class.confidential
                    or tenant.confidential)
    if min_quality is None and max_cost is None and not confidential:
        return NO_NEEDS
    return Needs(min_quality, max_cost, bool(confidential))


def _kind(path: str, body: Mapping[str, Any]) -> Kind:
    """Return the kind of a request. An engine ignores the fields of the other kinds."""
    if path:
        return "chat" if "chat" in path else "embeddings" if "embed" in path else "completion"
    if "messages" in body:
        return "chat"
    return "embeddings" if "input" in body and "prompt" not in body else "completion"


def _limit(body: Mapping[str, Any], kind: Kind) -> int | None:
    """Return the token limit of one answer. Of two limits the higher is taken, since engines differ
    in which of them they obey. Completions know only ``max_tokens``, so ``max_completion_tokens``
    alone limits nothing there."""
    found: list[int] = []
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ServiceError(400, f"{name}: expected a whole number of at least 1, found "
                                    f"{quote(value)}", "invalid_value", name)
        found.append(value)
    if kind != "chat" and body.get("max_tokens") is None:
        return None
    return max(found, default=None)


def _num_prompts(body: Mapping[str, Any], kind: Kind) -> int:
    """Return the number of prompts in a request. A text counts as one, and so does a list of token
    ids."""
    if kind == "chat":
        return 1
    prompt = body.get("input" if kind == "embeddings" else "prompt")
    several = isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list | dict)
    return min(len(prompt), _MOST_ANSWERS) if several and isinstance(prompt, list) else 1


def _answers_each(body: Mapping[str, Any], kind: Kind) -> int:
    """Return the number of answers to each prompt, as the request states it; the engine validates
    it. Embedding requests have none."""
    asked = [1]
    for name in ("n", "best_of"):
        value = body.get(name)
        if value is None:
            continue
        # Some engines read "3" or 3.0 as 3, while the budget would reserve for one answer.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ServiceError(400, f"{name}: expected a whole number, found {quote(value)}",
                               "invalid_value", name)
        asked.append(value)
    if kind == "embeddings":
        return 0
    return min(max(asked), _MOST_ANSWERS)
