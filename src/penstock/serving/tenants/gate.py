"""The tenants' gate: identity, admission, and the money of every request."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.errors import InputError
from penstock.core.money import FREE, Price, to_money
from penstock.engines.http import is_loopback
from penstock.fleet.values_gateway import GatewayOptions, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Ask, Offer, read_ask
from penstock.serving.tenants.budgets import Account, BudgetState, day_of
from penstock.serving.tenants.keys import Keyring
from penstock.serving.tenants.lease import MOST_NANOS, Held, Lease
from penstock.serving.tenants.quota import Spending, TenantQuota, come_back, shown
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
class GatewayConfig:
    """Configuration of the gate: offered models and classes, prices by model, the limit of
    requests in flight, and the disclosure of confidential requests."""

    offer: Offer
    options: GatewayOptions
    prices: Mapping[str, Price]
    max_in_flight: int
    disclosure: Disclosure = USUAL


class TenantGate:
    """Lets requests in or says why not. One object belongs to one event loop.

    ``clock`` only goes forward, ``wall`` is the time of day; both are seconds.
    """

    def __init__(self, config: GatewayConfig, ledger: "Ledger | None", clock: Callable[[], float],
                 wall: Callable[[], float]) -> None:
        self.ledger = ledger
        self.clock = clock
        self.wall = wall
        self._config = config
        self._needs_keys = self._needs_listing = False
        self._keyring = Keyring()
        self._quotas: dict[str, TenantQuota] = {}
        self._open: dict[str, Lease] = {}
        self.adopt(config)
        if ledger is not None:
            ledger.on_written = self._on_written
            ledger.on_standing = self._on_standing

    @property
    def prices(self) -> Mapping[str, Price]:
        """Prices by model; a model that has none costs nothing."""
        return self._config.prices

    @property
    def offer(self) -> Offer:
        """Models and classes on offer."""
        return self._config.offer

    @property
    def needs_keys(self) -> bool:
        """Whether callers must have a key: once so, so until the gateway is started anew, whatever
        becomes of tenants and keys."""
        return self._needs_keys

    @property
    def num_keys(self) -> int:
        """Keys that open something."""
        return self._keyring.num_valid

    def adopt(self, config: GatewayConfig) -> None:
        """Goes by something else from now on; what is under way stays as it was let in. Raises
        InputError, and then nothing is different."""
        if config.options.tenants and self.ledger is None:
            raise InputError("gateway.tenants: the gateway was started without a ledger, so nobody "
                             "would have a key; start it anew")
        self._config = config
        self._close_if_needed()
        listed = {tenant.name: tenant for tenant in config.options.tenants}
        for name, quota in self._quotas.items():
            quota.adopt(listed.get(name, Tenant(name)), self.clock(), self.wall())
        for tenant in listed.values():
            self._quota(tenant)
        self._ask_for_days()

    # -- who ------------------------------------------------------------------------------------

    def identify(self, headers: Mapping[str, str], peer: str | None) -> Identity:
        """Return the identity of a client at the address ``peer``. Raises ServiceError."""
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
        tenants = self._config.options.tenants
        tenant = next((one for one in tenants if one.name == key.tenant), None)
        if tenant is None:
            if self._needs_listing:
                raise ServiceError(403, f"the key's tenant {key.tenant!r} is not among the fleet's",
                                   "unknown_tenant")
            tenant = Tenant(key.tenant)
        return Identity(tenant, key.admin)

    def administrator(self, headers: Mapping[str, str], peer: str | None) -> None:
        """Raises ServiceError unless who asks may administer."""
        if not self.identify(headers, peer).admin:
            what = "a key that administers" if self.needs_keys else "to be asked from the loopback"
            raise ServiceError(403, f"this needs {what}", "not_admin")

    def own(self, headers: Mapping[str, str], peer: str | None) -> str | None:
        """Return the tenant whose records the client may see, None for all tenants."""
        found = self.identify(headers, peer)
        if found.admin or found.tenant is None:
            return None
        return found.tenant.name

    # -- whether --------------------------------------------------------------------------------

    def asker(self, headers: Mapping[str, str], peer: str | None) -> Tenant:
        """The tenant who asks, who may have one more request: to be known before a body is read,
        so that nobody is busy with what will be refused. Raises ServiceError."""
        tenant = self.identify(headers, peer).tenant
        if tenant is None:
            raise ServiceError(403, "this key administers and asks for nothing; make one for a "
                                    "tenant", "not_a_tenant")
        quota = self._quota(tenant)
        with _Counted(quota):
            quota.check_places()
            quota.check_requests(self.clock())
        return tenant

    def admit(self, tenant: Tenant, content: bytes, headers: Mapping[str, str],
              decision_id: str) -> Lease:
        """Lets a request in. Raises ServiceError, with status 429 and Retry-After where it may
        come back. Whoever gets a lease must settle it."""
        ask = read_ask(content, headers, self._config.offer, tenant)
        quota = self._quota(tenant)
        nanos, tokens = self._most_nanos(ask), ask.prompt_tokens + ask.max_tokens * ask.num_answers
        now_s = self.clock()
        with _Counted(quota):
            self._check_ledger(quota)
            self._turn(quota.account)
            quota.check_budget(nanos, self.wall())
            quota.check_places()
            self._check_crowd(quota, now_s)
            quota.check_requests(now_s)
            quota.check_tokens(tokens, now_s)
        quota.take(nanos, tokens, now_s)
        disclosure = None
        if ask.needs.confidential:
            quota.discreet, disclosure = True, self._config.disclosure
        lease = Lease(ask, decision_id, quota, Held(nanos, tokens), self.prices, self.ledger,
                      self.clock, self.wall, self._closed, disclosure)
        self._open[decision_id] = lease
        return lease

    def _most_nanos(self, ask: Ask) -> int:
        models: Iterable[str] = self._config.offer.models if ask.models is None else ask.models
        most = max(self.prices.get(name, FREE).nanos(ask.most_prompt_tokens,
                                                     ask.most_output_tokens) for name in models)
        return min(most, MOST_NANOS)

    def _check_ledger(self, quota: TenantQuota) -> None:
        ledger, budget = self.ledger, quota.tenant.budget
        if ledger is None:
            return
        trouble = ledger.trouble
        closed = budget is not None and budget.when_ledger_fails == "refuse"
        if ledger.full or (trouble is not None and closed):
            # What the database said may tell of places that are no business of a tenant's.
            raise ServiceError(503, "spending cannot be written down now, and tenant "
                                    f"{quota.tenant.name!r} is not served without",
                               "ledger_unavailable", headers={"Retry-After": "1"})

    def _turn(self, account: Account) -> None:
        start_s = account.period.start_s
        account.turn(self.wall())
        if account.period.start_s != start_s:
            self._ask_for_days()

    def _check_crowd(self, quota: TenantQuota, now_s: float) -> None:
        """Share scarce places equally among the tenants that hold some and those that were turned
        away a moment ago."""
        most = self._config.max_in_flight
        if len(self._open) < _CROWDED_SHARE * most:
            return
        num_sharing = sum(one is quota or one.in_flight > 0 or now_s < one.waits_until_s
                          for one in self._quotas.values())
        if num_sharing > 1 and quota.in_flight >= most / num_sharing:
            raise come_back(f"the gateway is crowded, and tenant {quota.tenant.name!r} has its "
                            f"share of it, {quota.in_flight} requests under way", "fair_share", 1.0)
        if len(self._open) >= most:
            quota.waits_until_s = now_s + _REMEMBERED_S
            raise come_back(f"{len(self._open)} requests are under way, as many as this gateway "
                            "takes", "too_many_requests", 1.0)

    # -- what it costs --------------------------------------------------------------------------

    def _closed(self, settlement: Settlement) -> None:
        self._open.pop(settlement.decision_id, None)
        account = self._quotas[settlement.tenant].account
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
                account = self._quotas[record.tenant].account
                account.unwritten -= record.charged_nanos
                account.written += record.charged_nanos

    def _on_standing(self, standing: "Standing") -> None:
        self._keyring = standing.keyring
        self._close_if_needed()
        for name, quota in self._quotas.items():
            account = quota.account
            day = day_of(account.period.start_s)
            if day in standing.spent_since:
                account.written = standing.spent_since[day].get(name, 0)
            account.elsewhere = standing.reserved_elsewhere.get(name, 0)

    def _close_if_needed(self) -> None:
        """Let nobody in without a key once tenants or a key exist, and no unlisted tenant once the
        fleet file lists tenants. Only a restart opens the gateway again."""
        self._needs_listing |= bool(self._config.options.tenants)
        self._needs_keys |= self._needs_listing or self._keyring.ever

    def _ask_for_days(self) -> None:
        if self.ledger is not None:
            self.ledger.days = frozenset(day_of(quota.account.period.start_s)
                                         for quota in self._quotas.values())

    def _quota(self, tenant: Tenant) -> TenantQuota:
        quota = self._quotas.get(tenant.name)
        if quota is None:
            quota = self._quotas[tenant.name] = TenantQuota(tenant, self.clock(), self.wall())
            self._ask_for_days()
        return quota

    # -- figures --------------------------------------------------------------------------------

    def budget_state(self, tenant: str) -> BudgetState | None:
        """A tenant's budget as a router may pace by it, None where it has none."""
        quota = self._quotas.get(tenant)
        return None if quota is None else quota.account.state(self.wall())

    def spending(self) -> list[Spending]:
        """Figures of every tenant that was seen or is listed."""
        return [Spending(name, to_money(quota.charged), quota.in_flight, dict(quota.refused),
                         quota.account.period, quota.account.spent,
                         quota.account.state(self.wall()),
                         quota.discreet or quota.tenant.confidential)
                for name, quota in self._quotas.items()]

    def shown_spending(self) -> list[Spending]:
        """The same for others' eyes: rounded for tenants that sent something confidential."""
        return [shown(one, self._config.disclosure) if one.discreet else one
                for one in self.spending()]


class _Counted:
    """Counts a refusal by its reason."""

    __slots__ = ("_quota",)

    def __init__(self, quota: TenantQuota) -> None:
        self._quota = quota

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ServiceError):
            self._quota.refused[error.code] += 1


def _unknown(message: str, code: str) -> ServiceError:
    return ServiceError(401, message, code, headers={"WWW-Authenticate": "Bearer"})
