"""A gateway's slices of its tenants' limits: requests are admitted from them without a wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from penstock.engines.beside import is_set_within
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.quota import TenantQuota, retry_later
from penstock.serving.tenants.slices import (
    RATES,
    Grant,
    Limit,
    Resource,
    SliceClaim,
    limits_of,
)

RENEW_S = 0.5
"""Slices in use are renewed this often, and their use is reported."""

WAIT_S = 0.8
"""A request waits this long for a slice. Another gateway gives back its spare within RENEW_S."""

_APART_S = 0.01  # at least between claims of a tenant
_POLL_S = 0.1  # between claims of a tenant whose requests wait
_KEPT_S = 5.0  # an idle tenant's slices are renewed this long
_MARGIN_S = 0.1  # a gateway takes its slice to lapse this much earlier than the database does
_FAILURES = 2  # claims in a row that fail at once before the ledger counts as out of reach
_AT_ONCE_S = 1.0
_SILENT_S = 5.0  # without an answered claim: slow claims alone are no failure
_CODES: dict[Resource, tuple[str, str]] = {
    "places": ("max_in_flight", "all places (max_in_flight)"),
    "requests": ("requests_per_minute", "all requests per minute"),
    "tokens": ("tokens_per_minute", "all tokens per minute"),
    "money": ("budget_reserved", "all of the budget")}

Ask = Callable[[Sequence[SliceClaim]], Awaitable[Mapping[tuple[str, Resource], Grant]]]
"""Sends claims to the ledger. Raises an exception where the ledger cannot be reached."""


class Wants(NamedTuple):
    """The amounts that a request takes besides a place: its tokens, and the most that it costs."""

    nanos: int
    tokens: int

    def of(self, resource: Resource) -> int:
        """Return the wanted amount of a resource."""
        if resource == "money":
            return self.nanos
        return self.tokens if resource == "tokens" else 1


class _Local:
    """A slice as its gateway knows it. ``amount`` includes what is in use, except of a rate."""

    __slots__ = ("amount", "closed_until_s", "expires_s", "retry_s", "taken", "unreported")

    def __init__(self) -> None:
        self.amount = 0
        self.unreported = 0  # of a rate: used since the last confirmed claim
        self.taken = 0  # of a rate: taken since the last claim, given back or not
        self.expires_s = self.closed_until_s = float("-inf")
        self.retry_s = 1.0


class TenantSlices:
    """The slices of one tenant, and the requests that wait for more."""

    def __init__(self, quota: TenantQuota) -> None:
        self.quota = quota
        self.waiting: deque[tuple[Wants, asyncio.Future[None]]] = deque()
        self.due_s = self.used_s = self._claimed_s = float("-inf")
        self._gives_back = False  # others want some
        self._tenant = quota.tenant
        self._limits = limits_of(quota.tenant)
        self._slices: dict[Resource, _Local] = {}
        quota.on_take, quota.on_give_back = self.take, self.give_back

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The tenant's present limits."""
        if self._tenant is not self.quota.tenant:
            self._tenant = self.quota.tenant
            self._limits = limits_of(self._tenant)
        return self._limits

    def lacks(self, wants: Wants, now_s: float) -> Resource | None:
        """Return the first resource of which the slice is too small, None where all suffice."""
        for limit in self.limits:
            if self._is_short(limit.resource, wants, now_s):
                return limit.resource
        return None

    def closed(self, wants: Wants, now_s: float) -> Resource | None:
        """Return the lacking resource that all gateways together have used up, as of the last
        claim; None where waiting may help."""
        for limit in self.limits:
            resource = limit.resource
            if now_s < self._local(resource).closed_until_s \
                    and self._is_short(resource, wants, now_s):
                return resource
        return None

    def refusal(self, resource: Resource) -> ServiceError:
        """Return the rejection of a request for which the slice is too small."""
        code, what = _CODES[resource]
        return retry_later(f"the gateways together have given out {what} of tenant "
                           f"{self.quota.tenant.name!r}", code, self._local(resource).retry_s)

    def take(self, tokens: int) -> None:
        """Take an admitted request and its tokens from the rates. Places and money in use are
        counted by the quota."""
        for limit in self.limits:
            if limit.resource in RATES:
                local = self._local(limit.resource)
                amount = tokens if limit.resource == "tokens" else 1
                local.amount -= amount
                local.taken += amount
                local.unreported += amount

    def give_back(self, tokens: int) -> None:
        """Return unused tokens with the next claim, or report that more was used."""
        local = self._slices.get("tokens")
        if local is not None:
            local.unreported -= tokens
            local.amount += min(tokens, 0)
            local.taken -= min(tokens, 0)

    def spent(self, nanos: int) -> None:
        """Take money from the slice whose charge is in the ledger."""
        local = self._slices.get("money")
        if local is not None:
            local.amount -= nanos

    def active(self, now_s: float) -> bool:
        """Whether the slices are still to be renewed."""
        return bool(self.waiting) or self.quota.in_flight > 0 or now_s < self.used_s + _KEPT_S

    def claims(self, now_s: float) -> list[SliceClaim]:
        """Return the claims of all limits. What they give back is not used from now on."""
        return [self._claim(limit, now_s) for limit in self.limits]

    def _claim(self, limit: Limit, now_s: float) -> SliceClaim:
        local, in_use = self._local(limit.resource), self._in_use(limit.resource)
        keep = max(0, local.amount) if now_s < local.expires_s else 0
        if self._gives_back or keep < in_use or now_s >= local.expires_s:
            keep = in_use
        wants = [amount for one, _ in self.waiting if (amount := one.of(limit.resource))]
        free = keep - in_use
        if now_s < local.expires_s:
            local.amount = min(local.amount, keep)
        local.taken = 0
        return SliceClaim(self.quota.tenant.name, limit, keep, in_use, local.unreported,
                          max(0, sum(wants) - free), max(0, min(wants, default=0) - free))

    def adopt(self, claims: Sequence[SliceClaim], grants: Mapping[tuple[str, Resource], Grant],
              expires_s: float, now_s: float) -> None:
        """Apply the answers to claims. The slices lapse at ``expires_s``."""
        gave_back, self._gives_back = self._gives_back, False
        again_s = RENEW_S
        for claim in claims:
            resource = claim.limit.resource
            grant, local = grants[claim.tenant, resource], self._local(resource)
            rate = resource in RATES
            local.unreported -= claim.used
            local.amount = grant.amount - local.taken
            local.expires_s = expires_s
            if grant.wanted:
                self._gives_back = True
                if not gave_back and grant.amount > claim.in_use:
                    again_s = 0.0
            if grant.lacks:
                # what several requests need must not be held in parts
                self._gives_back |= bool(grant.num_others)
            if grant.short:
                local.retry_s = max(1.0, grant.wait_s)
                if not grant.spare and (not rate or grant.wait_s > WAIT_S):
                    local.closed_until_s = now_s + _POLL_S
                again_s = min(again_s, max(0.005, min(_POLL_S, grant.wait_s or _POLL_S)))
        self.due_s = now_s + again_s
        self._claimed_s = now_s

    def hurry(self, now_s: float) -> None:
        """Claim soon, for a request that begins to wait."""
        self.due_s = min(self.due_s, max(now_s, self._claimed_s + _APART_S))

    def _local(self, resource: Resource) -> _Local:
        local = self._slices.get(resource)
        if local is None:
            local = self._slices[resource] = _Local()
        return local

    def _in_use(self, resource: Resource) -> int:
        if resource == "places":
            return self.quota.in_flight
        account = self.quota.account
        return account.reserved + account.unwritten if resource == "money" else 0

    def _is_short(self, resource: Resource, wants: Wants, now_s: float) -> bool:
        """Whether the slice of a resource is too small for a request."""
        amount, local = wants.of(resource), self._slices.get(resource)
        if amount <= 0:
            return False
        return local is None or now_s >= local.expires_s \
            or local.amount - self._in_use(resource) < amount


