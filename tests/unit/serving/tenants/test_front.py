"""Who may ask, how much, and what it costs, with clocks that stand until they are told to go."""

from dataclasses import dataclass, field, replace

import orjson
import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import random

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.money import Price, per_million, to_nanos
from penstock.core.slo import ServiceClass
from penstock.engines.client.state import InFlight
from penstock.engines.http import is_loopback
from penstock.fleet.values_gateway import Budget, GatewayOptions, Tenant
from penstock.serving.gateway.ask import Offer
from penstock.serving.gateway.errors import GatewayError
from penstock.serving.tenants.front import Front, House
from penstock.serving.tenants.keys import Keyring, new_key
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
class Standing:
    keyring: Keyring
    spent_since: dict = field(default_factory=dict)
    reserved_elsewhere: dict = field(default_factory=dict)


class Desk:
    """A front desk with one tenant, whose key is at hand."""

    def __init__(self, *tenants, ledger=None, max_in_flight=100, admin=False):
        ledger = Ledger() if ledger is None and tenants else ledger
        self.now_s, self.wall_s = 50.0, 1_000_000.0
        self.ledger = ledger
        made = [new_key(t.name, 0.0, random.Random(t.name).randbytes, admin=admin)
                for t in tenants]
        self.keys = {key.tenant: text for text, key in made}
        self.house = House(OFFER, GatewayOptions({}, tenants), PRICES, max_in_flight)
        self.front = Front(self.house, ledger, lambda: self.now_s, lambda: self.wall_s)
        self.front._on_standing(Standing(Keyring(key for _, key in made)))
        self.number = 0

    def ask(self, tenant=None, **body):
        self.number += 1
        key = self.keys.get(tenant or next(iter(self.keys), None))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        lease = self.front.admit(
            self.front.asker(headers, HOME),
            orjson.dumps({"model": "small", "max_tokens": 100, **body}), headers,
            f"d{self.number}")
        lease.follow("small", InFlight(10))
        return lease

    def refused(self, *arguments, **settings):
        with pytest.raises(GatewayError) as error:
            self.ask(*arguments, **settings)
        return error.value


def shop(**limits):
    return Tenant("shop", **limits)


# -- keys ---------------------------------------------------------------------------------------

def test_without_keys_anybody_may_ask_and_the_loopback_administers() -> None:
    front = Desk().front
    assert front.identify({}, "10.0.0.9") == (Tenant("default"), False)
    assert front.identify({}, HOME).admin
    front.administrator({}, "::1")
    with pytest.raises(GatewayError, match="loopback") as error:
        front.administrator({}, "10.0.0.9")
    assert error.value.status == 403
    assert (front.needs_keys, front.num_keys) == (False, 0)


@pytest.mark.parametrize(("peer", "own"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("localhost", True), ("10.0.0.1", False), ("::ffff:10.0.0.1", False), (None, False),
    ("", False), ("evil", False)])
def test_what_a_loopback_is(peer, own) -> None:
    assert is_loopback(peer) is own


def test_with_a_tenant_a_key_is_needed_even_at_home() -> None:
    desk = Desk(shop())
    text = desk.keys["shop"]
    for headers, code in (({}, "missing_key"), ({"Authorization": text}, "missing_key"),
                          ({"Authorization": "Bearer "}, "missing_key"),
                          ({"Authorization": f"Basic {text}"}, "missing_key"),
                          ({"Authorization": f"Bearer {text}x"}, "invalid_key")):
        with pytest.raises(GatewayError) as error:
            desk.front.identify(headers, HOME)
        assert (error.value.status, error.value.code) == (401, code)
        assert error.value.headers == {"WWW-Authenticate": "Bearer"}
        assert text not in str(error.value)
    assert desk.front.identify({"Authorization": f"bearer  {text} "}, None) == (shop(), False)
    with pytest.raises(GatewayError, match="a key that administers"):
        desk.front.administrator({"Authorization": f"Bearer {text}"}, HOME)


def test_a_key_that_was_the_last_one_does_not_open_the_door_when_revoked() -> None:
    front = Desk().front
    text, key = new_key("shop", 0.0, random.Random(1).randbytes)
    front._on_standing(Standing(Keyring([key])))
    assert front.identify({"Authorization": f"Bearer {text}"}, None).tenant == Tenant("shop")
    front._on_standing(Standing(Keyring([replace(key, revoked_s=1.0)])))
    with pytest.raises(GatewayError, match="not valid"):
        front.identify({"Authorization": f"Bearer {text}"}, HOME)
    with pytest.raises(GatewayError, match="no API key"):
        front.identify({}, HOME)


