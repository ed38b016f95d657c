"""A model that an Ollama server loads and unloads (docs.ollama.com, FAQ and /api/ps).

A request without a prompt loads its model, and ``keep_alive`` says how long it stays loaded: -1
forever, 0 unloads it. Requests of other clients can also load and unload models, so the server is
asked for its loaded models.
"""

import aiohttp

from penstock.engines.actuators.http import EngineUnreachableError, ServerActuator, pause
from penstock.engines.actuators.protocol import ActuatorError
from penstock.engines.ollama.dialect import holds_model


class OllamaActuator(ServerActuator):
    """The model that the server at ``url`` calls ``name``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        super().__init__(session, url)
        self._name = name

    async def load(self) -> None:
        await self._ask(keep_alive=-1)
        if not await self.is_loaded():
            raise ActuatorError(f"{self._calls.url} did not keep {self._name}; is there room for "
                                "it beside what it holds (OLLAMA_MAX_LOADED_MODELS)?")

    async def unload(self) -> None:
        self._loaded = False
        try:
            if await self._held():
                await self._ask(keep_alive=0)
            while await self._held():
                await pause()
        except EngineUnreachableError:
            return

    async def _ask(self, keep_alive: int) -> None:
        await self._calls.post("/api/generate", {"model": self._name, "keep_alive": keep_alive,
                                                 "stream": False})

    async def _held(self) -> bool:
        return holds_model(await self._calls.get("/api/ps"), self._name)
