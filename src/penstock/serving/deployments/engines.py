"""Engines of deployments: start, request, stop."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from penstock.serving.deployments.deployments import Deployment, Instance


class EngineError(Exception):
    """An engine did not start, died, or answered incorrectly. The message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:400])


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of an engine. ``service_s`` runs from the request to the last token. Token counts are
    None where the engine reports none. ``simulated`` answers come from no engine."""

    text: str
    service_s: float
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    simulated: bool = False


class Engines(Protocol):
    """Starts, checks, queries and stops the engines of deployments."""

    async def start(self, one: Deployment, begun: Callable[[Instance], None]) -> None:
        """Start an engine and return once it is healthy. ``begun`` gets the instance before the
        engine runs, so that it can be found again after a crash. Raises EngineError, and the caller
        must then stop the instance. Raises InputError for a deployment that cannot be started at
        all."""
        ...

    def is_alive(self, instance: Instance) -> bool:
        """Whether the instance still exists, in whichever process it was started."""
        ...

    async def is_healthy(self, one: Deployment) -> bool:
        """Whether a deployment's engine answers health checks."""
        ...

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        """Return one completion. The request has ``prompt`` or ``messages``, ``max_tokens`` and
        other fields of OpenAI's API. Raises EngineError."""
        ...

    async def stop(self, instance: Instance, grace_s: float) -> None:
        """End an instance and its child processes: by a signal, then by a kill after ``grace_s``.
        Does nothing where the instance is gone."""
        ...


class SimulatedEngines:
    """Deployments that answer after their estimated latency, without an engine.

    ``sleep`` lets time pass. Loading takes the deployment's option ``load_s``, else this
    ``load_s``. An instance lives until ``stop``, or until ``kill``, which simulates a crash. With
    ``lasting``, instances that an earlier process recorded are alive.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[object]], load_s: float = 0.0,
                 *, lasting: bool = False) -> None:
        self._sleep = sleep
        self._load_s = load_s
        self._lasting = lasting
        self._numbers = count()
        self._gone: set[str] = set()
        self.living: set[str] = set()

    async def start(self, one: Deployment, begun: Callable[[Instance], None]) -> None:
        url = f"sim:{one.name}:{next(self._numbers)}"
        begun(Instance(url))
        self.living.add(url)
        await self._sleep(one.options.get("load_s", self._load_s))
        if url not in self.living:
            raise EngineError("it died while it started")

    def is_alive(self, instance: Instance) -> bool:
        if self._lasting:
            return instance.url not in self._gone
        return instance.url in self.living

    async def is_healthy(self, one: Deployment) -> bool:
        return one.instance is not None and self.is_alive(one.instance)

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        assert one.instance is not None
        latency = one.expected.latency_s if one.expected else None
        intent = one.intent
        tokens = int(request.get("max_tokens") or (intent.output_tokens if intent else 1))
        usual = intent.output_tokens if intent else tokens
        service_s = (latency.value if latency else 0.0) * tokens / usual
        await self._sleep(service_s)
        if not self.is_alive(one.instance):
            raise EngineError("it died while it answered")
        return Reply("", service_s, None, tokens, "length", simulated=True)

    async def stop(self, instance: Instance, grace_s: float) -> None:
        self.kill(instance)

    def kill(self, instance: Instance) -> None:
        """Remove an instance, as a crash would."""
        self.living.discard(instance.url)
        self._gone.add(instance.url)
