"""Gateways with one broken part each, which the laws of simulated schedules must find."""

import heapq
from collections.abc import Callable
from typing import NamedTuple
from unittest.mock import patch

from penstock.engines.client.state import EngineState
from penstock.serving.gateway.admission_queue import AdmissionQueue
from penstock.serving.gateway.answers import Answers
from penstock.serving.gateway.proxy import Proxy
from penstock.serving.tenants import batch_writer, lease, repeats, slice_store, store
from penstock.serving.tenants.holdings import TenantSlices
from penstock.serving.tenants.keys import Keyring
from penstock.serving.tenants.ledger import Ledger
from penstock.serving.tenants.quota import TenantQuota
from penstock.serving.tenants.store import Store


def _ends_twice(settle):
    def broken(self, exchange, outcome):
        settle(self, exchange, outcome)
        exchange.ending = None
        settle(self, exchange, outcome)
    return broken


def _forgets_the_end(settle):
    def broken(self, exchange, outcome):
        if outcome != "cancelled":
            settle(self, exchange, outcome)
    return broken


def _waits_for_nothing(_):
    async def broken(self):
        return True
    return broken


def _charges_again(charge):
    def broken(self, connection, one, gateway, *, resolved):
        if batch_writer._charge_of(connection, one.decision_id) is None:
            charge(self, connection, one, gateway, resolved=resolved)
        elif not resolved:
            self._add(connection, (one.tenant, batch_writer.day_of(one.at_s), one.model),
                      batch_writer.amounts(one))
    return broken


def _writes_once(write):
    """A batch of which some rows exist is taken for written."""
    def broken(self, batch, gateway):
        try:
            with self._engine.begin() as connection:
                self._writer.write_new(connection, batch, gateway)
        except store.IntegrityError:
            return
        except store.SQLAlchemyError as error:
            raise store.StoreError("fails") from error
    return broken


def _charges_more_than_the_hold(judge):
    def broken(*arguments):
        usage = judge(*arguments)
        return usage._replace(output_tokens=usage.output_tokens + 30)
    return broken


def _forgets_repeats(claim):
    def broken(connection, one, *more):
        connection.execute(repeats.delete(repeats.REPEATS).where(
            repeats.REPEATS.c.digest == one.digest))
        return claim(connection, one, *more)
    return broken


def _ignores_slices(_):
    return lambda self, wants, now_s: None


def _grants_what_others_hold(hold):
    return lambda claim, others, committed: hold(claim, [], committed)


def _admits_all(_):
    async def broken(self, priority, slo):
        self.num_in_flight += 1
    return broken


def _wakes_nobody(_):
    def broken(self):
        self.num_in_flight -= 1
    return broken


def _leaks_places(_):
    """Who leaves while it waits for a turn keeps its place."""
    def broken(self):
        while self._order:
            _, number = heapq.heappop(self._order)
            if self._waiting.serve(number, None):
                return
        self.num_in_flight = max(self.num_in_flight - 1, 1)
    return broken


def _drains_not(unavailable):
    def broken(self, now_s):
        draining, self.draining = self.draining, False
        try:
            return unavailable(self, now_s)
        finally:
            self.draining = draining
    return broken


def _knows_no_revocation(_):
    def broken(self, text):
        return self._keys.get(text.partition("-")[2].partition("-")[0])
    return broken


def _gives_no_place_back(give_back):
    def broken(self, nanos, tokens, now_s):
        give_back(self, nanos, tokens, now_s)
        self.in_flight += tokens > 0
    return broken


def _ends_no_attempt(end):
    def broken(self, request_id):
        if request_id % 4:
            end(self, request_id)
    return broken


def _resolves_without_charge(_):
    def broken(self, gateways, now_s):
        for gateway in gateways:
            with self._transaction() as connection:
                connection.execute(store.delete(store.OPEN).where(
                    store.OPEN.c.gateway == gateway))
        return 0
    return broken


def _resolves_nothing(_):
    return lambda self, gateways, now_s: 0


def _retries_after_the_first_byte(_):
    async def broken(self, exchange, engine, response, failure, last=b""):
        raise failure
    return broken


def _tries_one_engine_twice(chosen):
    async def broken(self, exchange, request, tried):
        return await chosen(self, exchange, request, [])
    return broken


class Fault(NamedTuple):
    """A part, how it is broken, and the law that says so. Seeds from ``first`` on are tried."""

    owner: object
    attribute: str
    make: Callable
    law: str
    first: int = 0


BROKEN = {
    "ends twice": Fault(Proxy, "_settle", _ends_twice, "ends"),
    "forgets the end of who leaves": Fault(Proxy, "_settle", _forgets_the_end, "ends"),
    "does not wait for the charge": Fault(Ledger, "written", _waits_for_nothing, "lost"),
    "charges again": Fault(batch_writer.BatchWriter, "charge", _charges_again, "sums"),
    "takes a batch for written": Fault(Store, "write", _writes_once, "lost", first=300),
    "charges above the hold": Fault(lease, "judge", _charges_more_than_the_hold, "charges"),
    "forgets repeated requests": Fault(repeats, "claim", _forgets_repeats, "repeats"),
    "ignores slices of limits": Fault(TenantSlices, "lacks", _ignores_slices, "admission"),
    "grants what others hold": Fault(slice_store, "hold", _grants_what_others_hold, "admission"),
    "admits all": Fault(AdmissionQueue, "enter", _admits_all, "admission"),
    "wakes nobody": Fault(AdmissionQueue, "leave", _wakes_nobody, "admission"),
    "keeps a place": Fault(AdmissionQueue, "leave", _leaks_places, "counters"),
    "sends to drained engines": Fault(EngineState, "unavailable", _drains_not, "drains"),
    "knows no revocation": Fault(Keyring, "find", _knows_no_revocation, "doors"),
    "gives no place back": Fault(TenantQuota, "give_back", _gives_no_place_back, "counters"),
    "ends no attempt": Fault(EngineState, "end", _ends_no_attempt, "counters"),
    "resolves without a charge": Fault(Store, "resolve", _resolves_without_charge, "leases"),
    "resolves nothing": Fault(Store, "resolve", _resolves_nothing, "leases"),
    "retries after the first byte": Fault(Answers, "_broken", _retries_after_the_first_byte,
                                          "retries"),
    "tries an engine twice": Fault(Proxy, "_chosen", _tries_one_engine_twice, "retries"),
}


def broken(name):
    """A context in which every gateway has this fault."""
    fault = BROKEN[name]
    whole = getattr(fault.owner, fault.attribute)
    return patch.object(fault.owner, fault.attribute, fault.make(whole))
