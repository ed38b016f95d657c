"""The front desk: who asks, whether they may, and what becomes of their money."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.errors import InputError
from penstock.core.money import FREE, Price, to_money
from penstock.engines.http import is_loopback
from penstock.fleet.values_gateway import GatewayOptions, Tenant
from penstock.serving.gateway.ask import ANYBODY, Ask, Offer, read_ask
from penstock.serving.gateway.errors import GatewayError
from penstock.serving.tenants.budgets import Account, BudgetState, day_of
from penstock.serving.tenants.desk import Desk, Spending, come_back, shown
from penstock.serving.tenants.keys import Keyring
from penstock.serving.tenants.lease import MOST_NANOS, Held, Lease
from penstock.serving.tenants.records import Record, Settlement

if TYPE_CHECKING:  # a gateway without a ledger needs no SQLAlchemy
    from penstock.serving.tenants.ledger import Ledger, Standing

_CROWDED_SHARE = 0.9
"""Beyond this share of the gateway's places, nobody gets more than an equal share of them."""

_REMEMBERED_S = 5.0
"""For so long a place is kept for who was turned away."""


class Identity(NamedTuple):
    """Identity of a client: a tenant, an administrator, or both."""

    tenant: Tenant | None
    admin: bool


@dataclass(frozen=True, slots=True)
class House:
    """Configuration of the gate: offered models and classes, prices by model, the limit of
    requests in flight, and the disclosure of confidential requests."""

    offer: Offer
    options: GatewayOptions
    prices: Mapping[str, Price]
    max_in_flight: int
    disclosure: Disclosure = USUAL


