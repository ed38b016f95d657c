"""Opens the tenants' gate with its ledger."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import aiohttp

from penstock.core.errors import InputError
from penstock.serving.background import background
from penstock.serving.tenants.gate import GatewayConfig, TenantGate
from penstock.serving.tenants.holdings import Holdings
from penstock.serving.tenants.key_sets import fetch_key_set

JOURNAL_S = 1.0
"""Interval of progress reports to the ledger: the most serving time that a killed gateway cannot
charge."""


@asynccontextmanager
async def open_gate(config: GatewayConfig, ledger_url: str | None,
                     note: Callable[[str], None]) -> AsyncIterator[TenantGate]:
    """Yield the gate. Without a URL there is no ledger. ``note`` gets messages for operators.
    Raises InputError where the ledger cannot be used."""
    if ledger_url is None:
        yield TenantGate(config, None, time.monotonic, time.time)
        return
    from penstock.serving.tenants.ledger import Ledger
    from penstock.serving.tenants.store import StoreError, open_store
    ledger = Ledger(await asyncio.to_thread(open_store, ledger_url), wall_s=time.time, note=note)
    gate = TenantGate(config, ledger, time.monotonic, time.time, note)
    try:
        resolved = await ledger.start()
        gate.secret = ledger.digest_key
    except StoreError as error:
        raise InputError(f"--ledger: {error}") from None
    if resolved:
        note(f"ledger: {resolved} requests of a gateway that died were charged for the tokens "
             "that it had recorded")
    holdings = gate.holdings = Holdings(ledger.claim, lambda: ledger.refuses, time.monotonic,
                                        ledger.lease_s, ledger.keep_slices)
    try:
        async with aiohttp.ClientSession() as session:
            fetch = partial(fetch_key_set, session)
            await gate.issuers.look(fetch)
            async with background([partial(_journal, gate), holdings.run,
                                   partial(gate.issuers.run, fetch)], note):
                yield gate
    finally:
        with suppress(Exception):  # slices that are not given back lapse
            await holdings.close()
        if lost := await ledger.stop():
            note(f"ledger: {lost} records could not be written: {ledger.trouble}")


async def _journal(gate: TenantGate) -> None:
    while True:
        await asyncio.sleep(JOURNAL_S)
        gate.journal()
