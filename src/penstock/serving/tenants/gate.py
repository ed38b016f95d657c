"""The tenants' gate: identity, admission, and the money of every request."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from secrets import token_bytes
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.errors import InputError
from penstock.core.loopback import is_loopback
from penstock.core.money import FREE, Price, to_money
from penstock.engines.http_body import JsonBody
from penstock.fleet.values_gateway import GatewayOptions, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Ask, Offer, read_ask
from penstock.serving.tenants.budgets import Account, BudgetState, day_of
from penstock.serving.tenants.holdings import Holdings, Wants
from penstock.serving.tenants.idempotency import Kept, idempotency
from penstock.serving.tenants.issuers import Issuers
from penstock.serving.tenants.keys import TENANT_SCOPES, Key, Keyring
from penstock.serving.tenants.lease import MOST_NANOS, Held, Lease
from penstock.serving.tenants.quota import Spending, TenantQuota, redact, retry_later
from penstock.serving.tenants.records import Record, Settlement

if TYPE_CHECKING:  # not imported at run time: a gateway without a ledger needs no SQLAlchemy
    from penstock.serving.tenants.ledger import Ledger, LedgerTotals

_CROWDED_SHARE = 0.9
"""When more than this share of the gateway's places is taken, no tenant gets more than an equal
share."""

_REMEMBERED_S = 5.0
"""For this long a tenant that was rejected for lack of places counts as waiting for one."""


class Identity(NamedTuple):
    """Identity of a client: a tenant, an administrator, or both, and the key, if one is needed."""

    tenant: Tenant | None
    admin: bool
    key: Key | None = None

    def may(self, scope: str) -> bool:
        """Whether the client has a right."""
        if self.key is not None:
            return self.key.allows(scope)
        return self.admin or scope in TENANT_SCOPES


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
    """Admits or rejects requests. One event loop owns the gate.

    ``clock`` is monotonic, ``wall`` is the time of day; both are in seconds. ``note`` gets messages
    for operators.
    """

    def __init__(self, config: GatewayConfig, ledger: "Ledger | None", clock: Callable[[], float],
                 wall: Callable[[], float], note: Callable[[str], None] = lambda _: None) -> None:
        self.ledger = ledger
        self.holdings: Holdings | None = None  # of limits that gateways on one ledger share
        self.secret = token_bytes(32)  # of this start, unless a ledger keeps one
        self.clock = clock
        self.wall = wall
        self.idempotency = idempotency(ledger, clock, wall)
        self.issuers = Issuers(clock, wall, note)
        self._config = config
        self._needs_keys = self._needs_listing = False
        self._keyring = Keyring()
        self._quotas: dict[str, TenantQuota] = {}
        self._open: dict[str, Lease] = {}
        self._listed: dict[str, Tenant] = {}
        self.adopt(config)
        if ledger is not None:
            ledger.on_written = self._on_written
            ledger.on_totals = self._on_totals

    @property
    def prices(self) -> Mapping[str, Price]:
        """Prices by model. A model without a price is free."""
        return self._config.prices

    @property
    def offer(self) -> Offer:
        """Models and classes on offer."""
        return self._config.offer

    @property
    def needs_keys(self) -> bool:
        """Whether clients need a key. Once they do, only a restart of the gateway changes that."""
        return self._needs_keys

    @property
    def num_keys(self) -> int:
        """Number of valid keys."""
        return self._keyring.num_valid

    def adopt(self, config: GatewayConfig) -> None:
        """Apply a changed configuration. Admitted requests keep theirs. Raises InputError, and then
        nothing changes."""
        if config.options.tenants and self.ledger is None:
            raise InputError("gateway.tenants: the gateway was started without a ledger, so no "
                             "client could have a key; restart the gateway")
        self.issuers.adopt(config.options.issuers)
        self._config = config
        self._close_if_needed()
        self._listed = listed = {tenant.name: tenant for tenant in config.options.tenants}
        for name, quota in self._quotas.items():
            quota.adopt(listed.get(name, Tenant(name)), self.clock(), self.wall())
        for tenant in listed.values():
            self._quota(tenant)
        self._ask_for_days()

    # -- authentication -------------------------------------------------------------------------

    def authenticate(self, headers: Mapping[str, str], peer: str | None) -> Identity:
        """Return the identity of a client at the address ``peer``. Raises ServiceError."""
        if not self.needs_keys:
            return Identity(ANYBODY, is_loopback(peer))
        scheme, _, text = headers.get("Authorization", "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise _unknown("no API key; expected the header Authorization: Bearer KEY",
                           "missing_key")
        key = self._keyring.find(text) or self.issuers.find(text)
        if key is None:
            raise _unknown("this API key is not valid", "invalid_key")
        if key.is_expired(self.wall()):
            raise _unknown("this API key has expired", "expired_key")
        if not key.tenant:
            return Identity(None, key.admin, key)
        tenant = self._listed.get(key.tenant)
        if tenant is None:
            if self._needs_listing:
                raise ServiceError(403, f"the key's tenant {key.tenant!r} is not among the fleet's",
                                   "unknown_tenant")
            tenant = Tenant(key.tenant)
        return Identity(tenant, key.admin, key)

    def permit(self, headers: Mapping[str, str], peer: str | None, scope: str) -> Identity:
        """Return the identity of a client with a right. Raises ServiceError."""
        found = self.authenticate(headers, peer)
        if found.may(scope):
            return found
        if found.key is None:
            raise ServiceError(403, "this needs a call from the loopback interface", "not_admin")
        raise _missing(scope)

    def own(self, found: Identity, scope: str) -> str | None:
        """Return the tenant whose records a client may see, None for all tenants. Raises
        ServiceError."""
        if found.admin or (found.tenant is None and scope == "spend"):
            return None
        if found.tenant is None:
            raise _missing("admin")
        return found.tenant.name

    # -- admission ------------------------------------------------------------------------------

    def authorize(self, headers: Mapping[str, str], peer: str | None) -> Tenant:
        """Return the client's tenant, if it may have one more request. This is checked before the
        body is read, to save work on rejected requests. Raises ServiceError."""
        found = self.authenticate(headers, peer)
        tenant = found.tenant
        if tenant is None:
            raise ServiceError(403, "this key is for administration only; make one for a "
                               "tenant", "not_a_tenant")
        if not found.may("ask"):
            raise _missing("ask")
        quota = self._quota(tenant)
        try:
            quota.check_places()
            quota.check_requests(self.clock())
        except ServiceError as error:
            quota.refused[error.code] += 1
            raise
        return tenant

    async def admit(self, tenant: Tenant, content: bytes | JsonBody, headers: Mapping[str, str],
                    decision_id: str, path: str = "", kept: Kept | None = None) -> Lease:
        """Admit a request: at once where this gateway's slices of shared limits suffice, otherwise
        after a short wait for more. Raises ServiceError, with status 429 and Retry-After where a
        retry may succeed. The caller must settle the lease. ``kept`` is there where the request has
        an idempotency key."""
        ask = read_ask(content, headers, self._config.offer, tenant, path)
        quota, wants, holdings = self._quota(tenant), self._wants(ask), self.holdings
        now_s = self.clock()
        try:
            if holdings is not None and not holdings.covers(quota, wants):
                self._check(quota, wants, now_s)
                if not await holdings.obtain(quota, wants):
                    self._check_ledger(quota, holdings.failing)
                now_s = self.clock()
            self._check(quota, wants, now_s)
        except ServiceError as error:
            quota.refused[error.code] += 1
            raise
        return self._take(ask, quota, wants, decision_id, kept, now_s)

    def _wants(self, ask: Ask) -> Wants:
        return Wants(self._most_nanos(ask), ask.prompt_tokens + ask.max_tokens * ask.num_answers)

    def _check(self, quota: TenantQuota, wants: Wants, now_s: float) -> None:
        self._check_ledger(quota)
        self._roll_over(quota.account)
        quota.check_budget(wants.nanos, self.wall())
        quota.check_places()
        self._check_fair_share(quota, now_s)
        quota.check_requests(now_s)
        quota.check_tokens(wants.tokens, now_s)

    def _take(self, ask: Ask, quota: TenantQuota, wants: Wants, decision_id: str,
              kept: Kept | None, now_s: float) -> Lease:
        nanos, tokens = wants
        quota.take(nanos, tokens, now_s)
        disclosure = None
        if ask.needs.confidential:
            quota.has_confidential, disclosure = True, self._config.disclosure
        lease = Lease(ask, decision_id, quota, Held(nanos, tokens), self.prices, self.ledger,
                      self.clock, self.wall, self._closed, disclosure, kept)
        self._open[decision_id] = lease
        return lease

    def _most_nanos(self, ask: Ask) -> int:
        models: Iterable[str] = self._config.offer.models if ask.models is None else ask.models
        most = max(self.prices.get(name, FREE).nanos(ask.most_prompt_tokens,
                                                     ask.most_output_tokens) for name in models)
        return min(most, MOST_NANOS)

    def _check_ledger(self, quota: TenantQuota, fails: bool = False) -> None:
        ledger, budget = self.ledger, quota.tenant.budget
        if ledger is None:
            return
        fails = fails or ledger.trouble is not None
        closed = budget is not None and budget.when_ledger_fails == "refuse"
        if ledger.full or (fails and closed):
            # The database's message may reveal addresses that tenants must not see.
            raise ServiceError(503, "spending cannot be written down now, and tenant "
                                    f"{quota.tenant.name!r} is not served without",
                               "ledger_unavailable", headers={"Retry-After": "1"})

    def _roll_over(self, account: Account) -> None:
        start_s = account.period.start_s
        account.roll_over(self.wall())
        if account.period.start_s != start_s:
            self._ask_for_days()

    def _check_fair_share(self, quota: TenantQuota, now_s: float) -> None:
        """Share scarce places equally among the tenants that hold some and those that were rejected
        a moment ago."""
        most = self._config.max_in_flight
        if len(self._open) < _CROWDED_SHARE * most:
            return
        num_sharing = sum(one is quota or one.in_flight > 0 or now_s < one.waits_until_s
                          for one in self._quotas.values())
        if num_sharing > 1 and quota.in_flight >= most / num_sharing:
            raise retry_later(f"the gateway is nearly full, and tenant {quota.tenant.name!r} has "
                              f"its share of the places, {quota.in_flight} requests in flight",
                              "fair_share", 1.0)
        if len(self._open) >= most:
            quota.waits_until_s = now_s + _REMEMBERED_S
            raise retry_later(f"{len(self._open)} requests are in flight, as many as this gateway "
                              "takes", "too_many_requests", 1.0)

    # -- charges --------------------------------------------------------------------------------

    def _closed(self, settlement: Settlement) -> None:
        self._open.pop(settlement.decision_id, None)
        if settlement.keyed:
            self.idempotency.claims.settled(settlement)
        account = self._quotas[settlement.tenant].account
        if self.ledger is None:
            account.written += settlement.charged_nanos
            return
        self.ledger.num_open = len(self._open)
        account.unwritten += settlement.charged_nanos
        if settlement.delivered or settlement.opened or settlement.keyed:
            self.ledger.put(settlement)

    def journal(self) -> None:
        """Report the progress of requests to the ledger. Called about every second.

        An answer of less than a second is written once, when it is settled.
        """
        if self.ledger is None or self.ledger.full:
            return
        for lease in self._open.values():
            record = lease.record()
            if record is not None:
                self.ledger.put(record)

    def _on_written(self, records: list[Record]) -> None:
        charged: dict[str, int] = {}
        for record in records:
            if isinstance(record, Settlement):
                charged[record.tenant] = charged.get(record.tenant, 0) + record.charged_nanos
                if record.keyed:
                    self.idempotency.claims.written(record)
        for tenant, nanos in charged.items():
            account = self._quotas[tenant].account
            account.unwritten -= nanos
            account.written += nanos
            if self.holdings is not None:
                self.holdings.spent(tenant, nanos)

    def _on_totals(self, totals: "LedgerTotals") -> None:
        self._keyring = totals.keyring
        self._close_if_needed()
        for name, quota in self._quotas.items():
            account = quota.account
            day = day_of(account.period.start_s)
            if day in totals.spent_since:
                account.written = totals.spent_since[day].get(name, 0)
            account.elsewhere = totals.reserved_elsewhere.get(name, 0)

    def _close_if_needed(self) -> None:
        """Require keys once tenants or a key exist, and listed tenants once the fleet file lists
        tenants. Only a restart opens the gateway again."""
        self._needs_listing |= bool(self._config.options.tenants)
        self._needs_keys |= self._needs_listing or self._keyring.had_keys

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
        """Return a tenant's budget state, by which a router may pace spending. None without a
        budget."""
        quota = self._quotas.get(tenant)
        return None if quota is None else quota.account.state(self.wall())

    def spending(self) -> list[Spending]:
        """Return the figures of every tenant that is listed or has sent requests."""
        return [Spending(name, to_money(quota.charged), quota.in_flight, dict(quota.refused),
                         quota.account.period, quota.account.spent,
                         quota.account.state(self.wall()),
                         quota.has_confidential or quota.tenant.confidential)
                for name, quota in self._quotas.items()]

    def redacted_spending(self) -> list[Spending]:
        """Return the figures for other readers: rounded for tenants with confidential requests."""
        return [redact(one, self._config.disclosure) if one.has_confidential else one
                for one in self.spending()]


def _missing(scope: str) -> ServiceError:
    return ServiceError(403, f"this API key lacks the scope {scope!r}", "missing_scope")


def _unknown(message: str, code: str) -> ServiceError:
    return ServiceError(401, message, code, headers={"WWW-Authenticate": "Bearer"})