class Front:
    """Lets requests in or says why not. One object belongs to one event loop.

    ``clock`` only goes forward, ``wall`` is the time of day; both are seconds.
    """

    def __init__(self, house: House, ledger: "Ledger | None", clock: Callable[[], float],
                 wall: Callable[[], float]) -> None:
        self.ledger = ledger
        self.clock = clock
        self.wall = wall
        self._house = house
        self._keyring = Keyring()
        self._desks: dict[str, Desk] = {}
        self._open: dict[str, Lease] = {}
        self.adopt(house)
        if ledger is not None:
            ledger.on_written = self._on_written
            ledger.on_standing = self._on_standing

    @property
    def prices(self) -> Mapping[str, Price]:
        """Prices by model; a model that has none costs nothing."""
        return self._house.prices

    @property
    def offer(self) -> Offer:
        """Models and classes on offer."""
        return self._house.offer

    @property
    def needs_keys(self) -> bool:
        """Whether who asks must have a key."""
        return bool(self._house.options.tenants) or self._keyring.ever

    @property
    def num_keys(self) -> int:
        """Keys that open something."""
        return self._keyring.num_valid

    def adopt(self, house: House) -> None:
        """Goes by something else from now on; what is under way stays as it was let in. Raises
        InputError, and then nothing is different."""
        if house.options.tenants and self.ledger is None:
            raise InputError("gateway.tenants: the gateway was started without a ledger, so nobody "
                             "would have a key; start it anew")
        self._house = house
        listed = {tenant.name: tenant for tenant in house.options.tenants}
        for name, desk in self._desks.items():
            desk.adopt(listed.get(name, Tenant(name)), self.clock(), self.wall())
        for tenant in listed.values():
            self._desk(tenant)
        self._ask_for_days()

    # -- who ------------------------------------------------------------------------------------

    def identify(self, headers: Mapping[str, str], peer: str | None) -> Identity:
        """Return the identity of a client at the address ``peer``. Raises GatewayError."""
        if not self.needs_keys:
            return Identity(ANYBODY, is_loopback(peer))
        scheme, _, text = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _unknown("no API key; expected the header Authorization: Bearer KEY",
                           "missing_key")
        key = self._keyring.find(text.strip())
        if key is None:
            raise _unknown("this API key is not valid (any more)", "invalid_key")
        if not key.tenant:
            return Identity(None, key.admin)
        tenants = self._house.options.tenants
        tenant = next((one for one in tenants if one.name == key.tenant), None)
        if tenant is None:
            if tenants:
                raise GatewayError(403, f"the key's tenant {key.tenant!r} is not among the fleet's",
                                   "unknown_tenant")
            tenant = Tenant(key.tenant)
        return Identity(tenant, key.admin)

    def administrator(self, headers: Mapping[str, str], peer: str | None) -> None:
        """Raises GatewayError unless who asks may administer."""
        if not self.identify(headers, peer).admin:
            what = "a key that administers" if self.needs_keys else "to be asked from the loopback"
            raise GatewayError(403, f"this needs {what}", "not_admin")

    def own(self, headers: Mapping[str, str], peer: str | None) -> str | None:
        """Return the tenant whose records the client may see, None for all tenants."""
        found = self.identify(headers, peer)
        if found.admin or found.tenant is None:
            return None
        return found.tenant.name

    # -- whether --------------------------------------------------------------------------------

    def asker(self, headers: Mapping[str, str], peer: str | None) -> Tenant:
        """The tenant who asks, who may have one more request: to be known before a body is read,
        so that nobody is busy with what will be refused. Raises GatewayError."""
        tenant = self.identify(headers, peer).tenant
        if tenant is None:
            raise GatewayError(403, "this key administers and asks for nothing; make one for a "
                                    "tenant", "not_a_tenant")
        desk = self._desk(tenant)
        with _Counted(desk):
            desk.check_places()
            desk.check_requests(self.clock())
        return tenant

    def admit(self, tenant: Tenant, content: bytes, headers: Mapping[str, str],
              decision_id: str) -> Lease:
        """Lets a request in. Raises GatewayError, with status 429 and Retry-After where it may
        come back. Whoever gets a lease must settle it."""
        ask = read_ask(content, headers, self._house.offer, tenant)
        desk = self._desk(tenant)
        nanos, tokens = self._most_nanos(ask), ask.prompt_tokens + ask.max_tokens * ask.num_answers
        now_s = self.clock()
        with _Counted(desk):
            self._check_ledger(desk)
            self._turn(desk.account)
            desk.check_budget(nanos, self.wall())
            desk.check_places()
            self._check_crowd(desk, now_s)
            desk.check_requests(now_s)
            desk.check_tokens(tokens, now_s)
        desk.take(nanos, tokens, now_s)
        disclosure = None
        if ask.needs.confidential:
            desk.discreet, disclosure = True, self._house.disclosure
        lease = Lease(ask, decision_id, desk, Held(nanos, tokens), self.prices, self.ledger,
                      self.clock, self.wall, self._closed, disclosure)
        self._open[decision_id] = lease
        return lease

    def _most_nanos(self, ask: Ask) -> int:
        models: Iterable[str] = self._house.offer.models if ask.models is None else ask.models
        most = max(self.prices.get(name, FREE).nanos(ask.most_prompt_tokens,
                                                     ask.most_output_tokens) for name in models)
        return min(most, MOST_NANOS)

    def _check_ledger(self, desk: Desk) -> None:
        ledger, budget = self.ledger, desk.tenant.budget
        if ledger is None:
            return
        trouble = ledger.trouble
        closed = budget is not None and budget.when_ledger_fails == "refuse"
        if ledger.full or (trouble is not None and closed):
            # What the database said may tell of places that are no business of a tenant's.
            raise GatewayError(503, "spending cannot be written down now, and tenant "
                                    f"{desk.tenant.name!r} is not served without",
                               "ledger_unavailable", headers={"Retry-After": "1"})

    def _turn(self, account: Account) -> None:
        start_s = account.period.start_s
        account.turn(self.wall())
        if account.period.start_s != start_s:
            self._ask_for_days()

    def _check_crowd(self, desk: Desk, now_s: float) -> None:
        """Share scarce places equally among the tenants that hold some and those that were turned
        away a moment ago."""
        most = self._house.max_in_flight
        if len(self._open) < _CROWDED_SHARE * most:
            return
        num_sharing = sum(one is desk or one.in_flight > 0 or now_s < one.waits_until_s
                          for one in self._desks.values())
        if num_sharing > 1 and desk.in_flight >= most / num_sharing:
            raise come_back(f"the gateway is crowded, and tenant {desk.tenant.name!r} has its "
                            f"share of it, {desk.in_flight} requests under way", "fair_share", 1.0)
        if len(self._open) >= most:
            desk.waits_until_s = now_s + _REMEMBERED_S
            raise come_back(f"{len(self._open)} requests are under way, as many as this gateway "
                            "takes", "too_many_requests", 1.0)

    # -- what it costs --------------------------------------------------------------------------

    def _closed(self, settlement: Settlement) -> None:
        self._open.pop(settlement.decision_id, None)
        account = self._desks[settlement.tenant].account
        if self.ledger is None:
            account.written += settlement.charged_nanos
            return
        self.ledger.num_open = len(self._open)
        account.unwritten += settlement.charged_nanos
        if settlement.charged_nanos or settlement.opened or settlement.prompt_tokens \
                or settlement.output_tokens:
            self.ledger.put(settlement)

    def journal(self) -> None:
        """Tells the ledger how far requests are; to be called every second or so.

        An answer that ends before its first second is over is written once, when it is settled.
        """
        if self.ledger is None or self.ledger.full:
            return
        for lease in self._open.values():
            record = lease.record()
            if record is not None:
                self.ledger.put(record)

    def _on_written(self, records: list[Record]) -> None:
        for record in records:
            if isinstance(record, Settlement):
                account = self._desks[record.tenant].account
                account.unwritten -= record.charged_nanos
                account.written += record.charged_nanos

    def _on_standing(self, standing: "Standing") -> None:
        self._keyring = standing.keyring
        for name, desk in self._desks.items():
            account = desk.account
            day = day_of(account.period.start_s)
            if day in standing.spent_since:
                account.written = standing.spent_since[day].get(name, 0)
            account.elsewhere = standing.reserved_elsewhere.get(name, 0)

    def _ask_for_days(self) -> None:
        if self.ledger is not None:
            self.ledger.days = frozenset(day_of(desk.account.period.start_s)
                                         for desk in self._desks.values())

    def _desk(self, tenant: Tenant) -> Desk:
        desk = self._desks.get(tenant.name)
        if desk is None:
            desk = self._desks[tenant.name] = Desk(tenant, self.clock(), self.wall())
            self._ask_for_days()
        return desk

    # -- figures --------------------------------------------------------------------------------

    def budget_state(self, tenant: str) -> BudgetState | None:
        """A tenant's budget as a router may pace by it, None where it has none."""
        desk = self._desks.get(tenant)
        return None if desk is None else desk.account.state(self.wall())

    def spending(self) -> list[Spending]:
        """Figures of every tenant that was seen or is listed."""
        return [Spending(name, to_money(desk.charged), desk.in_flight, dict(desk.refused),
                         desk.account.period, desk.account.spent, desk.account.state(self.wall()),
                         desk.discreet or desk.tenant.confidential)
                for name, desk in self._desks.items()]

    def shown_spending(self) -> list[Spending]:
        """The same for others' eyes: rounded for tenants that sent something confidential."""
        return [shown(one, self._house.disclosure) if one.discreet else one
                for one in self.spending()]


class _Counted:
    """Counts a refusal by its reason."""

    __slots__ = ("_desk",)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GatewayError):
            self._desk.refused[error.code] += 1


def _unknown(message: str, code: str) -> GatewayError:
    return GatewayError(401, message, code, headers={"WWW-Authenticate": "Bearer"})
