"""Counters of a group's live engines, summed over engines that come and go."""

import asyncio
from collections.abc import Iterable
from operator import add, lt, sub
from typing import NamedTuple

import aiohttp

from penstock.engines.client.counters_text import EngineCounters, read_counters
from penstock.policy.scale.values import E2E_BOUNDS_S, TPOT_BOUNDS_S, TTFT_BOUNDS_S, Totals

_TIMEOUT_S = 2.0
_MOST_BYTES = 8 * 2**20


class _Counts(NamedTuple):
    """Numbers that only rise while an engine runs: counters, buckets and sums."""

    counters: tuple[int, ...]
    ttft: tuple[int, ...]
    tpot: tuple[int, ...]
    e2e: tuple[int, ...]
    sums_s: tuple[float, ...]


NONE_YET = _Counts((0,) * 4, (0,) * (len(TTFT_BOUNDS_S) + 1), (0,) * (len(TPOT_BOUNDS_S) + 1),
                   (0,) * (len(E2E_BOUNDS_S) + 1), (0.0,) * 2)
NO_TOTALS = Totals(0, 0, 0, NONE_YET.ttft, NONE_YET.tpot, 0.0, 0.0, 0, NONE_YET.e2e)
"""Sums before any engine has answered."""


class TotalsMeter:
    """Sums of a group's engines. An engine counts from its first reading on, and anew where its
    counters fell because the engine was started again."""

    def __init__(self) -> None:
        self._last: dict[str, _Counts] = {}
        self._total = NONE_YET
        self._is_known = False

    def add(self, counters: dict[str, EngineCounters | None]) -> None:
        """Take the readings of the present engines by URL, None for an engine that does not
        answer."""
        found = {url: _counts(one) for url, one in counters.items() if one is not None}
        for url, now in found.items():
            before = self._last.get(url, now)
            if any(map(lt, now.counters, before.counters)) or sum(now.ttft) < sum(before.ttft):
                before = NONE_YET
            self._total = _Counts(*(tuple(map(add, total, map(sub, new, old))) for total, new, old
                                    in zip(self._total, now, before, strict=True)))
        self._last = {url: found.get(url) or self._last[url] for url in counters
                      if url in found or url in self._last}
        self._is_known = bool(found)

    def totals(self) -> Totals | None:
        """Return the sums, None where no engine answered."""
        if not self._is_known:
            return None
        total = self._total
        finished, prompt, output, cached = total.counters
        ttft_sum_s, tpot_sum_s = total.sums_s
        return Totals(finished, prompt, output, total.ttft, total.tpot, ttft_sum_s, tpot_sum_s,
                      cached, total.e2e)


def _counts(one: EngineCounters) -> _Counts:
    return _Counts((one.num_finished, one.prompt_tokens, one.output_tokens, one.cached_tokens),
                   one.ttft.counts(TTFT_BOUNDS_S), one.tpot.counts(TPOT_BOUNDS_S),
                   one.e2e.counts(E2E_BOUNDS_S), (one.ttft.sum_s, one.tpot.sum_s))


class CountersReader:
    """Reads the counters of engines over HTTP, all at once."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read(self, urls: Iterable[str]) -> dict[str, EngineCounters | None]:
        """Return the counters by URL, None for an engine that does not answer in time."""
        unique = list(dict.fromkeys(urls))
        texts = await asyncio.gather(*map(self._text, unique))
        return await asyncio.to_thread(_parsed, unique, texts)

    async def _text(self, url: str) -> bytes:
        try:
            async with self._session.get(
                    f"{url}/metrics", timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                    allow_redirects=False) as answer:
                if answer.status != 200:
                    return b""
                found = b""
                while len(found) < _MOST_BYTES and (part := await answer.content.readany()):
                    found += part
                return found
        except (aiohttp.ClientError, TimeoutError, OSError):
            return b""


def _parsed(urls: list[str], texts: list[bytes]) -> dict[str, EngineCounters | None]:
    return {url: read_counters(text) for url, text in zip(urls, texts, strict=True)}