def test_a_key_of_a_tenant_that_is_not_listed_any_more_opens_nothing() -> None:
    desk = Desk(shop())
    desk.front.adopt(replace(desk.house, options=GatewayOptions({}, (Tenant("other"),))))
    error = desk.refused()
    assert (error.status, error.code) == (403, "unknown_tenant")


def test_a_key_that_administers_asks_for_nothing_and_sees_everything() -> None:
    desk = Desk(shop())
    text, key = new_key("", 0.0, random.Random(5).randbytes, admin=True)
    front = desk.front
    front._on_standing(Standing(Keyring([key])))
    headers = {"Authorization": f"Bearer {text}"}
    front.administrator(headers, "10.0.0.9")
    assert front.own(headers, None) is None
    with pytest.raises(GatewayError) as error:
        front.asker(headers, None)
    assert (error.value.status, error.value.code) == (403, "not_a_tenant")
    assert Desk(shop()).front.own({"Authorization": f"Bearer {desk.keys['shop']}"}, None) == "shop"


# -- rates --------------------------------------------------------------------------------------

def test_requests_per_minute() -> None:
    desk = Desk(shop(requests_per_minute=2))
    for _ in range(2):
        desk.ask().settle(1, 1)
    error = desk.refused()
    assert (error.status, error.code) == (429, "requests_per_minute")
    assert error.headers == {"Retry-After": "30"}
    assert "2 requests per minute" in str(error)
    desk.now_s += 30.0
    desk.ask()
    assert desk.refused().code == "requests_per_minute"


def test_tokens_per_minute_count_what_was_used_in_the_end() -> None:
    desk = Desk(shop(tokens_per_minute=250))
    first, second = desk.ask(prompt="x" * 40), desk.ask(prompt="x" * 40)
    error = desk.refused(prompt="x" * 40)
    assert (error.status, error.code, error.headers) == (429, "tokens_per_minute",
                                                         {"Retry-After": "20"})
    first.settle(10, 20)
    desk.ask(prompt="x" * 40)
    second.settle(10, 290)
    assert desk.refused(max_tokens=1).headers == {"Retry-After": "47"}


def test_a_request_that_never_fits_is_not_told_to_come_back() -> None:
    error = Desk(shop(tokens_per_minute=99)).refused()
    assert (error.status, error.code, error.headers) == (400, "over_tokens_per_minute", {})


def test_requests_under_way() -> None:
    desk = Desk(shop(max_in_flight=2))
    first, _ = desk.ask(), desk.ask()
    error = desk.refused()
    assert (error.status, error.code, error.headers) == (429, "max_in_flight",
                                                         {"Retry-After": "1"})
    first.settle(0, 0)
    desk.ask()


def test_who_is_refused_uses_nothing_up() -> None:
    desk = Desk(shop(max_in_flight=1, requests_per_minute=2, tokens_per_minute=1000))
    first = desk.ask()
    for _ in range(9):
        assert desk.refused().code == "max_in_flight"
    first.settle(0, 0)
    desk.ask().settle(0, 0)
    assert desk.refused().code == "requests_per_minute"
    assert desk.front.spending()[0].refused == {"max_in_flight": 9, "requests_per_minute": 1}


@pytest.mark.parametrize("limit", [{"max_in_flight": 1}, {"requests_per_minute": 1}])
def test_who_is_over_a_limit_is_told_before_its_body_is_read(limit) -> None:
    desk = Desk(shop(**limit))
    headers = {"Authorization": f"Bearer {desk.keys['shop']}"}
    desk.ask()
    with pytest.raises(GatewayError) as error:
        desk.front.asker(headers, HOME)
    assert (error.value.status, error.value.code) == (429, next(iter(limit)))


def test_one_tenant_cannot_starve_another() -> None:
    """One takes all places and each that falls free; another one only has to come again."""
    desk = Desk(shop(), Tenant("bar"), max_in_flight=20)
    held = [desk.ask("shop") for _ in range(20)]
    assert desk.refused("bar").code == "too_many_requests"
    for _ in range(10):
        held.pop().settle(0, 0)
        assert desk.refused("shop").code == "fair_share"
        desk.ask("bar")
        desk.now_s += 1.0
    assert {one.tenant: one.num_in_flight for one in desk.front.spending()} == {
        "shop": 10, "bar": 10}
    desk.now_s += 60.0
    held.pop().settle(0, 0)
    assert desk.refused("bar").code == "fair_share"
    desk.ask("shop")


def test_a_place_that_nobody_else_asks_for_is_anybodys() -> None:
    desk = Desk(shop(), Tenant("bar"), max_in_flight=20)
    held = [desk.ask("shop") for _ in range(20)]
    desk.refused("bar")
    held.pop().settle(0, 0)
    assert desk.refused("shop").code == "fair_share"
    desk.now_s += 6.0
    desk.ask("shop")


