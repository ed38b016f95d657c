"""Two worlds that differ only in what is hidden, and the moment at which that shows.

A world is one run of a driver: what policies were shown and decided, and when the truth came out.
"""

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st

from penstock.perf.step_time.protocol import Slopes, StepTimeModel
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Action, Batch
from penstock.sim.multiplex.machine import Machine, Took


class Truth(NamedTuple):
    """Something that takes time: when its end is seen, and what is seen then."""

    end_s: float
    seen: Any


_ROUNDING_S = 1e-9  # moments are sums of seconds here and whole picoseconds in simulators


@dataclass(slots=True)
class World:
    """``decisions`` with what a policy was shown, in order; ``truths`` by source (a replica, a
    host), each in the order in which they began; the ends of requests by id."""

    decisions: list[tuple[float, Any]] = field(default_factory=list)
    truths: dict[Hashable, list[Truth]] = field(default_factory=dict)
    ends_s: dict[int, float] = field(default_factory=dict)

    def decided(self, now_s: float, what: Any) -> None:
        self.decisions.append((now_s, what))

    def took(self, source: Hashable, end_s: float, seen: Any = None) -> None:
        self.truths.setdefault(source, []).append(Truth(end_s, seen))

    def before(self, moment_s: float) -> list[tuple[float, Any]]:
        """What was decided before a moment, and not within the rounding of it."""
        return [one for one in self.decisions if one[0] < moment_s - _ROUNDING_S]


def disclosed_s(one: World, other: World, hidden: Collection[int]) -> float:
    """The first moment at which a live system would see a difference: something ends in either
    world, and in the other it ends otherwise; or one of the ``hidden`` requests, whose lengths
    differ, is over."""
    moments = [world.ends_s[request_id] for world in (one, other) for request_id in hidden
               if request_id in world.ends_s]
    for source in one.truths.keys() & other.truths.keys():
        moments += [min(mine.end_s, theirs.end_s) for mine, theirs in zip(
            one.truths[source], other.truths[source], strict=False) if mine != theirs]
    return min(moments, default=inf)


def assert_blind(one: World, other: World, hidden: Collection[int] = ()) -> None:
    """Before the disclosure, both worlds were shown the same and decided the same."""
    moment_s = disclosed_s(one, other, hidden)
    assert one.before(moment_s) == other.before(moment_s)


@dataclass(frozen=True, slots=True)
class Twist:
    """From the ``first`` of a kind on, what is hidden takes ``factor`` times as long, and loads
    fail where ``fails``."""

    first: int = 0
    factor: float = 1.0
    fails: bool = False

    def factors(self) -> Callable[[], float]:
        """The factor on one duration after another."""
        number = -1

        def following() -> float:
            nonlocal number
            number += 1
            return self.factor if number >= self.first else 1.0

        return following


AS_BELIEVED = Twist()
TWISTS = st.builds(Twist, st.integers(0, 6), st.sampled_from((0.3, 0.9, 1.3, 4.0)), st.booleans())
LENGTHS_ONLY = st.sampled_from((AS_BELIEVED,))


class TwistedMachine:
    """A machine whose truth is twisted, and whose ends are noted in a world."""

    def __init__(self, machine: Machine, twist: Twist, world: World) -> None:
        self._machine = machine
        self._twist = twist
        self._factor = twist.factors()
        self._world = world

    def load(self, device: int, model: int, now_s: float) -> Took:
        return self._twisted(self._machine.load(device, model, now_s), now_s, load=True)

    def prefetch(self, model: int, now_s: float) -> Took:
        return self._twisted(self._machine.prefetch(model, now_s), now_s)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        return self._twisted(self._machine.batch(device, batch, now_s), now_s)

    def _twisted(self, took: Took, now_s: float, *, load: bool = False) -> Took:
        factor = self._factor()
        failed = took.failed or (load and self._twist.fails and factor != 1.0)
        took = Took(took.seconds * factor, failed, took.after_s)
        self._world.took("host", now_s + took.seconds + took.after_s, failed)
        return took


class TwistedSteps:
    """True step times that are twisted, and noted as ended one duration after what was last
    decided: the step itself begins then or later, so nothing is disclosed sooner."""

    slopes: Slopes | None = None

    def __init__(self, model: StepTimeModel, twist: Twist, world: World, source: Hashable) -> None:
        self._model = model
        self._factor = twist.factors()
        self._world = world
        self._source = source

    def seconds(self, prefill_tokens: int, work: float, seqs: int, context_tokens: int) -> float:
        took_s = self._factor() * self._model.seconds(prefill_tokens, work, seqs, context_tokens)
        decisions = self._world.decisions
        self._world.took(self._source, (decisions[-1][0] if decisions else 0.0) + took_s)
        return took_s


def shown(device: Device) -> dict[str, Any]:
    """All that a policy can read of a device."""
    names = [name for name in dir(device) if not name.startswith("_") and name != "models"]
    found = {name: value for name in names if not callable(value := getattr(device, name))}
    found["residents"] = [(model, one.since_s, one.last_used_s, one.num_running)
                          for model, one in device.residents.items()]
    return found


class SeenMultiplexer:
    """A multiplexing policy whose actions are noted in a world, with the device that it saw."""

    def __init__(self, policy: Multiplexer, world: World) -> None:
        self._policy = policy
        self._world = world

    def next(self, device: Device, now_s: float) -> Action:
        before = shown(device)
        action = self._policy.next(device, now_s)
        self._world.decided(now_s, (before, action))
        return action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def implementations(modules: Iterable[Any], *methods: str) -> list[type]:
    """The classes that these modules define with all these methods, Protocols left out."""
    return [one for module in modules for one in vars(module).values()
            if isinstance(one, type) and one.__module__ == module.__name__
            and not getattr(one, "_is_protocol", False)
            and all(hasattr(one, method) for method in methods)]


def fails(law: Callable[[], None]) -> bool:
    """Whether a law finds an example against it; not made smaller, which takes its time."""
    quick = settings(max_examples=500, phases=[Phase.generate], report_multiple_bugs=False)
    try:
        quick(law)()
    except AssertionError:
        return True
    return False
