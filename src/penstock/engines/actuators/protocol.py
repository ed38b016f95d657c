"""How one engine is told to hold a model on one device, and to let go of it."""

from typing import Protocol


class ActuatorError(Exception):
    """An engine did not do as told, or does not say what it holds; one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:400])


class Actuator(Protocol):
    """One model on one device.

    ``load`` and ``unload`` are never under way at the same time, and either may be cancelled when
    it takes too long; ``unload`` after that must leave nothing of a load behind.
    """

    @property
    def url(self) -> str | None:
        """Base URL of the model's OpenAI API, without ``/v1``; None while the model is not
        loaded."""
        ...

    async def load(self) -> None:
        """Comes back once the model answers. Raises ActuatorError."""
        ...

    async def unload(self) -> None:
        """Gives the device's memory back; harmless where nothing is loaded. Raises
        ActuatorError."""
        ...

    async def is_loaded(self) -> bool:
        """Whether the engine holds the model now, as it says itself; an engine that nobody runs
        holds nothing. Raises ActuatorError where it does not say."""
        ...

    async def prefetch(self) -> None:
        """Brings the model nearer, beside whatever runs; does nothing where that cannot be."""
        ...

    async def close(self) -> None:
        """The last call: ends what was begun here and nobody else looks after."""
        ...
