"""Slices of limits: never above the limit in total, whatever happens to gateways and commits."""

import asyncio
import random
import time

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.money import to_nanos
from penstock.fleet.values_gateway import Budget, Tenant
from penstock.serving.errors import ServiceError
from penstock.serving.tenants import slice_store
from penstock.serving.tenants.holdings import Holdings, TenantSlices, Wants
from penstock.serving.tenants.ledger import Ledger, LedgerTimes
from penstock.serving.tenants.quota import TenantQuota
from penstock.serving.tenants.records import Batch, Opening, Settlement
from penstock.serving.tenants.slices import (
    Level,
    Limit,
    Slice,
    SliceClaim,
    draw,
    hold,
)
from penstock.serving.tenants.store import StoreError, open_store

NOW_S = 1_000_000.0
BUDGET = 1e-6  # 1,000 nanos
SHORT_S = 2.0  # a lease, shorter than usual
SHOP = Tenant("shop", max_in_flight=20, requests_per_minute=60, tokens_per_minute=600,
              budget=Budget(BUDGET, "total"))


# -- arithmetic ---------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 50)
OTHERS = st.lists(st.builds(Slice, st.sampled_from("abcd"), AMOUNTS, AMOUNTS, AMOUNTS,
                            st.just(0.0)), max_size=4)


@given(st.integers(0, 60), AMOUNTS, AMOUNTS, AMOUNTS, OTHERS, AMOUNTS)
def test_a_grant_is_never_more_than_what_others_leave(most, keep, need, least, others, gone):
    claim = SliceClaim("shop", Limit("places", most), keep=keep, need=need, least=min(least, need))
    grant = hold(claim, others, gone)
    left = most - gone - sum(one.amount for one in others)
    assert 0 <= grant.amount <= max(0, left)
    assert grant.amount >= min(keep, max(0, left)), "what a gateway keeps is not taken away"
    if not others:
        assert grant.amount == max(0, left) or grant.short, "one alone has it all"


@given(st.integers(1, 60), AMOUNTS, AMOUNTS, AMOUNTS, st.integers(-20, 50), OTHERS,
       st.floats(-60, 60), st.floats(0, 100))
def test_level_and_slices_hold_at_most_a_minute(most, own, keep, need, used, others, level,
                                                after_s):
    claim = SliceClaim("shop", Limit("requests", most), keep=min(keep, own), used=used, need=need,
                  least=min(1, need))
    grant, left = draw(claim, own, others, Level(level, 0.0), after_s)
    assert left.amount + grant.amount + sum(one.amount for one in others) <= most + 1e-6
    assert grant.amount + left.amount <= level + after_s * most / 60 + own - used + 1e-6


def test_two_gateways_share_and_one_alone_has_everything() -> None:
    alone = hold(SliceClaim("shop", Limit("places", 100), need=1, least=1), [], 0)
    assert alone.amount == 100
    other = Slice("b", 20, 20, 0, 0.0)
    claim = SliceClaim("shop", Limit("places", 100), need=1, least=1)
    assert hold(claim, [other], 0).amount == 20
    wanting = other._replace(wanted=5)
    busy = SliceClaim("shop", Limit("places", 100), keep=7, in_use=7)
    assert hold(busy, [wanting], 0).amount == 7


# -- gateways, with every fault -----------------------------------------------------------------

def claimed(store, gateway, claims, now_s):
    return store.transact(
        lambda connection: slice_store.claim_slices(connection, gateway, claims, now_s, SHORT_S))


