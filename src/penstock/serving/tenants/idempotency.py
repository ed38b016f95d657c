"""Idempotency keys: a request that is sent again is not charged again."""

import asyncio
import hmac
from collections.abc import Callable
from itertools import islice
from secrets import token_bytes
from typing import TYPE_CHECKING, NamedTuple, Protocol

from penstock.core.money import to_money
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.answer_store import AnswerStore, KeptAnswer
from penstock.serving.tenants.claims import KEPT_S, Claim, Earlier
from penstock.serving.tenants.records import Settlement

if TYPE_CHECKING:  # not imported at run time: a gateway without a ledger needs no SQLAlchemy
    from penstock.serving.tenants.ledger import Ledger

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
LONGEST_KEY = 255
_MOST_KEYS = 200_000      # of one process without a ledger
_LARGE_BYTES = 1 << 20    # a larger body is digested beside the event loop


class Claims(Protocol):
    """Which request was the first with each key."""

    async def claim(self, one: Claim) -> Earlier | None:
        """Make a request the first with its key, or return the earlier one. Raises
        ServiceError."""

    def release(self, one: Claim) -> None:
        """Free the key of a request that was not admitted."""

    def settled(self, one: Settlement) -> None:
        """Take the end of a request with a key, before it is written."""

    def written(self, one: Settlement) -> None:
        """Take the end of a request with a key that is in the ledger."""


class LocalClaims:
    """Claims of one process. ``clock`` gives seconds. Beyond ``_MOST_KEYS``, the oldest are
    forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[str, tuple[float, Earlier]] = {}
        self._digests: dict[str, str] = {}  # of requests in progress, by decision id

    async def claim(self, one: Claim) -> Earlier | None:
        now_s = self._clock()
        self._forget(now_s)
        found = self._found.get(one.digest)
        if found is not None:
            return found[1]
        self._found[one.digest] = now_s, Earlier(one.body_digest, one.decision_id, None)
        self._digests[one.decision_id] = one.digest
        return None

    def release(self, one: Claim) -> None:
        del self._found[self._digests.pop(one.decision_id)]

    def settled(self, one: Settlement) -> None:
        digest = self._digests.pop(one.decision_id)
        if not one.delivered:
            del self._found[digest]
            return
        at_s, earlier = self._found[digest]
        self._found[digest] = at_s, earlier._replace(charged_nanos=one.charged_nanos)

    def written(self, one: Settlement) -> None:
        pass

    def _forget(self, now_s: float) -> None:
        """Forget old keys. Each claim looks at the two oldest, so that the work is spread."""
        for digest in list(islice(self._found, 2)):
            at_s, earlier = self._found[digest]
            is_over = now_s - at_s > KEPT_S or len(self._found) > _MOST_KEYS
            if is_over and earlier.charged_nanos is not None:
                del self._found[digest]


class LedgerClaims:
    """Claims of all gateways on one ledger."""

    def __init__(self, ledger: "Ledger", wall: Callable[[], float]) -> None:
        self._ledger = ledger
        self._wall = wall
        self._active: set[str] = set()

    async def claim(self, one: Claim) -> Earlier | None:
        from penstock.serving.tenants.store import StoreError

        ledger, active = self._ledger, frozenset(self._active)
        gateway, now_s = ledger.gateway, self._wall()
        self._active.add(one.decision_id)
        try:
            found = await ledger.ask(lambda store: store.claim(one, gateway, active, now_s))
        except StoreError as error:
            self.release(one)
            raise ServiceError(503, "the ledger cannot tell now whether this idempotency key was "
                               "used", "ledger_unavailable", headers={"Retry-After": "1"}
                               ) from error
        except BaseException:
            self.release(one)
            raise
        if found is not None:
            self._active.discard(one.decision_id)
        return found

    def release(self, one: Claim) -> None:
        self._active.discard(one.decision_id)
        self._ledger.order(lambda store: store.release(one.decision_id))

    def settled(self, one: Settlement) -> None:
        pass

    def written(self, one: Settlement) -> None:
        self._active.discard(one.decision_id)


class Kept(NamedTuple):
    """The first request with its key, and where its answer is kept."""

    claim: Claim
    answers: AnswerStore

    def keep(self, body: bytes, content_type: str) -> None:
        """Keep an answer in one piece, to answer the same request again."""
        self.answers.add(self.claim.digest, KeptAnswer(self.claim.decision_id, body, content_type))


class Idempotency:
    """Checks idempotency keys of one gateway. ``clock`` is monotonic, in seconds."""

    def __init__(self, claims: Claims, digest_key: Callable[[], bytes],
                 clock: Callable[[], float]) -> None:
        self.claims = claims
        self._digest_key = digest_key
        self._answers = AnswerStore(clock)

    async def begin(self, tenant: str, keys: list[str], path: str, content: bytes,
                    decision_id: str) -> Kept | KeptAnswer | None:
        """Return the claim of the first request with its key, or the answer that an earlier request
        with the key and the same body had; None without a key. Raises ServiceError."""
        if not keys:
            return None
        key = _read(keys)
        secret = self._digest_key()
        digest = _digest(secret, f"{tenant}\n{key}".encode())
        # Whoever reads the ledger cannot guess a body without its key.
        body_key = secret + key.encode()
        if len(content) < _LARGE_BYTES:
            body_digest = _digest(body_key, path.encode(), content)
        else:
            body_digest = await asyncio.to_thread(_digest, body_key, path.encode(), content)
        claim = Claim(digest, body_digest, decision_id)
        earlier = await self.claims.claim(claim)
        if earlier is None:
            return Kept(claim, self._answers)
        return self._earlier(claim, earlier)

    def _earlier(self, claim: Claim, earlier: Earlier) -> KeptAnswer:
        if not hmac.compare_digest(earlier.body_digest, claim.body_digest):
            raise ServiceError(422, f"{KEY_HEADER}: this key came with another body or path before",
                               "idempotency_key_reused", KEY_HEADER)
        if earlier.charged_nanos is None:
            raise ServiceError(409, f"{KEY_HEADER}: the first request with this key is in progress",
                               "idempotency_in_progress", KEY_HEADER, {"Retry-After": "1"})
        kept = self._answers.get(claim.digest)
        if kept is not None and kept.decision_id == earlier.decision_id:
            return kept
        charged = to_money(earlier.charged_nanos)
        raise ServiceError(
            409, f"{KEY_HEADER}: decision {earlier.decision_id} has answered the request with this "
            f"key and was charged {charged:.9g}; its answer is not kept", "already_answered",
            KEY_HEADER, details={"decision_id": earlier.decision_id, "charged": charged})


def idempotency(ledger: "Ledger | None", clock: Callable[[], float],
                wall: Callable[[], float]) -> Idempotency:
    """Return the idempotency keys of a gateway, in its ledger if it has one."""
    if ledger is None:
        secret = token_bytes(32)
        return Idempotency(LocalClaims(clock), lambda: secret, clock)
    return Idempotency(LedgerClaims(ledger, wall), lambda: ledger.digest_key, clock)


def _read(keys: list[str]) -> str:
    if len(keys) > 1:
        raise ServiceError(400, f"{KEY_HEADER}: stands twice", "invalid_value", KEY_HEADER)
    key = keys[0]
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise ServiceError(400, f"{KEY_HEADER}: expected 1 to {LONGEST_KEY} printable ASCII "
                           "characters", "invalid_value", KEY_HEADER)
    return key


def _digest(key: bytes, *parts: bytes) -> str:
    found = hmac.new(key, digestmod="sha256")
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()
