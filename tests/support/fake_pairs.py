"""Engines that share requests as SGLang's and TensorRT-LLM's do, emulated over HTTP.

They keep the protocols, refuse what the real engines refuse, and note what they were asked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from support.fake_http_engines import DONE, http_engine, token, usage

MODEL = "llama-3-8b"
_GLOBAL_IDS = 1 << 42  # TensorRT-LLM's numbers of requests that several servers know begin here


def said(prompt: str, num_tokens: int) -> str:
    """The answer to a prompt, whoever computes it."""
    return "".join(f" w{(len(prompt) + i) % 97}" for i in range(num_tokens))


async def _answered(http: web.Request, asked: dict[str, Any], prompt: str, text: str,
                    **choice: Any) -> web.StreamResponse:
    finish = {"finish_reason": "length", **choice}
    counts = usage(len(prompt) // 4, text.count(" "))
    if not asked.get("stream"):
        return web.json_response({
            "object": "text_completion", "usage": counts, **finish.pop("more", {}),
            "choices": [{"index": 0, "text": text, **finish}]})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    words = text.split(" ")[1:]
    for i, word in enumerate(words):
        await response.write(token(f" {word}", "length" if i == len(words) - 1 else None))
    await response.write(b"".join([token("", None, usage=counts), DONE]))
    return response


class SglangPair:
    """Engines of both roles. One that decodes waits in the room of a request until the one that
    prefills has come there, and the other way round."""

    def __init__(self) -> None:
        self.asked: dict[str, list[dict[str, Any]]] = {"prefill": [], "decode": []}
        self.abandoned = 0
        self.fails = False
        self._rooms: dict[tuple[str, int, int], asyncio.Barrier] = {}

    @asynccontextmanager
    async def engine(self, role: str) -> AsyncIterator[str]:
        """The URL of an engine."""
        async def answer(http: web.Request) -> web.StreamResponse:
            asked = await http.json()
            self.asked[role].append(asked)
            if role == "prefill" and self.fails:
                return web.json_response({"error": {"message": "out of memory"}}, status=500)
            room = asked.get("bootstrap_room")
            if room is None:
                return web.json_response({"error": {"message": "Disaggregated request received "
                                                               "without bootstrap room id"}}, 400)
            place = asked["bootstrap_host"], asked["bootstrap_port"], room
            try:
                await self._rooms.setdefault(place, asyncio.Barrier(2)).wait()
            except asyncio.CancelledError:
                self.abandoned += 1
                raise
            num = 1 if role == "prefill" else asked["max_tokens"]
            return await _answered(http, asked, asked["prompt"], said(asked["prompt"], num))

        async with http_engine(answer, MODEL) as url:
            yield url


class TensorRtLlmPair:
    """Engines of both roles. A context engine keeps the state of a request until a generation
    engine takes it; requests without parameters are served whole."""

    def __init__(self) -> None:
        self.asked: dict[str, list[dict[str, Any]]] = {"prefill": [], "decode": []}
        self.ends_at_once = False
        self.states: dict[int, str] = {}

    @asynccontextmanager
    async def engine(self, role: str) -> AsyncIterator[str]:
        """The URL of an engine."""
        async def answer(http: web.Request) -> web.StreamResponse:
            asked = await http.json()
            self.asked[role].append(asked)
            found = asked.get("disaggregated_params")
            if found is None:
                return await _answered(http, asked, asked["prompt"],
                                       said(asked["prompt"], asked["max_tokens"]))
            if found["request_type"] == "context_only":
                return await self._context(http, asked, found)
            prompt = self.states.pop(found["ctx_request_id"], None)
            if prompt is None or found["disagg_request_id"] < _GLOBAL_IDS or \
                    asked["prompt"] != [*prompt.encode()]:
                return web.json_response({"error": {"message": "unknown context request"}}, 400)
            text = said(prompt, asked["max_tokens"])
            assert text.split(" ")[1] == found["first_gen_tokens"][0]
            return await _answered(http, asked, prompt, text)

        async with http_engine(answer, MODEL) as url:
            yield url

    async def _context(self, http: web.Request, asked: dict[str, Any],
                       found: dict[str, Any]) -> web.StreamResponse:
        assert not asked.get("stream")
        assert found["disagg_request_id"] >= _GLOBAL_IDS
        prompt, name = asked["prompt"], len(self.asked["prefill"])
        first = said(prompt, 1)
        if self.ends_at_once:
            return await _answered(http, asked, prompt, first, finish_reason="stop")
        self.states[name] = prompt
        params = {"request_type": "context_only", "first_gen_tokens": [first.strip()],
                  "ctx_request_id": name, "encoded_opaque_state": "c3RhdGU=", "draft_tokens": None,
                  "disagg_request_id": found["disagg_request_id"]}
        return await _answered(http, asked, prompt, first, disaggregated_params=params,
                               more={"prompt_token_ids": [*prompt.encode()]})
