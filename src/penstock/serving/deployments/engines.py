"""Engines of deployments: started, asked and stopped."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from penstock.serving.deployments.deployments import Deployment, Instance


class EngineError(Exception):
    """An engine did not start, died, or did not answer as it should; one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:400])


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of an engine. ``service_s`` is from when it was asked to its last token; counts of
    tokens are None where it does not say. ``simulated`` says that no engine was asked."""

    text: str
    service_s: float
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    simulated: bool = False


class Engines(Protocol):
    """Starts, watches, asks and stops the engines of deployments."""

    async def start(self, one: Deployment, begun: Callable[[Instance], None]) -> None:
        """Comes back once the engine is well. ``begun`` is told the instance before it does
        anything, so that it can be found again whatever happens. Raises EngineError; what was begun
        is then for the caller to stop. Raises InputError for what cannot be started at all."""
        ...

    def lives(self, instance: Instance) -> bool:
        """Whether what was started is still there, whoever started it."""
        ...

    async def is_well(self, one: Deployment) -> bool:
        """Whether the engine of a deployment answers."""
        ...

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        """One completion: ``prompt`` or ``messages``, ``max_tokens`` and what else OpenAI's API
        has. Raises EngineError."""
        ...

    async def stop(self, instance: Instance, patience_s: float) -> None:
        """Ends it and all that it started: asked first, killed after ``patience_s``. Harmless where
        nothing is there."""
        ...


class SimulatedEngines:
    """Deployments that answer when their estimate says, without an engine.

    ``sleep`` lets time pass. Loading takes the deployment's option ``load_s``, or this one. What
    was started lives until it is stopped or until ``kill``, which stands for a crash. With
    ``lasting``, whatever an earlier process recorded as started is there.
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

    def lives(self, instance: Instance) -> bool:
        if self._lasting:
            return instance.url not in self._gone
        return instance.url in self.living

    async def is_well(self, one: Deployment) -> bool:
        return one.instance is not None and self.lives(one.instance)

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        assert one.instance is not None
        latency = one.expected.latency_s if one.expected else None
        intent = one.intent
        tokens = int(request.get("max_tokens") or (intent.output_tokens if intent else 1))
        usual = intent.output_tokens if intent else tokens
        service_s = (latency.value if latency else 0.0) * tokens / usual
        await self._sleep(service_s)
        if not self.lives(one.instance):
            raise EngineError("it died while it answered")
        return Reply("", service_s, None, tokens, "length", simulated=True)

    async def stop(self, instance: Instance, patience_s: float) -> None:
        self.kill(instance)

    def kill(self, instance: Instance) -> None:
        """It is gone, as after a crash."""
        self.living.discard(instance.url)
        self._gone.add(instance.url)