class Holdings:
    """The slices of one gateway. ``run`` claims them from the ledger; one event loop owns them.

    ``clock`` is monotonic, in seconds. A slice lapses ``lease_s`` after its claim. ``refuses`` says
    whether the ledger is known to fail, rather than being slow. ``on_active`` is told whether there
    are slices in use.
    """

    def __init__(self, ask: Ask, refuses: Callable[[], bool], clock: Callable[[], float],
                 lease_s: float, on_active: Callable[[bool], None] = lambda _: None) -> None:
        self._on_active = on_active
        self._ask = ask
        self._refuses = refuses
        self._clock = clock
        self._lease_s = lease_s
        self._slices: dict[str, TenantSlices] = {}
        self._active: dict[str, TenantSlices] = {}
        self._wake = asyncio.Event()
        self._num_failures = 0
        self._fails_since_s: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the ledger cannot be reached, so that a lapsed slice says nothing."""
        since_s = self._fails_since_s
        return self._num_failures >= _FAILURES or self._refuses() or (
            since_s is not None and self._clock() - since_s > _SILENT_S)

    def of(self, quota: TenantQuota) -> TenantSlices:
        """Return the slices of a tenant."""
        found = self._slices.get(quota.tenant.name)
        if found is None:
            found = self._slices[quota.tenant.name] = TenantSlices(quota)
        return found

    def spent(self, tenant: str, nanos: int) -> None:
        """Take money of a tenant from its slice whose charge is in the ledger."""
        found = self._slices.get(tenant)
        if found is not None:
            found.spent(nanos)

    def covers(self, quota: TenantQuota, wants: Wants) -> bool:
        """Whether the request can be admitted now."""
        slices, now_s = self.of(quota), self._clock()
        if not slices.limits:
            return True
        slices.used_s = now_s
        self._active[quota.tenant.name] = slices
        return slices.lacks(wants, now_s) is None

    async def obtain(self, quota: TenantQuota, wants: Wants) -> bool:
        """Wait a short time for a slice that suffices for the request. Returns False where the
        ledger cannot be reached. Raises ServiceError where the limit is used up."""
        slices, deadline_s = self.of(quota), self._clock() + WAIT_S
        waits = False
        while (lack := slices.lacks(wants, now_s := self._clock())) is not None:
            if self.failing:
                return False
            closed = slices.closed(wants, now_s)
            if closed is not None or now_s >= deadline_s:
                raise slices.refusal(closed or lack)
            if not waits:
                slices.hurry(now_s)
                waits = True
            await self._next_answer(slices, wants, deadline_s - now_s)
        return True

    async def _next_answer(self, slices: TenantSlices, wants: Wants, wait_s: float) -> None:
        entry = wants, asyncio.get_running_loop().create_future()
        slices.waiting.append(entry)
        self._active[slices.quota.tenant.name] = slices
        self._wake.set()
        try:
            async with asyncio.timeout(wait_s):
                await entry[1]
        except TimeoutError:
            pass
        finally:
            if entry in slices.waiting:
                slices.waiting.remove(entry)

    async def run(self) -> None:
        """Claim what requests wait for, and renew what is in use, until cancelled."""
        while True:
            self._wake.clear()
            now_s = self._clock()
            due = [one for one in self._active.values() if one.due_s <= now_s]
            if due:
                await self._claim(due)
                continue
            next_s = min((one.due_s for one in self._active.values()), default=None)
            await is_set_within(self._wake,
                                None if next_s is None else max(0.001, next_s - now_s))

    async def close(self) -> None:
        """Give everything back and report the last use."""
        claims = [claim._replace(keep=0, in_use=0, need=0, least=0)
                  for one in self._active.values() for claim in one.claims(self._clock())]
        if claims:
            await self._ask(claims)

    async def _claim(self, due: list[TenantSlices]) -> None:
        asked_s = self._clock()
        claims = {one.quota.tenant.name: one.claims(asked_s) for one in due}
        try:
            grants = await self._ask([claim for some in claims.values() for claim in some])
        except Exception:  # whatever a driver raises: the ledger reports its own trouble
            self._fails_since_s = self._fails_since_s or asked_s
            self._num_failures += self._clock() - asked_s < _AT_ONCE_S
            for one in due:
                one.due_s = self._clock() + _POLL_S
        else:
            self._num_failures, self._fails_since_s = 0, None
            expires_s = asked_s + self._lease_s - _MARGIN_S
            for one in due:
                one.adopt(claims[one.quota.tenant.name], grants, expires_s, self._clock())
        for one in due:
            while one.waiting:
                _, done = one.waiting.popleft()
                if not done.done():
                    done.set_result(None)
            if not one.active(self._clock()):
                self._active.pop(one.quota.tenant.name, None)
        self._on_active(bool(self._active))