def test_where_it_is_crowded_shares_are_equal() -> None:
    desk = Desk(shop(), Tenant("bar"), max_in_flight=20)
    for _ in range(17):
        desk.ask("shop")
    desk.ask("bar")
    error = desk.refused("shop")
    assert (error.status, error.code, error.headers) == (429, "fair_share", {"Retry-After": "1"})
    desk.ask("bar")
    desk.ask("bar")
    assert desk.refused("bar").code == "too_many_requests"


# -- money --------------------------------------------------------------------------------------

def test_what_was_delivered_is_charged_once() -> None:
    desk = Desk(shop(budget=Budget(1.0)), ledger=Ledger())
    lease = desk.ask()
    before = desk.front.budget_state("shop")
    assert before.spent == 0
    assert before.reserved > 200e-6, "a hundred tokens and the whole prompt"
    lease.settle(10, 20)
    lease.settle(1000, 2000)
    assert desk.ledger.records == [Settlement("d1", "shop", "small", 1_000_000.0, 10, 20, 50_000)]
    state = desk.front.budget_state("shop")
    assert (state.spent, state.reserved) == (50e-6, 0)
    assert state.amount == 1.0
    assert 0 < state.period_elapsed_share < 1


def test_what_may_be_spent_is_held_first() -> None:
    desk = Desk(shop(budget=Budget(0.01, "day")))
    held = [desk.ask(max_tokens=1000) for _ in range(4)]  # up to 0.0021 each
    error = desk.refused(max_tokens=1000)
    assert (error.code, error.headers) == ("budget_reserved", {"Retry-After": "1"})
    assert "0.01 per day; 0 is spent" in str(error)
    held.pop().settle(100, 1)
    desk.ask(max_tokens=1000)
    for lease in held:
        lease.settle(0, 1000)
    error = desk.refused(max_tokens=1000)
    assert error.code == "budget_reserved"
    desk.ask(max_tokens=100)


def test_a_budget_that_is_spent_says_until_when() -> None:
    desk = Desk(shop(budget=Budget(0.001, "day")))
    desk.ask(max_tokens=100).settle(0, 450)
    error = desk.refused(max_tokens=100)
    midnight_s = 86_400 * 12
    assert (error.status, error.code) == (429, "budget_exhausted")
    assert error.headers == {"Retry-After": str(round(midnight_s - 1_000_000))}
    desk.front._on_written(desk.ledger.records)
    desk.wall_s = float(midnight_s)
    desk.ask(max_tokens=100)
    assert desk.front.budget_state("shop").spent == 0


def test_a_total_that_is_spent_is_not_worth_coming_back_for() -> None:
    error = Desk(shop(budget=Budget(0.0, "total"))).refused()
    assert (error.status, error.code, error.headers) == (429, "budget_exhausted", {})


def test_with_a_choice_of_models_the_dearest_is_held() -> None:
    desk = Desk(shop(budget=Budget(1.0)))
    desk.ask(model="small")
    small = desk.front.budget_state("shop").reserved
    desk.ask(model="auto")
    assert desk.front.budget_state("shop").reserved == pytest.approx(11 * small, rel=0.2)


def test_models_without_a_price_cost_nothing() -> None:
    desk = Desk(shop(budget=Budget(0.0)))
    desk.front.adopt(replace(desk.house, prices={"large": Price(1.0, 1.0)}))
    desk.ask(model="small").settle(10, 10)
    assert desk.refused(model="auto").code == "budget_exhausted"


@pytest.mark.parametrize("nonsense", [None, -1, 1.5, "12", True, 10**12, {}])
def test_what_an_engine_makes_up_is_not_believed(nonsense) -> None:
    desk = Desk(shop(), ledger=Ledger())
    lease = desk.ask(prompt="x" * 40)
    lease.follow("small", InFlight(10, 0.0, 7))
    lease.settle(nonsense, nonsense)
    assert desk.ledger.records[0][4:7] == (10, 7, 10_000 + 14_000)


def test_what_failed_costs_nothing_and_is_not_written() -> None:
    desk = Desk(shop(budget=Budget(1.0)), ledger=Ledger())
    desk.ask().settle(0, 0)
    assert desk.ledger.records == []
    assert desk.front.budget_state("shop")[1:3] == (0, 0)


