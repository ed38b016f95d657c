"""Queries to the HTTP API of a Prometheus server.

The API's documentation is https://prometheus.io/docs/prometheus/latest/querying/api/. Answers come
from the network: their size, their form and their numbers are checked.
"""

import asyncio
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import aiohttp
import orjson

_MOST_BYTES = 16 * 2**20
_MOST_SHOWN = 200
_TIMEOUT_S = 5.0


class PrometheusError(Exception):
    """Error of a query, with a reason in a few words."""


class Sample(NamedTuple):
    """Last sample of a series: its labels, its metric's name among them as ``__name__``, its time
    in seconds since 1970, and its value, which is NaN or infinite where the series says so."""

    labels: Mapping[str, str]
    at_s: float
    value: float


class Prometheus:
    """Prometheus server at ``url``, asked with ``headers``. Redirects are not followed."""

    def __init__(self, session: aiohttp.ClientSession, url: str,
                 headers: Mapping[str, str]) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._headers = headers

    async def time_s(self) -> float:
        """Return the server's time in seconds since 1970. Raises PrometheusError."""
        kind, result = await self._ask("time()")
        if kind != "scalar":
            raise PrometheusError("answers time() without a number")
        try:
            found = float(result[1])
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise PrometheusError("answers time() without a number") from error
        if not isfinite(found):
            raise PrometheusError("answers time() without a number")
        return found

    async def series(self, query: str) -> list[Sample]:
        """Return the last sample of every series of a query. Ranges have samples with the times of
        their scrapes, instant vectors with the time of the query. Raises PrometheusError."""
        kind, result = await self._ask(query)
        if kind not in ("matrix", "vector"):
            raise PrometheusError("answers without series")
        return await asyncio.to_thread(_samples, kind, result)

    async def _ask(self, query: str) -> tuple[str, Any]:
        """Return the kind and the result of a query."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, body = await self._get(query)
        except TimeoutError as error:
            raise PrometheusError(f"does not answer within {_TIMEOUT_S:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PrometheusError(f"cannot be asked ({type(error).__name__})") from error
        return await asyncio.to_thread(_result, status, body)

    async def _get(self, query: str) -> tuple[int, bytes]:
        async with self._session.get(self._url, params={"query": query}, headers=self._headers,
                                     allow_redirects=False) as answer:
            found = bytearray()
            while part := await answer.content.readany():
                found += part
                if len(found) > _MOST_BYTES:
                    raise PrometheusError(f"sends more than {_MOST_BYTES // 2**20} MiB")
            return answer.status, bytes(found)


def _result(status: int, body: bytes) -> tuple[str, Any]:
    """Return the kind and the result of an answer."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or found.get("status") != "success" or status != 200:
        why = found.get("error") if isinstance(found, dict) else None
        raise PrometheusError(f"answers with status {status}" + (
            f": {_shown(why)}" if isinstance(why, str) else ", and not with a result"))
    data = found.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise PrometheusError("answers without a result")
    return str(data.get("resultType")), data["result"]


def _shown(text: str) -> str:
    """Return the beginning of a foreign text for one line of a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:_MOST_SHOWN])


def _samples(kind: str, result: list[Any]) -> list[Sample]:
    try:
        return [_sample(one["metric"], one["values"][-1] if kind == "matrix" else one["value"])
                for one in result if kind != "matrix" or one["values"]]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise PrometheusError("answers with series of another form") from error


def _sample(labels: Mapping[str, Any], found: Any) -> Sample:
    at_s, value = found
    return Sample({str(key): str(one) for key, one in labels.items()}, float(at_s), float(value))
