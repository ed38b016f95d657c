"""Routing by consistent hashing: gateways that share no memory send a session to one replica."""

from collections.abc import Sequence
from math import ceil

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.simple import loads

_BITS = (1 << 64) - 1
_PRIME = (1 << 61) - 1  # so that every byte of a name counts


class ConsistentHash(PlainRouter):
    """The first replica in the order of a request's session, else of its prompt's first block, that
    has not far more requests than others. Requests with neither go to the least loaded replica.

    The order is that of rendezvous hashing (Thaler and Ravishankar 1998): a replica that joins or
    leaves moves no session of the others. A replica takes at most ``load_factor`` times its share
    of the requests, rounded up (consistent hashing with bounded loads, Mirrokni, Thorup and
    Zadimoghaddam 2018); shares are proportional to speeds.
    """

    def __init__(self, load_factor: float = 1.25) -> None:
        self._load_factor = load_factor

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        key = _key(request)
        if key is None:
            least = min(loads(replicas, request.prompt_tokens))
            return Route(least[2], {"load": least[0]})
        total = 1 + sum([one.num_waiting + one.num_running for one in replicas])
        per_speed = self._load_factor * total / sum([one.speed for one in replicas])
        # At least one replica has no more than its share.
        free = [(_mixed(key ^ _mixed(one.replica_id)), one) for one in replicas
                if one.num_waiting + one.num_running < ceil(per_speed * one.speed)]
        chosen = min(free)[1]
        return Route(chosen.replica_id, {"num_full": float(len(replicas) - len(free))})


def _key(request: Request) -> int | None:
    """Return a number of a request's session or prompt that is the same in every process."""
    if request.session:
        name = f"{request.tenant}\0{request.session}".encode(errors="surrogatepass")
        return int.from_bytes(name, "big") % _PRIME
    if request.prefix_hashes:
        return request.prefix_hashes[0] & _BITS
    return None


def _mixed(number: int) -> int:
    """Return 64 bits that all bits of a number change (the finalizer of SplitMix64, Steele, Lea and
    Flood 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _BITS
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _BITS
    return number ^ (number >> 31)
