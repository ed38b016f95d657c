"""Options of a load as values of the load generator."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.load.bench import Target
    from penstock.experiment.load.plan import LoadOptions, LoadPlan
    from penstock.fleet.values import Fleet
    from penstock.workload.conversations import Conversation


def target_of(url: str, *, api: str, model: str | None, prompts: str, stream: bool, exact: bool,
              class_to_engine: bool, body: str | None, timeout_s: float,
              first_token_timeout_s: float | None, api_key_file: Path | None,
              shared_prompt_tokens: int = 0, headers: Sequence[str] = (),
              tenant_key_file: Path | None = None) -> "Target":
    """Whom to ask and how. Raises InputError."""
    from penstock.engines.client.address import api_key, base_url, header, tenant_keys
    from penstock.engines.client.client import ClientTimeouts
    from penstock.experiment.load.bench import Target
    from penstock.experiment.load.template import RequestTemplate

    if api not in ("completions", "chat"):
        raise InputError(f"--api {api[:40]!r}: expected completions or chat")
    if prompts not in ("text", "ids"):
        raise InputError(f"--prompts {prompts[:40]!r}: expected text or ids")
    if api == "chat" and prompts == "ids":
        raise InputError("--prompts ids: a chat takes text; expected --api completions")
    manner = RequestTemplate(
        "chat" if api == "chat" else "completions", model, "ids" if prompts == "ids" else "text",
        stream=stream, exact=exact, class_to_engine=class_to_engine, extra=_fields(body))
    patience = ClientTimeouts(first_token_s=first_token_timeout_s, total_s=timeout_s)
    return Target(base_url(url), manner, patience, api_key(os.environ, api_key_file),
                  shared_prompt_tokens, dict(map(header, headers)),
                  {} if tenant_key_file is None else tenant_keys(tenant_key_file))


def _fields(text: str | None) -> Mapping[str, Any]:
    import orjson

    if text is None:
        return {}
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"--body: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InputError("--body: expected a JSON object, such as '{\"temperature\": 0}'")
    return fields


def plan_of(fleet: "Fleet | None", options: "LoadOptions", given: Mapping[str, object],
            closed: bool) -> "LoadPlan":
    """The load of the fleet file, or of options. ``given`` are options by name that a fleet file
    leaves no room for. Raises InputError."""
    from penstock.experiment.load.plan import fleet_plan, option_plan

    if fleet is None:
        return option_plan(options, timed=not closed)
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} stands beside --fleet, whose traffic says it; change that "
                             "with --set")
    return fleet_plan(fleet)


def given_prompts(path: Path | None,
                  besides: Mapping[str, object]) -> "tuple[Conversation, ...]":
    """The prompts of a file; none without one. ``besides`` are options by name that make prompts
    up. Raises InputError."""
    from penstock.workload.conversations import read_conversations

    if path is None:
        return ()
    for name, value in besides.items():
        if value is not None:
            raise InputError(f"{name} stands beside --prompt-file, whose prompts are as they are")
    return read_conversations(path)
