"""State of a device: resident models, the running batch, the current load. The simulator and live
engines share this state machine, so neither can exceed the device's memory."""

from collections.abc import Iterable, Sequence
from math import inf

from penstock.policy.multiplex.values import Batch, HostedModel, Load


class NotPossibleError(Exception):
    """A policy requested an action that the device cannot do: a fault of the policy, not of the
    input."""


class Resident:
    """A model on a device: when it was loaded, when it last ended a batch, how many requests it
    runs."""

    __slots__ = ("last_used_s", "num_running", "since_s")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.last_used_s = since_s
        self.num_running = 0


class Device:
    """One device, or a group that always holds the same models.

    ``num_changes`` counts changes of residents and loads, so that derived values can be cached
    until the next change. With ``continuous`` batching, requests may join a model that already runs
    some, and residents run concurrently. Otherwise one batch runs at a time, and all its requests
    end together.
    """

    def __init__(self, index: int, memory_bytes: int, models: Sequence[HostedModel], *,
                 continuous: bool = False, max_residents: int | None = None) -> None:
        self.index = index
        self.memory_bytes = memory_bytes
        self.models = models
        self.continuous = continuous
        self.max_residents = max_residents
        self.residents: dict[int, Resident] = {}
        self.loading: int | None = None
        self.computing: int | None = None
        self.prefetching: int | None = None
        self.num_loads = 0
        self.num_changes = 0
        self.free_bytes = memory_bytes
        """Memory that is not held by weights, by a load in progress or by running requests."""

    def held_bytes(self, models: Iterable[int]) -> int:
        """Return the memory of residents and of their running requests."""
        return sum([self.models[model].size_bytes
                    + self.residents[model].num_running * self.models[model].request_bytes
                    for model in models])

    def room(self, model: int) -> int:
        """Return how many requests of a resident model may start now."""
        one = self.residents.get(model)
        if one is None or (not self.continuous and self.computing is not None):
            return 0
        return min(self.models[model].max_batch - one.num_running, self._fitting(model,
                                                                                 self.free_bytes))

    def most_beside(self, model: int, others: Sequence[int]) -> int:
        """Return the largest batch of a model if it were resident together with ``others``."""
        held = sum(self.models[other].size_bytes for other in others)
        free = self.memory_bytes - held - self.models[model].size_bytes
        return min(self.models[model].max_batch, self._fitting(model, free))

    @property
    def idle(self) -> list[int]:
        """Return the residents that run no requests."""
        return [model for model, one in self.residents.items() if not one.num_running]

    def _fitting(self, model: int, free_bytes: int) -> int:
        each = self.models[model].request_bytes
        if free_bytes < 0:
            return 0
        return free_bytes // each if each else 2**31

    def fits(self, model: int, evict: Sequence[int] = ()) -> bool:
        """Whether a model could be loaded if ``evict`` were dropped."""
        freed = self.held_bytes(evict)
        slots = inf if self.max_residents is None else self.max_residents
        return (self.models[model].size_bytes <= self.free_bytes + freed
                and len(self.residents) - len(evict) + 1 <= slots)

    def begin_load(self, load: Load) -> None:
        """Drop the evicted models and take the memory of the new one. Raises NotPossibleError."""
        if self.loading is not None:
            raise NotPossibleError(f"device {self.index} is already loading {self.loading}")
        if load.model in self.residents:
            raise NotPossibleError(f"model {load.model} is resident on device {self.index}")
        self._check_idle(load.evict)
        if not self.fits(load.model, load.evict):
            raise NotPossibleError(f"model {load.model} does not fit on device {self.index}")
        self.drop(load.evict)
        self.loading = load.model
        self.free_bytes -= self.models[load.model].size_bytes
        self.num_changes += 1

    def drop(self, models: Sequence[int]) -> None:
        """Drop residents. Raises NotPossibleError for models that run requests or are not
        resident."""
        self._check_idle(models)
        for model in models:
            self.lose(model)

    def hold(self, model: int, now_s: float) -> None:
        """Mark a model as resident, after its load or by observation."""
        self.residents[model] = Resident(now_s)
        self.free_bytes -= self.models[model].size_bytes
        self.num_changes += 1

    def lose(self, model: int) -> None:
        """Remove a lost resident, even if it runs requests."""
        self.free_bytes += self.held_bytes((model,))
        del self.residents[model]
        self.num_changes += 1

    def _check_idle(self, models: Sequence[int]) -> None:
        for model in models:
            one = self.residents.get(model)
            if one is None or one.num_running:
                raise NotPossibleError(f"model {model} runs, or is not on device {self.index}")

    def end_load(self, now_s: float, *, loaded: bool) -> None:
        """End the load. A failed load frees its memory."""
        model, self.loading = self.loading, None
        if model is None:
            raise NotPossibleError(f"device {self.index} was not loading")
        self.free_bytes += self.models[model].size_bytes
        self.num_changes += 1
        if loaded:
            self.hold(model, now_s)
            self.num_loads += 1

    def begin_batch(self, batch: Batch) -> None:
        """Start requests. Raises NotPossibleError where the device has no room for them."""
        num = len(batch.requests)
        if not num or num > self.room(batch.model):
            raise NotPossibleError(f"{num} requests of model {batch.model} on device {self.index}: "
                                   f"room for {self.room(batch.model)}")
        self.residents[batch.model].num_running += num
        self.free_bytes -= num * self.models[batch.model].request_bytes
        if not self.continuous:
            self.computing = batch.model

    def end_batch(self, model: int, num_requests: int, now_s: float) -> None:
        """End this many requests of a model."""
        one = self.residents[model]
        if one.num_running < num_requests:
            raise NotPossibleError(f"{num_requests} of {one.num_running} requests ended")
        one.num_running -= num_requests
        self.free_bytes += num_requests * self.models[model].request_bytes
        one.last_used_s = now_s
        if not self.continuous:
            self.computing = None
