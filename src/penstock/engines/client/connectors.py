"""Protocols of engines that share a request: the first computes the prompt, the second fetches the
KV cache and answers.

Fields are those of vLLM's pull connectors (NIXL; vllm 0.32,
``distributed/kv_transfer/kv_connector/v1/nixl``), of SGLang's router
(``sgl-model-gateway/src/routers/http/pd_router``) and of TensorRT-LLM's
(NVIDIA/TensorRT-LLM@319f511, ``tensorrt_llm/serve/openai_disagg_service.py``).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from penstock.fleet.values_disaggregation import BOOTSTRAP_PORT

KEY_BITS = 62

_LIMITS = ("max_tokens", "max_completion_tokens")
_NIXL = "kv_transfer_params"
_TENSORRT = "disaggregated_params"


class Meeting(NamedTuple):
    """One attempt to have two engines serve a request. ``key`` is a number of 62 bits that no other
    attempt has. ``host`` and ``port`` are where the first engine waits for the second."""

    key: int
    host: str
    port: int = BOOTSTRAP_PORT


class Connector(Protocol):
    """The protocol of one kind of engine.

    ``together``: both engines are asked at once, as each waits for the other. Otherwise the second
    is asked once the first has answered. ``needs_both``: an engine with a role cannot serve a whole
    request.
    """

    @property
    def together(self) -> bool: ...

    @property
    def needs_both(self) -> bool: ...

    def first(self, body: Mapping[str, Any], meeting: Meeting) -> dict[str, Any]:
        """Return the body that asks the first engine for the prompt alone, in one piece."""

    def second(self, meeting: Meeting, answer: Any) -> Mapping[str, Any]:
        """Return the fields that replace those of the body for the second engine. ``answer`` is the
        first engine's document, None where both are asked at once. Raises ValueError for an answer
        without what the second engine must know."""


class NixlConnector:
    """vLLM's pull connectors: the first engine answers one token with the place of its blocks."""

    together = False
    needs_both = False

    def first(self, body: Mapping[str, Any], meeting: Meeting) -> dict[str, Any]:
        limits = [name for name in _LIMITS if name in body] or ["max_tokens"]
        return {**_in_one_piece(body), **dict.fromkeys(limits, 1), _NIXL: {
            "do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
            "remote_block_ids": None, "remote_host": None, "remote_port": None}}

    def second(self, meeting: Meeting, answer: Any) -> Mapping[str, Any]:
        found = answer.get(_NIXL) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            return {_NIXL: found}
        if _has_ended(answer):
            return {}
        raise ValueError(f"answered without {_NIXL}: it runs without a KV connector (vLLM: "
                         "--kv-transfer-config)")


class SglangConnector:
    """SGLang's bootstrap: both engines get the same request and meet in a room of the first."""

    together = True
    needs_both = True

    def first(self, body: Mapping[str, Any], meeting: Meeting) -> dict[str, Any]:
        return {**_in_one_piece(body), **self.second(meeting, None)}

    def second(self, meeting: Meeting, answer: Any) -> Mapping[str, Any]:
        return {"bootstrap_host": meeting.host, "bootstrap_port": meeting.port,
                "bootstrap_room": meeting.key}


class TensorRtLlmConnector:
    """TensorRT-LLM's context first: the first engine answers with the first token, the tokens of
    the prompt, and the state that the second engine needs."""

    together = False
    needs_both = False

    def first(self, body: Mapping[str, Any], meeting: Meeting) -> dict[str, Any]:
        return {**_in_one_piece(body), _TENSORRT: {"request_type": "context_only",
                                                   "disagg_request_id": _global_id(meeting)}}

    def second(self, meeting: Meeting, answer: Any) -> Mapping[str, Any]:
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not all(isinstance(one, dict) for one in choices):
            raise ValueError("answered without choices")
        if len(choices) != 1 or _has_ended(answer):
            return {}
        found = choices[0].get(_TENSORRT)
        if not isinstance(found, dict) or found.get("ctx_request_id") is None:
            raise ValueError(f"answered without {_TENSORRT}: it runs without a "
                             "cache_transceiver_config")
        shared = {_TENSORRT: {**found, "request_type": "generation_only",
                              "disagg_request_id": _global_id(meeting)}}
        ids = answer.get("prompt_token_ids")
        if not ids:
            return shared
        # The second engine need not tokenize the prompt again.
        is_chat = "message" in choices[0]
        return {**shared, "prompt_token_ids" if is_chat else "prompt": ids}


def _in_one_piece(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in body.items() if name != "stream_options"},
            "stream": False}


def _has_ended(answer: Any) -> bool:
    """Whether the whole answer ended with its first token: then nothing is handed over, and the
    second engine computes the request itself."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    return choices[0].get("finish_reason") not in (None, "length", "not_finished")


def _global_id(meeting: Meeting) -> int:
    """Return the number of a request that the engines' own numbers, which are small, never have."""
    return 1 << KEY_BITS | meeting.key


NIXL: Connector = NixlConnector()
SGLANG: Connector = SglangConnector()
TENSORRT_LLM: Connector = TensorRtLlmConnector()
