"""Hashes of a prompt's tokens, as the live index names the blocks that engines hold."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import aiohttp
import orjson
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.engines.client.state import EngineState
from penstock.engines.engine import engine_of
from penstock.engines.kv_events.keys import MOST_TOKENS, prompt_keys
from penstock.policy.route.live_index import LiveIndex
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.forecasts import ExactPrefix

GIVEN, TOKENIZED, ESTIMATED = "given", "tokenized", "estimated"
"""Where the tokens of a prompt come from: the request has them; an engine's /tokenize; nowhere, so
that the router estimates by the text what replicas hold."""

_TOKENIZE_S = 0.5
_PAUSE_S = 30.0  # without /tokenize of an engine that has refused or was too slow
_MOST_REPLY_BYTES = 4 * 2**20
_TOKENIZED_FIELDS = ("messages", "tools", "chat_template", "chat_template_kwargs",
                     "add_generation_prompt", "continue_final_message", "add_special_tokens")


class ExactPrefixes(Collector):
    """Finds the tokens of prompts for models whose engines report their blocks, and counts where
    the tokens came from."""

    def __init__(self, index: LiveIndex, engines: Sequence[EngineState],
                 session: aiohttp.ClientSession,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._engines = engines
        self._session = session
        self._clock = clock
        self._paused: dict[str, float] = {}
        self._turn = 0
        self._counts: Counter[str] = Counter(dict.fromkeys((GIVEN, TOKENIZED, ESTIMATED), 0))

    async def of(self, ask: Ask, salt: str | None = None) -> ExactPrefix | None:
        """Return the prefix of a prompt by its tokens, None where they are unknown or no engine
        that may answer reports its blocks. ``salt`` is the one that engines get."""
        followed = [one for one in self._engines if one.facts.kv_events is not None
                    and (ask.models is None or one.facts.model in ask.models)]
        # Engines that report tokens are never attested, so a confidential prompt is not for them.
        if not followed or ask.needs.confidential:
            return None
        size, tokens = self._block_tokens(followed), None
        # An engine that does not know the salt keeps equal prompts of all tenants as one.
        if size and (salt is None or _salts(followed)):
            tokens, origin = await self._tokens(ask, followed)
        if tokens is None:
            self._counts[ESTIMATED] += 1
            return None
        self._counts[origin] += 1
        own = ask.body.get("cache_salt")
        adapter = "" if ask.adapter is None else ask.adapter.served_name
        return ExactPrefix(max(1, len(tokens)), prompt_keys(
            tokens, size, adapter, salt or (own if isinstance(own, str) else "")), size)

    async def _tokens(self, ask: Ask, followed: Sequence[EngineState]
                      ) -> tuple[Sequence[int] | None, str]:
        parts = ask.prompt_parts
        if len(parts) == 1 and not isinstance(parts[0], str):
            return (parts[0] if _are_tokens(parts[0][:MOST_TOKENS]) else None), GIVEN
        body, now_s = _to_tokenize(ask), self._clock()
        # Other models have other tokens.
        if body is None or len({one.facts.model for one in followed}) > 1:
            return None, ESTIMATED
        self._turn += 1
        able = [one for one in followed if one.unavailable(now_s) is None
                and self._paused.get(one.facts.url, now_s) <= now_s]
        if not able:
            return None, ESTIMATED
        return await self._tokenized(body, able[self._turn % len(able)]), TOKENIZED

    def _block_tokens(self, followed: Sequence[EngineState]) -> int:
        """Return the tokens of most engines' blocks, 0 where none are known."""
        sizes = Counter(size for one in followed
                        if (size := self._index.block_tokens(one.facts.replica_id)))
        return max(sizes, key=lambda size: (sizes[size], -size), default=0)

    async def _tokenized(self, body: dict[str, Any], engine: EngineState) -> list[int] | None:
        """Return the tokens of a prompt by an engine's /tokenize, None where it gives none. An
        engine that lacks /tokenize, or answers late, is not asked for a while."""
        body = {"model": engine.facts.served_as or engine.facts.model, **body}
        found, is_able = None, True
        try:
            async with self._session.post(
                    f"{engine.facts.url}/tokenize", data=orjson.dumps(body),
                    headers={"Content-Type": "application/json"}, allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=_TOKENIZE_S)) as answer:
                content = await answer.content.read(_MOST_REPLY_BYTES)
                while answer.status == 200 and not answer.content.at_eof() \
                        and len(content) < _MOST_REPLY_BYTES:
                    content += await answer.content.readany()
            is_able = answer.status not in (404, 405, 501)
            found = orjson.loads(content).get("tokens") if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError):
            is_able = False
        if not is_able:
            self._paused[engine.facts.url] = self._clock() + _PAUSE_S
        return found if isinstance(found, list) and _are_tokens(found) else None

    def collect(self) -> Iterator[Metric]:
        """Return the number of prompts by where their tokens came from."""
        prompts = CounterMetricFamily("penstock:kv_prompts", "Prompts for engines that report "
                                      "their blocks, by where their tokens came from",
                                      labels=("tokens",))
        for origin, num in self._counts.items():
            prompts.add_metric((origin,), num)
        yield prompts


def _are_tokens(found: list[Any]) -> bool:
    return all(type(one) is int and 0 <= one < 1 << 32 for one in found)


def _to_tokenize(ask: Ask) -> dict[str, Any] | None:
    """Return the body for /tokenize, None for a request that has no prompt or several."""
    body = {name: ask.body[name] for name in _TOKENIZED_FIELDS if name in ask.body}
    if "messages" not in body:
        prompt = ask.body.get("prompt")
        prompt = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
        if not isinstance(prompt, str):
            return None
        body["prompt"] = prompt
    return body


def _salts(engines: Sequence[EngineState]) -> bool:
    """Whether the engines keep prompts of different salts apart."""
    return all(getattr(engine_of(one.kind).dialect, "salts_cache", False) for one in engines)