class Node:
    """A gateway whose claims are on their way for any time, and whose clock is its own."""

    def __init__(self, name, world, rng):
        self.name, self.world, self.offset_s = name, world, rng.uniform(-1e5, 1e5)
        self.quota = TenantQuota(SHOP, 0.0, NOW_S)
        self.slices = TenantSlices(self.quota)
        self.requests, self.sent, self.reply, self.lapsed = [], None, None, False

    @property
    def now_s(self):
        return self.world.now_s + self.offset_s

    def send(self):
        if self.sent is None:
            self.sent = self.now_s, self.slices.claims(self.now_s)

    def execute(self, rng):
        if self.sent is None or self.reply is not None:
            return
        fate = rng.choices(("well", "lost commit", "failed"), (8, 1, 1))[0]
        if fate != "failed":
            self.reply = claimed(self.world.store, self.name, self.sent[1],
                                 self.world.now_s)
        if fate != "well":
            self.sent = self.reply = None

    def receive(self):
        if self.reply is not None:
            asked_s, claims = self.sent
            self.slices.adopt(claims, self.reply, asked_s + SHORT_S - 0.1, self.now_s)
            self.slices.waiting.clear()
            self.sent = self.reply = None

    def begin(self, rng):
        wants = Wants(rng.choice((0, 10, 100, 300)), rng.randrange(1, 120))
        if self.slices.lacks(wants, self.now_s) is None:
            self.quota.take(wants.nanos, wants.tokens, self.now_s)
            self.requests.append(wants)
            self.world.admitted += 1
            self.world.tokens += wants.tokens
        else:
            self.slices.waiting.append((wants, None))

    def end(self, rng):
        if self.requests:
            wants = self.requests.pop(rng.randrange(len(self.requests)))
            charged, unused = rng.randint(0, wants.nanos), rng.randint(0, wants.tokens)
            self.quota.give_back(wants.nanos, unused, self.now_s)
            self.world.tokens -= unused
            batch = Batch()
            batch.add(Settlement(f"d{rng.random()}", "shop", "m", NOW_S, 1, 1, charged))
            self.world.store.write(batch, self.name)
            self.slices.spent(charged)
            self.world.spent += charged
            if self.lapsed:
                self.world.forgiven["money"] += charged

    def watch(self):
        """A slice lapses while requests are in flight: until these fit again, they are over."""
        local = self.slices._slices
        if any(self.now_s >= one.expires_s for one in local.values()):
            if not self.lapsed:
                for resource in ("requests", "tokens"):
                    self.world.forgiven[resource] += self.unreported(resource)
            self.lapsed = True
        elif self.quota.in_flight <= local["places"].amount \
                and self.quota.account.reserved <= local["money"].amount:
            self.lapsed = False

    def unreported(self, resource):
        local = self.slices._slices.get(resource)
        return 0 if local is None else max(0, local.unreported)


class World:
    """Some gateways on one ledger, with a clock of the database."""

    def __init__(self, store, seed):
        self.store, self.rng, self.now_s, self.begun_s = store, random.Random(seed), NOW_S, NOW_S
        self.admitted = self.tokens = self.spent = 0
        self.forgiven = {"requests": 0, "tokens": 0, "money": 0}  # to one lease
        self.nodes = [Node(f"g{n}", self, self.rng) for n in range(self.rng.randint(2, 5))]

    def step(self):
        rng, node = self.rng, self.rng.choice(self.nodes)
        what = rng.choices(("send", "execute", "receive", "begin", "end", "wait", "kill"),
                           (6, 6, 6, 12, 4, 3, 0.1))[0]
        if what == "wait":
            self.now_s += rng.choices((0.01, 0.1, 0.4, 3.0), (8, 8, 3, 1))[0]
        elif what == "kill":
            for resource in ("requests", "tokens"):
                self.forgiven[resource] += node.unreported(resource)
            self.nodes[self.nodes.index(node)] = Node(f"g{rng.random()}", self, rng)
        elif what in ("send", "receive"):
            getattr(node, what)()
        else:
            getattr(node, what)(rng)

    def check(self):
        with self.store._engine.connect() as connection:
            rows = connection.execute(slice_store.select(slice_store.SLICES)).all()
            levels = slice_store._levels(connection, ["shop"])
        live = {}
        for row in rows:
            if row.expires_s > self.now_s:
                live[row.resource] = live.get(row.resource, 0) + row.amount
        assert live.get("places", 0) <= SHOP.max_in_flight
        # a charge is in the sum before its gateway's slice in the table shrinks
        assert live.get("money", 0) <= to_nanos(BUDGET)
        for resource, most in (("requests", 60), ("tokens", 600)):
            if ("shop", resource) in levels:
                assert live.get(resource, 0) + levels["shop", resource].amount <= most + 1e-6
        for node in self.nodes:
            if node.slices._slices:
                node.watch()
        within = [node for node in self.nodes if not node.lapsed]
        assert sum(node.quota.in_flight for node in within) <= SHOP.max_in_flight
        assert self.spent + sum(node.quota.account.reserved for node in within) \
            <= to_nanos(BUDGET) + self.forgiven["money"]
        minutes = 1 + (self.now_s - self.begun_s) / 60
        assert self.admitted <= 60 * minutes + self.forgiven["requests"] + 1e-6
        assert self.tokens <= 600 * minutes + self.forgiven["tokens"] + 1e-6


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(slice_store, "_CLOCKS", {})  # the time is the test's
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.mark.parametrize("seed", range(25))
def test_gateways_never_hold_more_than_the_limit(ledger, seed) -> None:
    store = open_store(ledger)
    world = World(store, seed)
    for _ in range(400):
        world.step()
        world.check()
    assert world.admitted > 0
    store.close()


