"""Requests whose prompt one replica computes and whose answer another replica decodes."""

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.perf.kv_transfer import KvTransfer
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv
from penstock.sim.dispatch import Dispatcher
from penstock.sim.kernel import NEVER_PS, NO_SOURCE
from penstock.sim.replica import SimReplica

_PREFILL: Final = 0
_PREFILLED: Final = 1
_ASKS: Final = 2
_MOVES: Final = 3
_ARRIVED: Final = 4


class Sender(NamedTuple):
    """Size of what a replica sends: ``bytes_per_token`` of a prompt, in ``num_layers``."""

    bytes_per_token: float
    num_layers: int


class _Leg:
    """A request that begins at ``source``."""

    __slots__ = ("due_ps", "request", "source", "state", "target")

    def __init__(self, request: Request, source: int) -> None:
        self.request = request
        self.source = source
        self.target = -1
        self.due_ps = NEVER_PS
        self.state = _PREFILL


class Moved(NamedTuple):
    """Transfers of a run: their number, bytes, and seconds all together and of the longest.
    ``held_tokens`` did not move, as the second replicas had them."""

    num_transfers: int
    num_bytes: float
    held_tokens: int
    total_s: float
    longest_s: float


class Handover:
    """Follows requests from the replica that prefills them to the one that decodes.

    The second replica is chosen when the prompt is computed. Where it caches prefixes, it says at
    the end of its step which blocks it has, and only the others move. It computes the prompt's last
    token, whose logits give the first token, as vLLM's connectors do. A replica sends and receives
    one prompt after the other; latencies overlap. The first replica keeps the KV cache until the
    second has room for the request and begins it: a full second replica holds the first one back.
    """

    def __init__(self, dispatcher: Dispatcher, replicas: Sequence[SimReplica],
                 senders: Sequence[Sender], transfer: KvTransfer,
                 kvs: Mapping[int, KvAllocator]) -> None:
        self._dispatcher = dispatcher
        self._replicas = replicas
        self._senders = senders
        self._transfer = transfer
        self._latency_ps = to_ps(transfer.latency_s)
        self._kvs = kvs
        self._legs: dict[int, _Leg] = {}
        self._moves: list[tuple[int, int]] = []  # (arrival, request)
        self._returns: deque[tuple[int, int]] = deque()  # (replica, request)
        self._prefilled: deque[int] = deque()  # requests whose second replica is to be chosen
        self._free_ps = [0] * len(senders)
        self._num_transfers = 0
        self._num_bytes = 0.0
        self._held_tokens = 0
        self._total_ps = 0
        self._longest_ps = 0

    @property
    def due_ps(self) -> int:
        """When the next transfer ends, 0 where something is to be done now."""
        if self._returns or self._prefilled:
            return 0
        return self._moves[0][0] if self._moves else NEVER_PS

    @property
    def moved(self) -> Moved:
        """The transfers so far."""
        return Moved(self._num_transfers, self._num_bytes, self._held_tokens,
                     self._total_ps / PS_PER_S, self._longest_ps / PS_PER_S)

    def first_leg(self, request: Request, source: int) -> Request:
        """Return the request that ``source`` gets: the request itself, or its prefill alone."""
        if not self._dispatcher.splits(request, source):
            return request
        self._legs[request.request_id] = _Leg(request, source)
        return request._replace(max_tokens=1, lends=True)

    def whole(self, request: Request) -> Request:
        """Return the request as the client sent it, after the loss of the replica that had it."""
        leg = self._legs.get(request.request_id)
        if leg is not None:
            self.over(request.request_id)
            return leg.request
        return request._replace(remote_tokens=0) if request.remote_tokens else request

    def prefilled(self, request_id: int) -> bool:
        """Take note that a replica has finished a request. Returns whether another one goes on."""
        leg = self._legs.get(request_id)
        if leg is None or leg.state != _PREFILL:
            return False
        leg.state = _PREFILLED
        self._prefilled.append(request_id)
        return True

    def send(self, now_ps: int) -> tuple[int, Request | None]:
        """Choose the second replica of a prompt that its first replica has computed, and begin the
        transfer.

        The choice is made when all steps that end now have ended. Returns the second replica, whose
        run of steps this may shorten. Where none is chosen, returns the whole request: REFUSED by
        the router, or to begin again since no such replica takes requests any more.
        """
        request_id = self._prefilled.popleft()
        leg = self._legs.get(request_id)
        if leg is None or leg.state != _PREFILLED:
            return NO_SOURCE, None
        target = self._dispatcher.second(leg.request, now_ps)
        if target < 0:
            self.over(request_id)
            return target, leg.request
        leg.target = target
        replica = self._replicas[target]
        if isinstance(self._kvs[target], SharedKv) and leg.request.prefix_hashes and replica.busy:
            replica.give_way(now_ps)  # what it has is known between its steps
            leg.state, leg.due_ps = _ASKS, replica.end_ps
            heappush(self._moves, (leg.due_ps, request_id))
        else:
            self._move(leg, now_ps)
        return target, None

    def _move(self, leg: _Leg, now_ps: int) -> None:
        request_id, target = leg.request.request_id, leg.target
        leg.state = _MOVES
        sender = self._senders[leg.source]
        held_tokens = self._held(leg.request, target)
        num_bytes = (leg.request.prompt_tokens - held_tokens) * sender.bytes_per_token
        begun_ps = self._replicas[leg.source].recorder.scheduled_ps(request_id)
        seen_ps = to_ps(self._transfer.exposed_s(
            num_bytes, (now_ps - begun_ps) / PS_PER_S, sender.num_layers))
        free_ps = max(now_ps, self._free_ps[leg.source], self._free_ps[target]) + seen_ps
        self._free_ps[leg.source] = self._free_ps[target] = free_ps
        leg.due_ps = due_ps = free_ps + self._latency_ps
        heappush(self._moves, (due_ps, request_id))
        self._num_transfers += 1
        self._num_bytes += num_bytes
        self._held_tokens += held_tokens
        self._total_ps += due_ps - now_ps
        self._longest_ps = max(self._longest_ps, due_ps - now_ps)

    def _held(self, request: Request, target: int) -> int:
        """Return the tokens of a prompt whose blocks its second replica has."""
        kv = self._kvs[target]
        if not isinstance(kv, SharedKv):
            return 0
        return kv.found_tokens(request.prompt_tokens, request.prefix_hashes,
                               request.hash_block_tokens or kv.block_tokens)

    @property
    def sends(self) -> bool:
        """Whether a transfer is to begin now."""
        return bool(self._prefilled)

    def next_return(self) -> tuple[int, int] | None:
        """Take the next KV cache that its replica gets back: (replica, request)."""
        return self._returns.popleft() if self._returns else None

    def arrive(self) -> tuple[int, Request | None]:
        """Take the request whose transfer ends now: its second replica, and what that replica gets.
        Without a request, the transfer only begins now.

        Without a replica, the request is whole and begins again, since its second replica takes no
        requests any more, or there is no request, since it was lost on the way.
        """
        due_ps, request_id = heappop(self._moves)
        leg = self._legs.get(request_id)
        if leg is None or leg.due_ps != due_ps:
            return NO_SOURCE, None
        if not self._dispatcher.is_open(leg.target):
            self.over(request_id)
            return NO_SOURCE, leg.request
        if leg.state == _ASKS:
            self._move(leg, due_ps)
            return NO_SOURCE, None
        leg.state = _ARRIVED
        return leg.target, leg.request._replace(remote_tokens=leg.request.prompt_tokens - 1)

    def over(self, request_id: int) -> None:
        """The first replica of a request need keep nothing more."""
        leg = self._legs.pop(request_id, None)
        if leg is not None and leg.state != _PREFILL:
            self._returns.append((leg.source, request_id))

    def lose(self, replica_id: int) -> list[Request]:
        """A replica was lost. Returns the whole requests whose KV cache was on its way from or to
        the replica."""
        lost = [leg for leg in self._legs.values()
                if (leg.state == _PREFILLED and replica_id == leg.source)
                or (leg.state in (_ASKS, _MOVES) and replica_id in (leg.source, leg.target))]
        for leg in lost:
            self.over(leg.request.request_id)
        return [leg.request for leg in lost]
