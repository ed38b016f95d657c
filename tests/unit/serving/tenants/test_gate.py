"""Who may ask, how much, and what it costs, with clocks that stand until they are told to go."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import get_args

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.loopback import is_loopback
from penstock.core.money import Price, per_million, to_nanos
from penstock.core.slo import ServiceClass
from penstock.engines.client.state import InFlight
from penstock.fleet.values_gateway import Budget, GatewayOptions, Scope, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Offer
from penstock.serving.tenants.answer_store import AnswerStore
from penstock.serving.tenants.claims import Claim
from penstock.serving.tenants.gate import GatewayConfig, TenantGate
from penstock.serving.tenants.idempotency import Kept
from penstock.serving.tenants.keys import SCOPES, Keyring, new_key
from penstock.serving.tenants.records import Opening, Progress, Settlement

OFFER = Offer({"chat": ServiceClass("chat")}, {"small": 1000, "large": 4000})
PRICES = {"small": per_million(1, 2), "large": per_million(10, 20)}
HOME = "127.0.0.1"


@dataclass
class Ledger:
    """What a front desk needs of a ledger, in memory."""

    records: list = field(default_factory=list)
    trouble: str | None = None
    full: bool = False
    days: frozenset = frozenset()
    num_open: int = 0

    def put(self, record):
        self.records.append(record)


@dataclass(frozen=True)
class AttestationStatus:
    keyring: Keyring
    spent_since: dict = field(default_factory=dict)
    reserved_elsewhere: dict = field(default_factory=dict)


class TenantQuota:
    """A front desk with one tenant, whose key is at hand."""

    def __init__(self, *tenants, ledger=None, max_in_flight=100, admin=False):
        ledger = Ledger() if ledger is None and tenants else ledger
        self.now_s, self.wall_s = 50.0, 1_000_000.0
        self.ledger = ledger
        made = [new_key(t.name, 0.0, random.Random(t.name).randbytes, admin=admin)
                for t in tenants]
        self.keys = {key.tenant: text for text, key in made}
        self.config = GatewayConfig(OFFER, GatewayOptions({}, tenants), PRICES, max_in_flight)
        self.gate = TenantGate(self.config, ledger, lambda: self.now_s, lambda: self.wall_s)
        self.gate._on_totals(AttestationStatus(Keyring(key for _, key in made)))
        self.number = 0

    def ask(self, tenant=None, **body):
        self.number += 1
        key = self.keys.get(tenant or next(iter(self.keys), None))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        lease = asyncio.run(self.gate.admit(
            self.gate.authorize(headers, HOME),
            orjson.dumps({"model": "small", "max_tokens": 100, **body}), headers,
            f"d{self.number}"))
        lease.follow("small", InFlight(10))
        return lease

    def refused(self, *arguments, **settings):
        with pytest.raises(ServiceError) as error:
            self.ask(*arguments, **settings)
        return error.value


def shop(**limits):
    return Tenant("shop", **limits)


# -- keys ---------------------------------------------------------------------------------------

def test_without_keys_anybody_may_ask_and_the_loopback_administers() -> None:
    gate = TenantQuota().gate
    assert gate.authenticate({}, "10.0.0.9") == (Tenant("default"), False, None)
    assert gate.authenticate({}, HOME).admin
    gate.permit({}, "::1", "admin")
    with pytest.raises(ServiceError, match="loopback") as error:
        gate.permit({}, "10.0.0.9", "admin")
    assert error.value.status == 403
    assert (gate.needs_keys, gate.num_keys) == (False, 0)


@pytest.mark.parametrize(("peer", "own"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("localhost", True), ("10.0.0.1", False), ("::ffff:10.0.0.1", False), (None, False),
    ("", False), ("evil", False)])
def test_what_a_loopback_is(peer, own) -> None:
    assert is_loopback(peer) is own


def test_with_a_tenant_a_key_is_needed_even_at_home() -> None:
    quota = TenantQuota(shop())
    text = quota.keys["shop"]
    for headers, code in (({}, "missing_key"), ({"Authorization": text}, "missing_key"),
                          ({"Authorization": "Bearer "}, "missing_key"),
                          ({"Authorization": f"Basic {text}"}, "missing_key"),
                          ({"Authorization": f"Bearer {text}x"}, "invalid_key")):
        with pytest.raises(ServiceError) as error:
            quota.gate.authenticate(headers, HOME)
        assert (error.value.status, error.value.code) == (401, code)
        assert error.value.headers == {"WWW-Authenticate": "Bearer"}
        assert text not in str(error.value)
    found = quota.gate.authenticate({"Authorization": f"bearer  {text} "}, None)
    assert found[:2] == (shop(), False)
    with pytest.raises(ServiceError, match="lacks the scope 'admin'"):
        quota.gate.permit({"Authorization": f"Bearer {text}"}, HOME, "admin")


def test_a_key_that_was_the_last_one_does_not_open_the_door_when_revoked() -> None:
    gate = TenantQuota().gate
    text, key = new_key("shop", 0.0, random.Random(1).randbytes)
    gate._on_totals(AttestationStatus(Keyring([key])))
    assert gate.authenticate({"Authorization": f"Bearer {text}"}, None).tenant == Tenant("shop")
    gate._on_totals(AttestationStatus(Keyring([replace(key, revoked_s=1.0)])))
    with pytest.raises(ServiceError, match="not valid"):
        gate.authenticate({"Authorization": f"Bearer {text}"}, HOME)
    with pytest.raises(ServiceError, match="no API key"):
        gate.authenticate({}, HOME)


def test_a_key_of_a_tenant_that_is_not_listed_any_more_opens_nothing() -> None:
    quota = TenantQuota(shop())
    quota.gate.adopt(replace(quota.config, options=GatewayOptions({}, (Tenant("other"),))))
    error = quota.refused()
    assert (error.status, error.code) == (403, "unknown_tenant")


def test_a_key_that_administers_asks_for_nothing_and_sees_everything() -> None:
    quota = TenantQuota(shop())
    text, key = new_key("", 0.0, random.Random(5).randbytes, admin=True)
    gate = quota.gate
    gate._on_totals(AttestationStatus(Keyring([key])))
    headers = {"Authorization": f"Bearer {text}"}
    gate.permit(headers, "10.0.0.9", "admin")
    assert gate.own(gate.authenticate(headers, None), "ask") is None
    with pytest.raises(ServiceError) as error:
        gate.authorize(headers, None)
    assert (error.value.status, error.value.code) == (403, "not_a_tenant")
    gate = TenantQuota(shop()).gate
    found = gate.authenticate({"Authorization": f"Bearer {quota.keys['shop']}"}, None)
    assert gate.own(found, "ask") == gate.own(found, "spend") == "shop"


@pytest.mark.parametrize(("made", "allowed"), [
    ({}, {"ask", "spend"}), ({"admin": True}, set(SCOPES)),
    ({"scopes": ("admin",)}, set(SCOPES)), ({"scopes": ("spend", "drain")}, {"spend", "drain"}),
    ({"scopes": ("ask",)}, {"ask"}), ({"scopes": ("metrics", "later")}, {"metrics"})])
def test_a_key_has_its_scopes_and_no_other(made, allowed) -> None:
    gate = TenantQuota(shop()).gate
    text, key = new_key("shop", 0.0, random.Random(5).randbytes, **made)
    gate._on_totals(AttestationStatus(Keyring([key])))
    headers = {"Authorization": f"Bearer {text}"}
    assert set(SCOPES) == set(get_args(Scope))
    for scope in SCOPES:
        if scope in allowed:
            assert gate.permit(headers, None, scope).key == key
            continue
        with pytest.raises(ServiceError, match=f"lacks the scope '{scope}'") as error:
            gate.permit(headers, HOME, scope)
        assert (error.value.status, error.value.code) == (403, "missing_scope")
    if "ask" in allowed:
        assert gate.authorize(headers, None) == shop()
    else:
        with pytest.raises(ServiceError, match="lacks the scope 'ask'"):
            gate.authorize(headers, None)


def test_a_key_without_a_tenant_has_no_scope_by_default() -> None:
    gate = TenantQuota(shop()).gate
    text, key = new_key("", 0.0, random.Random(5).randbytes, scopes=("spend",))
    gate._on_totals(AttestationStatus(Keyring([key, replace(key, key_id="x", scopes=())])))
    headers = {"Authorization": f"Bearer {text}"}
    assert gate.own(gate.permit(headers, None, "spend"), "spend") is None
    for scope in ("ask", "status", "admin"):
        with pytest.raises(ServiceError, match="lacks the scope"):
            gate.permit(headers, None, scope)
    with pytest.raises(ServiceError, match="lacks the scope"):
        gate.permit({"Authorization": headers["Authorization"].replace(key.key_id, "x")}, None,
                    "spend")


def test_a_key_opens_until_it_expires() -> None:
    quota = TenantQuota(shop())
    text, key = new_key("shop", 0.0, random.Random(5).randbytes, expires_s=quota.wall_s + 10.0)
    quota.gate._on_totals(AttestationStatus(Keyring([key])))
    headers = {"Authorization": f"Bearer {text}"}
    quota.wall_s += 9.9
    assert quota.gate.authorize(headers, None) == shop()
    quota.wall_s += 0.1
    with pytest.raises(ServiceError, match="has expired") as error:
        quota.gate.authorize(headers, None)
    assert (error.value.status, error.value.code) == (401, "expired_key")
    assert error.value.headers == {"WWW-Authenticate": "Bearer"}
    with pytest.raises(ServiceError, match="not valid"):  # only the owner is told
        quota.gate.authorize({"Authorization": f"Bearer {text}x"}, None)


# -- rates --------------------------------------------------------------------------------------

def test_requests_per_minute() -> None:
    quota = TenantQuota(shop(requests_per_minute=2))
    for _ in range(2):
        quota.ask().settle(1, 1)
    error = quota.refused()
    assert (error.status, error.code) == (429, "requests_per_minute")
    assert error.headers == {"Retry-After": "30"}
    assert "2 requests per minute" in str(error)
    quota.now_s += 30.0
    quota.ask()
    assert quota.refused().code == "requests_per_minute"


def test_tokens_per_minute_count_what_was_used_in_the_end() -> None:
    quota = TenantQuota(shop(tokens_per_minute=250))
    first, second = quota.ask(prompt="x" * 40), quota.ask(prompt="x" * 40)
    error = quota.refused(prompt="x" * 40)
    assert (error.status, error.code, error.headers) == (429, "tokens_per_minute",
                                                         {"Retry-After": "20"})
    first.settle(10, 20)
    quota.ask(prompt="x" * 40)
    second.settle(10, 100)
    assert quota.refused(max_tokens=1).headers == {"Retry-After": "1"}
    assert quota.refused(max_tokens=100).headers == {"Retry-After": "25"}


def test_a_request_that_never_fits_is_not_told_to_come_back() -> None:
    error = TenantQuota(shop(tokens_per_minute=99)).refused()
    assert (error.status, error.code, error.headers) == (400, "over_tokens_per_minute", {})


def test_requests_under_way() -> None:
    quota = TenantQuota(shop(max_in_flight=2))
    first, _ = quota.ask(), quota.ask()
    error = quota.refused()
    assert (error.status, error.code, error.headers) == (429, "max_in_flight",
                                                         {"Retry-After": "1"})
    first.settle(0, 0)
    quota.ask()


def test_who_is_refused_uses_nothing_up() -> None:
    quota = TenantQuota(shop(max_in_flight=1, requests_per_minute=2, tokens_per_minute=1000))
    first = quota.ask()
    for _ in range(9):
        assert quota.refused().code == "max_in_flight"
    first.settle(0, 0)
    quota.ask().settle(0, 0)
    assert quota.refused().code == "requests_per_minute"
    assert quota.gate.spending()[0].refused == {"max_in_flight": 9, "requests_per_minute": 1}


@pytest.mark.parametrize("limit", [{"max_in_flight": 1}, {"requests_per_minute": 1}])
def test_who_is_over_a_limit_is_told_before_its_body_is_read(limit) -> None:
    quota = TenantQuota(shop(**limit))
    headers = {"Authorization": f"Bearer {quota.keys['shop']}"}
    quota.ask()
    with pytest.raises(ServiceError) as error:
        quota.gate.authorize(headers, HOME)
    assert (error.value.status, error.value.code) == (429, next(iter(limit)))


def test_one_tenant_cannot_starve_another() -> None:
    """One takes all places and each that falls free; another one only has to come again."""
    quota = TenantQuota(shop(), Tenant("bar"), max_in_flight=20)
    held = [quota.ask("shop") for _ in range(20)]
    assert quota.refused("bar").code == "too_many_requests"
    for _ in range(10):
        held.pop().settle(0, 0)
        assert quota.refused("shop").code == "fair_share"
        quota.ask("bar")
        quota.now_s += 1.0
    assert {one.tenant: one.num_in_flight for one in quota.gate.spending()} == {
        "shop": 10, "bar": 10}
    quota.now_s += 60.0
    held.pop().settle(0, 0)
    assert quota.refused("bar").code == "fair_share"
    quota.ask("shop")


def test_a_place_that_nobody_else_asks_for_is_anybodys() -> None:
    quota = TenantQuota(shop(), Tenant("bar"), max_in_flight=20)
    held = [quota.ask("shop") for _ in range(20)]
    quota.refused("bar")
    held.pop().settle(0, 0)
    assert quota.refused("shop").code == "fair_share"
    quota.now_s += 6.0
    quota.ask("shop")


def test_where_it_is_crowded_shares_are_equal() -> None:
    quota = TenantQuota(shop(), Tenant("bar"), max_in_flight=20)
    for _ in range(17):
        quota.ask("shop")
    quota.ask("bar")
    error = quota.refused("shop")
    assert (error.status, error.code, error.headers) == (429, "fair_share", {"Retry-After": "1"})
    quota.ask("bar")
    quota.ask("bar")
    assert quota.refused("bar").code == "too_many_requests"


# -- money --------------------------------------------------------------------------------------

def test_what_was_delivered_is_charged_once() -> None:
    quota = TenantQuota(shop(budget=Budget(1.0)), ledger=Ledger())
    lease = quota.ask()
    before = quota.gate.budget_state("shop")
    assert before.spent == 0
    assert before.reserved > 200e-6, "a hundred tokens and the whole prompt"
    lease.settle(10, 20)
    lease.settle(1000, 2000)
    assert quota.ledger.records == [Settlement("d1", "shop", "small", 1_000_000.0, 10, 20, 50_000)]
    state = quota.gate.budget_state("shop")
    assert (state.spent, state.reserved) == (50e-6, 0)
    assert state.amount == 1.0
    assert 0 < state.period_elapsed_share < 1


def test_what_may_be_spent_is_held_first() -> None:
    quota = TenantQuota(shop(budget=Budget(0.01, "day")))
    held = [quota.ask(max_tokens=1000) for _ in range(4)]  # up to 0.0021 each
    error = quota.refused(max_tokens=1000)
    assert (error.code, error.headers) == ("budget_reserved", {"Retry-After": "1"})
    assert "0.01 per day; 0 is spent" in str(error)
    held.pop().settle(100, 1)
    quota.ask(max_tokens=1000)
    for lease in held:
        lease.settle(0, 1000)
    error = quota.refused(max_tokens=1000)
    assert error.code == "budget_reserved"
    quota.ask(max_tokens=100)


def test_a_budget_that_is_spent_says_until_when() -> None:
    quota = TenantQuota(shop(budget=Budget(0.001, "day")))
    for _ in range(3):
        quota.ask(max_tokens=150).settle(0, 150)
    error = quota.refused(max_tokens=100)
    midnight_s = 86_400 * 12
    assert (error.status, error.code) == (429, "budget_exhausted")
    assert error.headers == {"Retry-After": str(round(midnight_s - 1_000_000))}
    quota.gate._on_written(quota.ledger.records)
    quota.wall_s = float(midnight_s)
    quota.ask(max_tokens=100)
    assert quota.gate.budget_state("shop").spent == 0


def test_a_total_that_is_spent_is_not_worth_coming_back_for() -> None:
    error = TenantQuota(shop(budget=Budget(0.0, "total"))).refused()
    assert (error.status, error.code, error.headers) == (429, "budget_exhausted", {})


def test_with_a_choice_of_models_the_dearest_is_held() -> None:
    quota = TenantQuota(shop(budget=Budget(1.0)))
    quota.ask(model="small")
    small = quota.gate.budget_state("shop").reserved
    quota.ask(model="auto")
    assert quota.gate.budget_state("shop").reserved == pytest.approx(11 * small, rel=0.2)


def test_models_without_a_price_cost_nothing() -> None:
    quota = TenantQuota(shop(budget=Budget(0.0)))
    quota.gate.adopt(replace(quota.config, prices={"large": Price(1.0, 1.0)}))
    quota.ask(model="small").settle(10, 10)
    assert quota.refused(model="auto").code == "budget_exhausted"


@pytest.mark.parametrize("nonsense", [None, -1, 1.5, "12", True, 10**12, {}])
def test_what_an_engine_makes_up_is_not_believed(nonsense) -> None:
    quota = TenantQuota(shop(), ledger=Ledger())
    lease = quota.ask(prompt="x" * 40)
    lease.follow("small", InFlight(10, 0.0, 7))
    lease.settle(nonsense, nonsense)
    assert quota.ledger.records[0][4:7] == (10, 7, 10_000 + 14_000)


def test_no_charge_is_above_what_was_held_nor_is_a_record_of_progress() -> None:
    quota = TenantQuota(shop(budget=Budget(1.0)), ledger=Ledger())
    lease, passing = quota.ask(prompt="x" * 40, max_tokens=5), InFlight(10, 0.0, 7)
    held = quota.gate.budget_state("shop").reserved
    lease.follow("small", passing)
    quota.gate.journal()
    passing.output_tokens = 598
    quota.gate.journal()
    charge = lease.settle(10**9, 10**9)
    assert [one.output_tokens for one in quota.ledger.records] == [5, 5, 5]
    assert charge.nanos == 20_000 <= to_nanos(held)
    assert charge.dispute is not None
    assert quota.ledger.records[-1].disputed
    assert {one.charged_nanos for one in quota.ledger.records} == {20_000}


def test_what_failed_costs_nothing_and_is_not_written() -> None:
    quota = TenantQuota(shop(budget=Budget(1.0)), ledger=Ledger())
    quota.ask().settle(0, 0)
    assert quota.ledger.records == []
    assert quota.gate.budget_state("shop")[1:3] == (0, 0)


def test_the_ledger_hears_of_long_answers_while_they_last() -> None:
    quota = TenantQuota(shop(), ledger=Ledger())
    lease, passing = quota.ask(prompt="x" * 40), InFlight(10)
    quota.gate.journal()
    quota.gate.journal()
    lease.follow("small", passing)
    passing.output_tokens = 3
    quota.gate.journal()
    quota.gate.journal()
    passing.output_tokens = 5
    quota.gate.journal()
    lease.settle(12, 5)
    quota.gate.journal()
    opening, *rest = quota.ledger.records
    assert isinstance(opening, Opening)
    assert (opening.model, opening.charged_nanos) == ("small", 0)
    assert opening.reserved_nanos >= 200_000
    assert rest == [Progress("d1", "small", 10, 3, 16_000), Progress("d1", "small", 10, 5, 20_000),
                    Settlement("d1", "shop", "small", 1_000_000.0, 12, 5, 22_000, True)]


def test_what_is_held_for_a_confidential_request_is_rounded_up_in_the_ledger() -> None:
    quota = TenantQuota(shop(confidential=True, budget=Budget(1.0)), ledger=Ledger())
    for prompt in ("x" * 40, "x" * 41):
        quota.ask(prompt=prompt)
    quota.gate.journal()
    first, second = (one.reserved_nanos for one in quota.ledger.records)
    assert first == second == 500_000, "exactly it is 350,000 and 351,000"


@pytest.mark.parametrize("confidential", [True, False])
def test_no_answer_to_a_confidential_request_is_kept_for_its_idempotency_key(confidential) -> None:
    quota = TenantQuota(shop(confidential=confidential))
    answers = AnswerStore(lambda: 0.0)
    lease = asyncio.run(quota.gate.admit(shop(confidential=confidential), b'{"model": "small"}',
                                         {}, "d1", kept=Kept(Claim("k", "b", "d1"), answers)))
    lease.keep(b"secret", "text/plain")
    assert (answers.get("k") is None) is confidential
    lease.settle(1, 1)
    assert quota.ledger.records[-1].keyed


@pytest.mark.parametrize(("budget", "served"), [
    (Budget(1.0), False), (Budget(1.0, when_ledger_fails="serve"), True), (None, True)])
def test_who_is_served_while_nothing_can_be_written(budget, served) -> None:
    quota = TenantQuota(shop(budget=budget), ledger=Ledger(trouble="database or disk is full"))
    if served:
        quota.ask()
        quota.ledger.full = True
    error = quota.refused()
    assert (error.status, error.code) == (503, "ledger_unavailable")
    assert "cannot be written down now" in str(error)
    assert "disk" not in str(error), "which database it is, is no business of a tenant's"
    assert error.headers == {"Retry-After": "1"}


def test_the_ledger_knows_better() -> None:
    quota = TenantQuota(shop(budget=Budget(1.0, "day")), ledger=Ledger())
    quota.ask().settle(10, 20)
    written = to_nanos(0.25)
    quota.gate._on_written(quota.ledger.records)
    quota.gate._on_totals(AttestationStatus(Keyring(), {11: {"shop": written}},
                                            {"shop": to_nanos(0.5)}))
    assert quota.ledger.days >= {11}
    assert quota.gate.budget_state("shop")[1:3] == (0.25, 0.5)


def test_tenants_that_come_to_an_open_gateway_are_refused_with_a_reason() -> None:
    quota = TenantQuota()
    with pytest.raises(InputError, match="started without a ledger"):
        quota.gate.adopt(replace(quota.config, options=GatewayOptions({}, (shop(),))))
    quota.ask()


def test_new_limits_leave_what_is_under_way() -> None:
    quota = TenantQuota(shop(max_in_flight=5, requests_per_minute=3))
    lease = quota.ask()
    quota.gate.adopt(replace(quota.config, options=GatewayOptions(
        {}, (shop(max_in_flight=1, requests_per_minute=3),))))
    assert quota.refused().code == "max_in_flight"
    lease.settle(1, 1)
    for _ in range(2):
        quota.ask().settle(0, 0)
    assert quota.refused().code == "requests_per_minute", "the minute goes on"


@pytest.mark.parametrize(("before", "after", "day"), [("month", "day", 11), ("month", "total", 0)])
def test_a_budget_for_another_period_counts_what_was_spent_in_that_one(before, after, day) -> None:
    quota = TenantQuota(shop(budget=Budget(1.0, before)))
    quota.gate.adopt(replace(quota.config, options=GatewayOptions(
        {}, (shop(budget=Budget(1.0, after)),))))
    assert day in quota.ledger.days
    quota.gate._on_totals(AttestationStatus(quota.gate._keyring, {0: {"shop": to_nanos(0.9)},
                                                                  11: {"shop": to_nanos(0.9)}}))
    assert quota.gate.budget_state("shop").spent == 0.9


@given(st.lists(st.tuples(st.sampled_from(["shop", "bar"]), st.integers(1, 1000),
                          st.integers(0, 4000), st.booleans()), max_size=30), st.randoms())
def test_spending_adds_up_and_keeps_to_the_budget(requests, shuffle) -> None:
    """Whatever comes in whatever order: what is spent is what was settled, nothing is held for
    nobody, and a budget is kept as long as engines keep to max_tokens."""
    budget = 0.004
    quota = TenantQuota(shop(budget=Budget(budget)), Tenant("bar", budget=Budget(10.0)),
                        ledger=Ledger())
    held, expected = [], {"shop": 0, "bar": 0}
    for name, most, length, settle_now in requests:
        try:
            lease = quota.ask(name, max_tokens=most)
        except ServiceError as error:
            assert error.code.startswith("budget_")  # noqa: PT017
            continue
        held.append((lease, name, min(length, most)))
        while held and settle_now:
            done, owner, tokens = held.pop(shuffle.randrange(len(held)))
            done.settle(1, tokens)
            expected[owner] += PRICES["small"].nanos(1, tokens)
    for done, owner, tokens in held:
        done.settle(1, tokens)
        expected[owner] += PRICES["small"].nanos(1, tokens)
    for name, nanos in expected.items():
        state = quota.gate.budget_state(name)
        assert to_nanos(state.spent) == nanos
        assert state.reserved == 0
        assert sum(one.charged_nanos for one in quota.ledger.records
                   if one.tenant == name) == nanos
    assert quota.gate.budget_state("shop").spent <= budget
