"""A model that llama.cpp's server loads and unloads as a router (its README, "Using multiple
models"): started without a model, best with ``--no-models-autoload`` and ``--models-max 0``."""

from typing import Any

import aiohttp

from penstock.engines.actuators.http import EngineUnreachableError, ServerActuator, pause
from penstock.engines.actuators.protocol import ActuatorError

_HELD = ("loaded", "loading", "sleeping")


class LlamaServerActuator(ServerActuator):
    """The model that the router at ``url`` lists as ``name``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        super().__init__(session, url)
        self._name = name

    async def load(self) -> None:
        if (await self._status()).get("value") not in _HELD:
            await self._calls.post("/models/load", {"model": self._name})
        while (status := await self._status()).get("value") != "loaded":
            if status.get("failed"):
                raise ActuatorError(f"{self._name} ended with exit code "
                                    f"{status.get('exit_code')} while it was loaded")
            await pause()
        self._loaded = True

    async def unload(self) -> None:
        self._loaded = False
        try:
            if (await self._status()).get("value") in _HELD:
                await self._calls.post("/models/unload", {"model": self._name})
            while (await self._status()).get("value") in _HELD:
                await pause()
        except EngineUnreachableError:
            return

    async def _held(self) -> bool:
        return bool((await self._status()).get("value") == "loaded")

    async def _status(self) -> dict[str, Any]:
        """Return the router's status of the model. Raises ActuatorError for an unknown model."""
        answer = await self._calls.get("/models")
        models = answer.get("data") if isinstance(answer, dict) else None
        for one in models if isinstance(models, list) else ():
            if isinstance(one, dict) and one.get("id") == self._name:
                status = one.get("status")
                if isinstance(status, dict):
                    return status
                raise ActuatorError(f"{self._calls.url}/models reports no status of {self._name}; "
                                    "it must be started as a router, without a model")
        raise ActuatorError(f"{self._calls.url} has no model {self._name}")