# -- with a real ledger -------------------------------------------------------------------------

WANTS = Wants(10, 10)


async def gateway(url, tenant=SHOP, faults=None):
    """A ledger, the slices of one tenant, and the task that claims them."""
    ledger = Ledger(open_store(url), LedgerTimes(lease_s=SHORT_S))
    await ledger.start()

    async def ask(claims):
        if faults:
            raise StoreError("it is gone")
        return await ledger.claim(claims)

    holdings = Holdings(ask, lambda: False, time.monotonic, SHORT_S)
    return ledger, holdings, TenantQuota(tenant, 0.0, NOW_S), asyncio.create_task(holdings.run())


def between(tmp_path, work, faults=None):
    async def run():
        url = f"sqlite:///{tmp_path}/ledger.db"
        made = [await gateway(url, faults=faults) for _ in range(2)]
        try:
            return await work(*made)
        finally:
            for ledger, _, _, task in made:
                task.cancel()
                await ledger.stop()

    return asyncio.run(asyncio.wait_for(run(), 60))


async def admit(holdings, quota, wants=WANTS):
    if not holdings.covers(quota, wants):
        await holdings.obtain(quota, wants)
    quota.take(*wants, 0.0)


async def admitted(holdings, quota, number, wants=WANTS):
    found = await asyncio.gather(*(admit(holdings, quota, wants) for _ in range(number)),
                                 return_exceptions=True)
    assert all(one is None or isinstance(one, ServiceError) for one in found), found
    return sum(one is None for one in found), {one.code for one in found if one is not None}


def test_a_slice_admits_without_waiting_and_one_gateway_alone_uses_the_whole_limit(tmp_path):
    async def work(first, _):
        _, holdings, quota, _ = first
        await admit(holdings, quota)
        for _ in range(19):
            assert holdings.covers(quota, WANTS)
            quota.take(*WANTS, 0.0)
        assert not holdings.covers(quota, WANTS)
        return await admitted(holdings, quota, 1)

    assert between(tmp_path, work) == (0, {"max_in_flight"})


def test_the_second_gateway_gets_what_the_first_does_not_use_within_the_wait(tmp_path) -> None:
    async def work(first, second):
        found = [await admitted(*first[1:3], 12), await admitted(*second[1:3], 12)]
        return found, first[2].in_flight + second[2].in_flight

    found, in_flight = between(tmp_path, work)
    assert found == [(12, set()), (8, {"max_in_flight"})]
    assert in_flight == 20


def test_a_killed_gateways_slice_returns_when_it_lapses(tmp_path) -> None:
    async def work(first, second):
        assert (await admitted(*first[1:3], 20))[0] == 20
        first[3].cancel()
        begun_s = time.monotonic()
        assert (await admitted(*second[1:3], 1))[0] == 0
        while not (await admitted(*second[1:3], 1))[0]:
            assert time.monotonic() < begun_s + 30
            await asyncio.sleep(0.05)
        return time.monotonic() - begun_s

    assert between(tmp_path, work) > SHORT_S - 1.0


def test_without_the_ledger_a_slice_serves_until_it_lapses(tmp_path) -> None:
    faults = []

    async def work(first, second):
        await admit(*first[1:3])
        faults.append(1)
        assert (await admitted(*first[1:3], 5))[0] == 5
        while first[1].covers(first[2], WANTS):
            await asyncio.sleep(0.05)
        # the gate admits or refuses, by the tenant's when_ledger_fails
        return await first[1].obtain(first[2], WANTS), await second[1].obtain(second[2], WANTS)

    assert between(tmp_path, work, faults) == (False, False)


def test_holds_that_a_dead_gateway_left_open_count_until_they_are_charged(tmp_path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    batch = Batch()
    batch.add(Opening("d", "shop", NOW_S, 400, "m", 1, 1, 7))
    batch.add(Settlement("e", "shop", "m", NOW_S, 1, 1, 100))
    store.write(batch, "dead")
    claim = SliceClaim("shop", Limit("money", 1000, "total"), need=1, least=1)
    assert claimed(store, "g", [claim], NOW_S)["shop", "money"].amount == 500
    store.resolve(["dead"], NOW_S)
    assert claimed(store, "g", [claim], NOW_S)["shop", "money"].amount == 893
    store.close()
