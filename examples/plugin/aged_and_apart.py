"""A scheduling policy and a router that Penstock does not bring.

Policies implement Penstock's protocols and inherit from none of its classes: those may be compiled,
and Python code cannot derive from compiled classes. They use no clock, no random source and no I/O.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.settings import Number
from penstock.core.snapshot import ReplicaSnapshot
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.route.context import RouterContext
from penstock.policy.schedule.chunking import DecodeLoad
from penstock.policy.schedule.parts import SchedulerContext, SchedulerParts
from penstock.policy.schedule.sequence import Sequence as Progress
from penstock.registry import PlugIn


class CalmChunks:
    """A fixed number of tokens per step, halved while more than ``busy_seqs`` requests decode.

    Implements ``penstock.policy.schedule.chunking.Chunking``.
    """

    def __init__(self, chunk_tokens: int, busy_seqs: int) -> None:
        self.steady = True
        self.needs_head = False
        self._chunk_tokens = chunk_tokens
        self._busy_seqs = busy_seqs
        self._left = 0

    def begin(self, load: DecodeLoad, head: Progress | None) -> None:
        """A step with these decodes is planned."""
        most = self._chunk_tokens // 2 if load.seqs > self._busy_seqs else self._chunk_tokens
        self._left = max(0, most - load.seqs)

    def limit(self, sequence: Progress, prefill_tokens: int, attention_work: float) -> int:
        """Tokens of this prompt that the step may take."""
        return self._left - prefill_tokens

    def believe(self, step_time: StepTimeModel) -> None:
        """Step times do not matter here."""


def aged_key(s_per_token: float) -> Callable[[Progress], float]:
    """Short prompts first, but a prompt gains with every second that it waits."""

    def key(sequence: Progress) -> float:
        return sequence.request.arrival_s + s_per_token * sequence.remaining

    return key


def aged(settings: Mapping[str, Any], context: SchedulerContext) -> SchedulerParts:
    """The parts in which the policy differs from its base."""
    return SchedulerParts(
        order=aged_key(settings.get("s_per_token", 0.01)),
        chunking=CalmChunks(context.options.chunk_tokens, settings.get("busy_seqs", 32)))


class LongApart:
    """Long prompts go to the last replicas, all others to the first: the fewest requests win.

    Implements ``penstock.policy.route.protocol.Router``.
    """

    looks_into_queues = False
    learns = False

    def __init__(self, long_tokens: int, share: float) -> None:
        self._long_tokens = long_tokens
        self._share = share

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        """The chosen replica, with the terms of the choice."""
        num_apart = round(self._share * len(replicas))
        cut = len(replicas) - min(max(num_apart, 1), len(replicas) - 1)
        is_long = request.prompt_tokens >= self._long_tokens
        mine = (replicas[cut:] if is_long else replicas[:cut]) or replicas
        least = min((one.num_waiting + one.num_running, one.replica_id) for one in mine)
        return Route(least[1], {"num_requests": least[0]})

    def ended(self, departure: Departure) -> None:
        """Nothing is learnt."""


def long_apart(settings: Mapping[str, Any], _context: RouterContext) -> LongApart:
    """The router. The context has prices and models of replicas, which are not needed here."""
    return LongApart(settings.get("long_tokens", 2048), settings.get("share", 0.5))


AGED = PlugIn(aged, base="sarathi", settings={"s_per_token": Number(0, 10),
                                              "busy_seqs": Number(0, 10_000, whole=True)})
LONG_APART = PlugIn(long_apart, {"long_tokens": Number(1, 1_000_000, whole=True),
                                 "share": Number(0, 1)})
