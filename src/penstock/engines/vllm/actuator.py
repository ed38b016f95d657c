"""A vLLM server that is put to sleep and woken (vllm.entrypoints.serve.dev.sleep, read in 0.32).

The server always runs, with ``--enable-sleep-mode`` and VLLM_SERVER_DEV_MODE=1. Level 1 keeps the
weights in host memory. Level 2 discards them, and they are read again before the KV cache is
allocated (``reload_weights`` of the workers, by /collective_rpc).
"""

import aiohttp

from penstock.engines.actuators.http import EngineUnreachableError, ServerActuator
from penstock.engines.actuators.protocol import ActuatorError


class VllmActuator(ServerActuator):
    """A model with its own server at ``url``."""

    def __init__(self, session: aiohttp.ClientSession, url: str, sleep_level: int = 1) -> None:
        super().__init__(session, url)
        self._level = sleep_level

    async def load(self) -> None:
        if await self._sleeps():
            if self._level == 1:
                await self._calls.post("/wake_up")
            else:
                await self._calls.post("/wake_up?tags=weights")
                await self._calls.post("/collective_rpc", {"method": "reload_weights"})
                await self._calls.post("/wake_up?tags=kv_cache")
            if await self._sleeps():
                raise ActuatorError(f"{self._calls.url} still sleeps after it was woken")
        self._loaded = True

    async def unload(self) -> None:
        self._loaded = False
        try:
            if not await self._sleeps():
                await self._calls.post(f"/sleep?level={self._level}")
        except EngineUnreachableError:
            return  # without a server, nothing is loaded
        if not await self._sleeps():
            raise ActuatorError(f"{self._calls.url} does not sleep after it was put to sleep")

    async def prefetch(self) -> None:
        """Do nothing: weights of level 1 are already in host memory, and those of level 2 are read
        from disk."""

    async def _held(self) -> bool:
        return not await self._sleeps()

    async def _sleeps(self) -> bool:
        try:
            answer = await self._calls.get("/is_sleeping")
            return bool(answer["is_sleeping"])
        except EngineUnreachableError:
            raise
        except ActuatorError as error:
            hint = ("; it needs --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
                    if "answered 404" in str(error) else "")
            raise ActuatorError(f"{error}{hint}") from error
        except (TypeError, KeyError) as error:
            raise ActuatorError(f"{self._calls.url}/is_sleeping does not report a state") from error