def test_the_ledger_hears_of_long_answers_while_they_last() -> None:
    desk = Desk(shop(), ledger=Ledger())
    lease, passing = desk.ask(prompt="x" * 40), InFlight(10)
    desk.front.journal()
    desk.front.journal()
    lease.follow("small", passing)
    passing.output_tokens = 3
    desk.front.journal()
    desk.front.journal()
    passing.output_tokens = 5
    desk.front.journal()
    lease.settle(12, 5)
    desk.front.journal()
    opening, *rest = desk.ledger.records
    assert isinstance(opening, Opening)
    assert (opening.model, opening.charged_nanos) == ("small", 0)
    assert opening.reserved_nanos >= 200_000
    assert rest == [Progress("d1", "small", 10, 3, 16_000), Progress("d1", "small", 10, 5, 20_000),
                    Settlement("d1", "shop", "small", 1_000_000.0, 12, 5, 22_000, True)]


def test_what_is_held_for_a_confidential_request_is_rounded_up_in_the_ledger() -> None:
    desk = Desk(shop(confidential=True, budget=Budget(1.0)), ledger=Ledger())
    for prompt in ("x" * 40, "x" * 41):
        desk.ask(prompt=prompt)
    desk.front.journal()
    first, second = (one.reserved_nanos for one in desk.ledger.records)
    assert first == second == 500_000, "exactly it is 350,000 and 351,000"


@pytest.mark.parametrize(("budget", "served"), [
    (Budget(1.0), False), (Budget(1.0, when_ledger_fails="serve"), True), (None, True)])
def test_who_is_served_while_nothing_can_be_written(budget, served) -> None:
    desk = Desk(shop(budget=budget), ledger=Ledger(trouble="database or disk is full"))
    if served:
        desk.ask()
        desk.ledger.full = True
    error = desk.refused()
    assert (error.status, error.code) == (503, "ledger_unavailable")
    assert "cannot be written down now" in str(error)
    assert "disk" not in str(error), "which database it is, is no business of a tenant's"
    assert error.headers == {"Retry-After": "1"}


def test_the_ledger_knows_better() -> None:
    desk = Desk(shop(budget=Budget(1.0, "day")), ledger=Ledger())
    desk.ask().settle(10, 20)
    written = to_nanos(0.25)
    desk.front._on_written(desk.ledger.records)
    desk.front._on_standing(Standing(Keyring(), {11: {"shop": written}}, {"shop": to_nanos(0.5)}))
    assert desk.ledger.days >= {11}
    assert desk.front.budget_state("shop")[1:3] == (0.25, 0.5)


def test_tenants_that_come_to_an_open_gateway_are_refused_with_a_reason() -> None:
    desk = Desk()
    with pytest.raises(InputError, match="started without a ledger"):
        desk.front.adopt(replace(desk.house, options=GatewayOptions({}, (shop(),))))
    desk.ask()


def test_new_limits_leave_what_is_under_way() -> None:
    desk = Desk(shop(max_in_flight=5, requests_per_minute=3))
    lease = desk.ask()
    desk.front.adopt(replace(desk.house, options=GatewayOptions(
        {}, (shop(max_in_flight=1, requests_per_minute=3),))))
    assert desk.refused().code == "max_in_flight"
    lease.settle(1, 1)
    for _ in range(2):
        desk.ask().settle(0, 0)
    assert desk.refused().code == "requests_per_minute", "the minute goes on"


@pytest.mark.parametrize(("before", "after", "day"), [("month", "day", 11), ("month", "total", 0)])
def test_a_budget_for_another_period_counts_what_was_spent_in_that_one(before, after, day) -> None:
    desk = Desk(shop(budget=Budget(1.0, before)))
    desk.front.adopt(replace(desk.house, options=GatewayOptions(
        {}, (shop(budget=Budget(1.0, after)),))))
    assert day in desk.ledger.days
    desk.front._on_standing(Standing(desk.front._keyring, {0: {"shop": to_nanos(0.9)},
                                                           11: {"shop": to_nanos(0.9)}}))
    assert desk.front.budget_state("shop").spent == 0.9


@given(st.lists(st.tuples(st.sampled_from(["shop", "bar"]), st.integers(1, 1000),
                          st.integers(0, 4000), st.booleans()), max_size=30), st.randoms())
def test_spending_adds_up_and_keeps_to_the_budget(requests, shuffle) -> None:
    """Whatever comes in whatever order: what is spent is what was settled, nothing is held for
    nobody, and a budget is kept as long as engines keep to max_tokens."""
    budget = 0.004
    desk = Desk(shop(budget=Budget(budget)), Tenant("bar", budget=Budget(10.0)), ledger=Ledger())
    held, expected = [], {"shop": 0, "bar": 0}
    for name, most, length, settle_now in requests:
        try:
            lease = desk.ask(name, max_tokens=most)
        except GatewayError as error:
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
        state = desk.front.budget_state(name)
        assert to_nanos(state.spent) == nanos
        assert state.reserved == 0
        assert sum(one.charged_nanos for one in desk.ledger.records
                   if one.tenant == name) == nanos
    assert desk.front.budget_state("shop").spent <= budget
