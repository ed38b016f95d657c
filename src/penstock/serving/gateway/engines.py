"""The engines of a fleet: membership, changes of the fleet file, and ejection of outliers."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.engines.client.outliers import outliers
from penstock.engines.client.state import EngineFacts, EngineState

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """URLs of added and removed engines."""

    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __str__(self) -> str:
        said = [*(f"{url} is new" for url in self.added),
                *(f"{url} is being drained" for url in self.removed)]
        return "; ".join(said) or "the same engines"


class Engines(Sequence[EngineState]):
    """Engines in the fleet's order. Removed engines stay until their last request has ended."""

    def __init__(self, facts: Sequence[EngineFacts]) -> None:
        self._states = [EngineState(one) for one in facts]
        self._leaving: set[EngineState] = set()
        self._joining: set[EngineState] = set()

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # both of Sequence's forms
        return self._states[index]

    def __iter__(self) -> Iterator[EngineState]:
        return iter(self._states)

    def adopt(self, facts: Sequence[EngineFacts]) -> Change:
        """Apply the engines of a changed file. Engines that stay keep their state and requests;
        removed engines finish their requests."""
        left = {(e.facts.url, e.facts.model, e.facts.kind): e for e in self._states
                if e not in self._leaving}
        states, added = [], []
        for one in facts:
            state = left.pop((one.url, one.model, one.kind), None)
            if state is None:
                state = EngineState(one)
                self._joining.add(state)
                added.append(one.url)
            # evidence from another place proves nothing here
            if state.facts.evidence != one.evidence:
                state.doubted("its evidence was not verified yet", revoked=True)
            state.facts = one
            states.append(state)
        for gone in left.values():
            gone.draining = True
            self._leaving.add(gone)
        leaving = [e for e in self._states if e in self._leaving]
        for number, state in enumerate(leaving):
            state.facts = replace(state.facts,
                                  replica_id=-1 - number)  # the router no longer knows the engine
        self._states = states + leaving
        self.forget()
        return Change(tuple(added), tuple(state.facts.url for state in left.values()))

    def forget(self) -> None:
        """Forget removed engines that have no requests left."""
        done = {state for state in self._leaving if not state.in_flight}
        if done:
            self._leaving -= done
            self._joining -= done
            self._states = [state for state in self._states if state not in done]

    def leaving(self, state: EngineState) -> bool:
        """Whether an engine was removed and only finishes its requests."""
        return state in self._leaving

    def eject(self, now_s: float) -> list[tuple[str, str]]:
        """Eject engines that do much worse than their peers. Returns their URLs, with reasons."""
        found: list[tuple[str, str]] = []
        by_model: dict[str, list[EngineState]] = {}
        for state in self._states:
            if not state.draining:
                by_model.setdefault(state.facts.model, []).append(state)
        for peers in by_model.values():
            able = [peer for peer in peers if peer.unavailable(now_s) is None]
            if joined := self._joining.intersection(able):
                self._joining -= joined
                for peer in peers:
                    peer.compare_from(now_s)
            num_ejected = sum(1 for peer in peers if peer.ejected(now_s) is not None)
            for i, why in outliers([peer.outcomes.aged(now_s) for peer in able],
                                   num_ejected).items():
                able[i].eject(why, now_s)
                found.append((able[i].facts.url, why))
        return found


async def keep(engines: Engines, clock: Callable[[], float], note: Callable[[str], None]) -> None:
    """Eject outliers and forget removed engines, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        engines.forget()
        for url, why in engines.eject(clock()):
            note(f"engine {url} is ejected for a while: it {why}")
