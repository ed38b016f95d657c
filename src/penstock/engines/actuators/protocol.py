"""The contract of an actuator, which loads and unloads a model on one device."""

from typing import Protocol


class ActuatorError(Exception):
    """An engine did not carry out an order, or does not report its models. The message is one
    line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split())[:400])


class Actuator(Protocol):
    """One model on one device.

    ``load`` and ``unload`` never run at the same time. Either may be cancelled when it takes too
    long. An ``unload`` after a cancelled load must remove everything the load left.
    """

    @property
    def url(self) -> str | None:
        """Base URL of the model's OpenAI API, without ``/v1``; None while the model is not
        loaded."""
        ...

    async def load(self) -> None:
        """Load the model and return once it answers. Raises ActuatorError."""
        ...

    async def unload(self) -> None:
        """Unload the model and free the device's memory. Does nothing where nothing is loaded.
        Raises ActuatorError."""
        ...

    async def is_loaded(self) -> bool:
        """Whether the engine holds the model now, by its own report. An engine that does not run
        holds nothing. Raises ActuatorError where the engine does not report."""
        ...

    async def prefetch(self) -> None:
        """Prefetch the model while other models run. Does nothing where the engine cannot
        prefetch."""
        ...

    async def close(self) -> None:
        """Stop everything that the actuator started and that no other process supervises. This is
        the last call."""
        ...
