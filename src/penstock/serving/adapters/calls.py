"""Calls of engines that load, unload and list adapters."""

from typing import Any

import aiohttp
import orjson

from penstock.engines.client.state import EngineState
from penstock.fleet.values_adapters import Adapter
from penstock.serving.adapters.shelf import AdapterError

_LOAD_S, _LIST_S = 300.0, 10.0
_MOST_BYTES = 4 * 2**20
_NOT_THERE = (404, 405, 501)


class AdapterCalls:
    """vLLM's and SGLang's ways to load adapters at run time."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def load(self, engine: EngineState, adapter: Adapter) -> None:
        """Load an adapter. One that is loaded already is no error. Raises AdapterError."""
        status, said = await self._post(engine, "load_lora_adapter", {
            "lora_name": adapter.served_name, "lora_path": adapter.path})
        if status == 200 or (status == 400 and _is_duplicate(said)):
            return
        raise AdapterError(f"could not load {adapter.name} (status {status})", said=said[:300])

    async def unload(self, engine: EngineState, name: str) -> None:
        """Unload an adapter. One that is not loaded is no error. Raises AdapterError."""
        status, said = await self._post(engine, "unload_lora_adapter", {"lora_name": name})
        if status != 200 and not (status in (400, 404) and "not" in said.lower()):
            raise AdapterError(f"could not unload {name} (status {status})", said=said[:300])

    async def listed(self, engine: EngineState) -> dict[str, str | None]:
        """Return the adapters that an engine has loaded by their names, each with its path as far
        as the engine tells. Raises AdapterError."""
        try:
            async with self._session.get(f"{engine.facts.url}/v1/models",
                                         timeout=aiohttp.ClientTimeout(total=_LIST_S)) as answer:
                cards = orjson.loads(await _body(answer))["data"] if answer.status == 200 else None
                if cards is None:
                    raise AdapterError(f"did not list its models (status {answer.status})")
                # Where no model has a parent, an adapter is a name beside the model's own.
                own = engine.facts.served_as or engine.facts.model
                tells = any("parent" in one for one in cards)
                return {str(one["id"]): one.get("root") for one in cards
                        if (one.get("parent") if tells else one["id"] != own)}
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AdapterError(f"did not list its models ({type(error).__name__})") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AdapterError("did not list its models as OpenAI's API does") from error

    async def _post(self, engine: EngineState, verb: str, body: dict[str, Any]
                    ) -> tuple[int, str]:
        """Return status and text of an order. vLLM has it under /v1, SGLang does not."""
        try:
            for path in (f"/v1/{verb}", f"/{verb}"):
                async with self._session.post(
                        f"{engine.facts.url}{path}", data=orjson.dumps(body),
                        headers={"Content-Type": "application/json"}, allow_redirects=False,
                        timeout=aiohttp.ClientTimeout(total=_LOAD_S)) as answer:
                    status, said = answer.status, (await _body(answer)).decode(errors="replace")
                if status not in _NOT_THERE or "lora" in said.lower():
                    break  # vLLM's 404 is about the adapter
            else:
                said = "it has no such endpoint; vLLM needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AdapterError(f"did not answer {verb} ({type(error).__name__})") from error
        return status, " ".join(said.split())


def _is_duplicate(said: str) -> bool:
    return "already" in said.lower()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    found = b""
    while len(found) < _MOST_BYTES and (part := await answer.content.readany()):
        found += part
    return found
