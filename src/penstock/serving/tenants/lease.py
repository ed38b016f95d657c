"""One admitted request, and the amounts reserved for it until it is settled."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.disclosure import Disclosure, at_most
from penstock.core.money import FREE, Price, to_money, to_nanos
from penstock.core.units import SECONDS_PER_HOUR
from penstock.engines.client.state import InFlight
from penstock.serving.gateway.ask import Ask
from penstock.serving.tenants.idempotency import Kept
from penstock.serving.tenants.quota import TenantQuota
from penstock.serving.tenants.records import Opening, Progress, Record, Settlement
from penstock.serving.tenants.usage import Relayed, Usage, judge

if TYPE_CHECKING:  # not imported at run time: a gateway without a ledger needs no SQLAlchemy
    from penstock.serving.tenants.ledger import Ledger

HIDDEN_MODEL = "confidential"
"""Placeholder for the model of a confidential request where the name may not be told."""

MOST_NANOS = 2**62  # fits a database's BIGINT


class Held(NamedTuple):
    """Amounts reserved for a request: the most that it may cost, in nanos, and its assumed
    tokens."""

    nanos: int
    tokens: int


class Charge(NamedTuple):
    """The settled tokens and cost of a request. ``at_s`` is the time of day in the ledger, and
    ``dispute`` says why the engine's count was not taken."""

    prompt_tokens: int
    output_tokens: int
    nanos: int
    at_s: float
    dispute: str | None


class Lease:
    """An admitted request. It must be settled once the request has ended, for whatever reason.

    ``clock`` is monotonic, ``wall`` is the time of day, both in seconds. ``closed`` is called at
    the settlement. ``disclosure`` limits what is recorded of a confidential request besides its
    cost, None where there is no limit. ``kept`` is there where the request has an idempotency key.
    """

    __slots__ = (
        "_charge",
        "_clock",
        "_closed",
        "_delivered",
        "_disclosure",
        "_held",
        "_kept",
        "_ledger",
        "_opened",
        "_prices",
        "_quota",
        "_recorded_output",
        "_wall",
        "ask",
        "decision_id",
    )

    def __init__(self, ask: Ask, decision_id: str, quota: TenantQuota, held: Held,
                 prices: Mapping[str, Price], ledger: "Ledger | None", clock: Callable[[], float],
                 wall: Callable[[], float], closed: Callable[[Settlement], None],
                 disclosure: Disclosure | None = None, kept: Kept | None = None) -> None:
        self.ask = ask
        self.decision_id = decision_id
        self._quota = quota
        self._held = held
        self._prices = prices
        self._ledger = ledger
        self._clock = clock
        self._wall = wall
        self._closed = closed
        self._disclosure = disclosure
        self._kept = kept
        self._delivered: tuple[str, InFlight] | None = None
        self._opened = False
        self._charge: Charge | None = None
        self._recorded_output = -1

    def follow(self, model: str, delivered: InFlight) -> None:
        """Follow an attempt: ``model`` answers, and ``delivered`` counts its tokens as they
        pass."""
        self._delivered = (model, delivered)

    @property
    def charge(self) -> Charge | None:
        """The charge, None until the request is settled."""
        return self._charge

    def settle(self, prompt_tokens: object, output_tokens: object,
               relayed: Relayed | None = None) -> Charge:
        """Charge the tokens delivered by the model that was followed last, and release the rest of
        the reserved amount. Only the first call has an effect; later calls return its charge.

        The engine's counts are judged (``usage``) by what was ``relayed``, None where only the
        followed attempt is known. The charge is never above the reserved amount. Counts of 0 and 0
        (nothing was delivered) cost nothing.
        """
        if self._charge is not None:
            return self._charge
        model, seen = self._so_far()
        usage = judge(self.ask, prompt_tokens, output_tokens, relayed or Relayed(seen))
        prompt, output, dispute = usage
        charge = self._charge = Charge(prompt, output, self._nanos(model, usage), self._at_s(),
                                       dispute)
        quota = self._quota
        quota.charged += charge.nanos
        quota.give_back(self._held.nanos, self._held.tokens - prompt - output, self._clock())
        self._closed(Settlement(
            self.decision_id, quota.tenant.name, self._label(model), charge.at_s,
            self._padded(prompt), self._padded(output), charge.nanos, self._opened,
            dispute is not None, self._kept is not None))
        return charge

    def keep(self, body: bytes, content_type: str) -> None:
        """Keep an answer in one piece for the same request with the same idempotency key. Nothing
        is kept of a confidential request."""
        if self._kept is not None and self._disclosure is None:
            self._kept.keep(body, content_type)

    @property
    def origin(self) -> dict[str, object]:
        """The gateway in the ledger, and the time of day of the settlement, for the decision
        log."""
        return {"gateway": None if self._ledger is None else self._ledger.gateway,
                "settled_at_s": None if self._charge is None else self._charge.at_s}

    async def written(self) -> bool:
        """Wait until the charge is in the ledger, so that no client sees the end of an answer whose
        charge may be lost. Returns False after a timeout where the ledger is unavailable: the
        charge is kept in memory and written as soon as possible."""
        return self._ledger is None or await self._ledger.written()

    def record(self) -> Record | None:
        """Return the next record for the ledger, None where nothing has changed."""
        model, output = self._so_far()
        if output == self._recorded_output:
            return None
        self._recorded_output = output
        usage = judge(self.ask, None if output else 0, output, Relayed(output))
        prompt, output, _ = usage
        charged = self._nanos(model, usage)
        if self._opened:
            return Progress(self.decision_id, self._label(model), self._padded(prompt),
                            self._padded(output), charged)
        self._opened = True
        return Opening(self.decision_id, self._quota.tenant.name, self._at_s(), self._reserved(),
                       self._label(model), self._padded(prompt), self._padded(output), charged)

    def _reserved(self) -> int:
        """The reserved nanos, rounded up where the exact amount would reveal the prompt's
        length."""
        held = self._held.nanos
        if self._disclosure is None:
            return held
        return min(to_nanos(at_most(to_money(held)) or 0.0), MOST_NANOS)

    def _label(self, model: str) -> str:
        """Return the model's name as the ledger may record it."""
        hidden = self._disclosure is not None and not self._disclosure.allow_model_counts
        return HIDDEN_MODEL if hidden and model else model

    def _padded(self, tokens: int) -> int:
        return tokens if self._disclosure is None else self._disclosure.count(tokens)

    def _at_s(self) -> float:
        """Return the time of day, rounded to the hour for confidential requests."""
        now_s = self._wall()
        return now_s if self._disclosure is None else now_s - now_s % SECONDS_PER_HOUR

    def _so_far(self) -> tuple[str, int]:
        """Return the answering model (empty before an attempt) and its delivered tokens."""
        if self._delivered is None:
            return "", 0
        return self._delivered[0], self._delivered[1].output_tokens

    def _nanos(self, model: str, usage: Usage) -> int:
        """Return the cost of some tokens, at most the reserved amount."""
        price = self._prices.get(model, FREE)
        return min(price.nanos(usage.prompt_tokens, usage.output_tokens), self._held.nanos)
