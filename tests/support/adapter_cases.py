"""Cases of one replica with adapters (LoRA), and the room for them."""

from dataclasses import replace

from hypothesis import strategies as st

from penstock.policy.keep import Demand
from penstock.policy.schedule.adapters import AdapterCost, AdapterStore
from support.strategies import Case

NAMES = ("", "a", "b", "c", "d", "e")
COSTS = {name: AdapterCost(7_000_000_001 * place, 1_300_000_003 * place, 90_000_007 * place)
         for place, name in enumerate(NAMES) if name}
ROOMS = st.tuples(st.integers(1, 3), st.integers(0, 4))
OVERHEAD_PS = 2_000_000_000


def adapted(cases: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    """The same cases with adapters, in turn, whose requests wait so long for a place."""
    return st.builds(_adapted, cases, st.lists(st.sampled_from(NAMES), min_size=1, max_size=7),
                     st.sampled_from((None, 0.0, 0.03, 0.2, 1.0)))


def _adapted(case: Case, names: list[str], wait_s: float | None) -> Case:
    return replace(case, options=replace(case.options, adapter_wait_s=wait_s),
                   requests=tuple(one._replace(adapter=names[place % len(names)])
                                  for place, one in enumerate(case.requests)))


def store_of(room: tuple[int, int], factor: int = 1) -> AdapterStore:
    """An empty store, whose loads take ``factor`` times as long."""
    costs = {name: AdapterCost(factor * one.fetch_ps, factor * one.copy_ps, one.read_ps)
             for name, one in COSTS.items()}
    return AdapterStore(*room, OVERHEAD_PS, costs, demand=Demand())
