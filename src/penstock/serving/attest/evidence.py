"""Requests evidence from engines, periodically, that they run in confidential mode (aiohttp)."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from secrets import token_hex

import aiohttp

from penstock.attest.make import make_verifier
from penstock.attest.tokens import MOST_BYTES, read_keys
from penstock.attest.values import Challenge, EvidenceError, Rules
from penstock.core.attestation import attestation_violation
from penstock.core.errors import InputError
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineFacts, EngineState, EvidencePlace
from penstock.engines.tls import engine_context
from penstock.fleet.values import Fleet
from penstock.fleet.values_multiplexing import DevicePool

_LOOK_S = 1.0
_AGAIN_S = 5.0  # after evidence that was missing or rejected
_NONCE_BYTES = 32


def check_rules(rules: Rules | None) -> None:
    """Raises InputError where no evidence can be verified: keys or libraries are missing."""
    if rules is not None:
        read_keys(rules.keys)


class EvidenceWatcher:
    """Keeps the attestations of ``engines`` fresh. Evidence is requested when an engine is new,
    then every ``renew_s`` of the rules, or when half of its validity is over, whichever comes
    first. ``wall_s`` is seconds since 1970, ``clock`` a monotonic clock. ``note`` is called when an
    engine's attestation status changes.
    """

    def __init__(self, engines: Sequence[EngineState], rules: Rules | None,
                 session: aiohttp.ClientSession, wall_s: Callable[[], float],
                 clock: Callable[[], float], note: Callable[[str], None],
                 timeout_s: float = 10.0) -> None:
        self._engines = engines
        self._session = session
        self._wall_s = wall_s
        self._clock = clock
        self._note = note
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._due_s: dict[tuple[EngineState, EvidencePlace], float] = {}
        self._rules = rules

    def adopt(self, rules: Rules | None) -> None:
        """Replace the rules. Attestations under the old rules are revoked."""
        if rules != self._rules:
            self._rules = rules
            for engine in self._engines:
                engine.doubted("its evidence was not verified by the present rules", revoked=True)
        self._due_s.clear()

    async def look(self) -> None:
        """Request evidence from every engine whose evidence is due."""
        now_s, rules = self._clock(), self._rules
        places = {(engine, engine.facts.evidence) for engine in self._engines
                  if engine.facts.evidence is not None}
        self._due_s = {key: due_s for key, due_s in self._due_s.items() if key in places}
        if rules is not None:
            await asyncio.gather(*(self._judge(engine, place, rules) for engine, place in places
                                   if self._due_s.get((engine, place), now_s) <= now_s))

    async def run(self) -> None:
        """Request evidence until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def _judge(self, engine: EngineState, place: EvidencePlace, rules: Rules) -> None:
        nonce = place.nonce or token_hex(_NONCE_BYTES)
        before = engine.confidentiality
        soon_s = wait_s = min(_AGAIN_S, rules.renew_s)
        try:
            evidence = await self._fetch(place.source, nonce)
            found = await asyncio.to_thread(make_verifier(rules).verify, evidence,
                                            Challenge(nonce, place.devices), self._wall_s())
            doubt, revoked = "", False
            # Evidence that expires before the next request would leave a gap.
            half_s = (found.expires_at_s - self._wall_s()) / 2
            wait_s = min(rules.renew_s, max(soon_s, half_s))
        except EvidenceError as error:
            doubt, revoked = f"its evidence {error}", True
        except (InputError, OSError, aiohttp.ClientError, TimeoutError) as error:
            doubt, revoked = f"its evidence cannot be had: {_words(error)}", False
        if engine.facts.evidence != place or rules is not self._rules:
            return  # the fleet file changed meanwhile
        self._due_s[(engine, place)] = self._clock() + wait_s
        if doubt:
            engine.doubted(doubt, revoked=revoked)
        else:
            engine.attested(found)
        after = engine.confidentiality
        if after.doubt != before.doubt or bool(after.attestations) != bool(before.attestations):
            self._note(f"engine {engine.facts.url}: {doubt or 'attested'}")

    async def _fetch(self, source: str, nonce: str) -> bytes:
        if not source.startswith(("http://", "https://")):
            return await asyncio.to_thread(_read, source)
        async with self._session.get(source, params={"nonce": nonce}, timeout=self._timeout,
                                     allow_redirects=False) as answer:
            if answer.status != 200:
                raise InputError(f"its source answered with status {answer.status}")
            found = b""
            while len(found) <= MOST_BYTES and (part := await answer.content.readany()):
                found += part
            return found


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _words(error: Exception) -> str:
    """Describe the error without its location, since tenants read the text."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "it was silent for too long"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else type(error).__name__


async def attestation_status(fleet: Fleet, note: Callable[[str], None] = lambda _: None
                             ) -> list[tuple[str, str | None]]:
    """Return the URL of every live replica in confidential mode, and the name of every such pool,
    each with the reason why it may get no confidential request now (None where it may). Requests
    evidence from each of them once. Raises InputError."""
    engines = [EngineState(facts) for facts in [*facts_of(fleet), *map(pool_facts,
                                                                       fleet.multiplexing)]
               if facts.confidential]
    check_rules(fleet.attestation)
    tls = fleet.gateway.engine_tls
    trust = True if tls is None else engine_context(tls, note)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        await EvidenceWatcher(engines, fleet.attestation, session, time.time, time.monotonic,
                              lambda _: None).look()
    found = [(engine.facts.url, attestation_violation(engine.confidentiality, time.time()))
             for engine in engines]
    return [(url, None if reason is None else str(reason)) for url, reason in found]


def pool_facts(pool: DevicePool) -> EngineFacts:
    """Return a multiplexed pool as an engine to attest: all devices of the pool are attested
    together, whichever model they serve."""
    return EngineFacts(-1, f"pool {pool.name}", "", None, 1, 1.0,
                       confidential=pool.accelerator.confidential,
                       evidence=None if pool.attestation is None
                       else EvidencePlace(*astuple(pool.attestation)))
