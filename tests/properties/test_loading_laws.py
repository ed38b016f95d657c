"""Laws of host memory and of loads, over drawn histories."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.units import GB
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence

SIZES = {"a": 7, "b": 12, "c": 30, "d": 55, "e": 0}
_MODELS = st.sampled_from(sorted(SIZES))
_STEPS = st.lists(st.tuples(st.sampled_from(["read", "cut", "stage", "sleep", "unstage", "drop",
                                             "squeeze"]), _MODELS, st.integers(0, 60)),
                  max_size=40)
_MEMORIES = st.integers(0, 90).flatmap(
    lambda capacity: st.builds(HostMemory, st.just(capacity), st.integers(0, capacity)))


def step(memory: HostMemory, action: str, model: str, amount: int) -> None:
    size = SIZES[model]
    before = memory.held(model, size)
    assert sum(before) == size
    if action == "read":
        assert memory.read(model, size) == before
    elif action == "cut":
        found = memory.read(model, size, most_disk_bytes=amount)
        assert found.disk_bytes == min(amount, before.disk_bytes)
        assert found[1:] == before[1:]
    elif action in ("stage", "sleep"):
        found_or_none = memory.stage(model, size, from_device=action == "sleep")
        if found_or_none is not None:
            assert sum(found_or_none) == size
            assert memory.held(model, size).pinned_bytes == size
    elif action == "unstage":
        assert memory.unstage(model) == before.pinned_bytes
    elif action == "drop":
        memory.drop(model)
        assert memory.held(model, size).cached_bytes == 0
    else:
        memory.squeeze(amount)


@given(_MEMORIES, _STEPS)
def test_capacity_holds_and_bytes_are_conserved(memory: HostMemory,
                                                steps: list[tuple[str, str, int]]) -> None:
    for action, model, amount in steps:
        held = memory.cached_bytes + memory.staged_bytes
        staged = memory.in_pinned_memory()
        step(memory, action, model, amount)
        memory.check_integrity()
        if action == "read":
            # What is held grows by no more than what came from disk.
            assert memory.cached_bytes + memory.staged_bytes <= held + SIZES[model]
        if action in ("read", "cut", "drop", "squeeze"):
            assert memory.in_pinned_memory() == staged, "the cache never evicts what is staged"


@given(_MEMORIES, _STEPS, _MODELS)
def test_read_twice_in_a_row_with_room_comes_from_memory(
        memory: HostMemory, steps: list[tuple[str, str, int]], model: str) -> None:
    for one in steps:
        step(memory, *one)
    size = SIZES[model]
    memory.read(model, size)
    room = memory.capacity_bytes - memory.staged_bytes
    expected = 0 if memory.in_pinned_memory().get(model, 0) >= size else max(0, size - room)
    assert memory.read(model, size).disk_bytes == expected


@given(st.integers(0, 90), _STEPS, st.integers(0, 30))
def test_more_memory_never_reads_more(capacity: int, steps: list[tuple[str, str, int]],
                                      more: int) -> None:
    small, large = HostMemory(capacity), HostMemory(capacity + more)
    for _, model, _ in steps:
        found, wanted = large.read(model, SIZES[model]), small.read(model, SIZES[model])
        assert found.disk_bytes <= wanted.disk_bytes


_RATES = st.floats(1e8, 1e11)
_LOADING = st.builds(
    LoadingModel, disk_bytes_per_s=_RATES, pageable_bytes_per_s=_RATES,
    evidence=st.just(LoadEvidence("drawn", 0.1, 0.3)), pinned_bytes_per_s=_RATES,
    fixed_s=st.floats(0.0, 20.0), overlap=st.floats(0.0, 1.0),
    first=st.builds(FirstLoad, st.floats(0.0, 30.0), st.floats(0.0, 60.0)),
    confidential=st.none() | st.builds(ConfidentialTerms, st.floats(0.0, 10.0),
                                       st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    link_bytes_per_s=st.floats(1e9, 1e12))
_BYTES = st.integers(1, 400 * GB)


@given(_LOADING, _BYTES, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.booleans())
def test_loads_keep_order_and_bounds(model: LoadingModel, size: int, cached: float, less: float,
                                     first: bool) -> None:
    held = int(size * cached)
    load = model.load(size, held, first=first)
    assert 0.0 <= load.low_s <= load.total_s <= load.high_s
    slack = 1e-9 * load.total_s
    assert load.total_s <= model.seconds(size, int(held * less), first=first) + slack
    assert load.total_s <= model.seconds(size + GB, held, first=first) + slack
    sequential = (load.parts["disk_s"] + load.parts["copy_s"] + load.parts["confidential_s"]
                  + load.parts["fixed_s"] + load.parts["first_s"])
    assert load.total_s <= sequential + slack
    assert load.total_s >= load.parts["disk_s"] - slack
