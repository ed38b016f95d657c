"""The page cache keeps what was read last; staged models stay."""

import pytest

from penstock.core.errors import InputError
from penstock.perf.loading.host_loads import HostLoads
from penstock.perf.loading.host_memory import HostMemory, HostRead
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import FirstLoad, LoadEvidence


def test_a_second_read_comes_from_the_cache() -> None:
    memory = HostMemory(100)
    assert memory.read("a", 40) == HostRead(40, 0, 0)
    assert memory.read("a", 40) == HostRead(0, 40, 0)
    assert memory.in_page_cache() == {"a": 40}


def test_what_was_read_longest_ago_goes_first_and_in_part() -> None:
    memory = HostMemory(100)
    for model in ("a", "b", "c"):
        memory.read(model, 40)
    assert memory.in_page_cache() == {"a": 20, "b": 40, "c": 40}
    assert memory.read("a", 40) == HostRead(20, 20, 0)
    assert memory.in_page_cache() == {"b": 20, "c": 40, "a": 40}


def test_a_file_larger_than_the_cache_fills_it() -> None:
    memory = HostMemory(100)
    memory.read("a", 40)
    assert memory.read("huge", 250) == HostRead(250, 0, 0)
    assert memory.in_page_cache() == {"huge": 100}


def test_a_read_that_is_cut_short_leaves_what_it_read() -> None:
    memory = HostMemory(100)
    assert memory.read("a", 40, most_disk_bytes=15) == HostRead(15, 0, 0)
    assert memory.read("a", 40, most_disk_bytes=0) == HostRead(0, 15, 0)
    assert memory.read("a", 40) == HostRead(25, 15, 0)


def test_staged_models_stay_and_take_from_the_page_cache() -> None:
    memory = HostMemory(100, pinned_limit_bytes=60)
    memory.read("a", 40)
    memory.read("b", 50)
    assert memory.stage("b", 50) == HostRead(0, 50, 0)
    assert memory.in_page_cache() == {"a": 40}
    memory.read("c", 50)
    assert memory.in_page_cache() == {"c": 50}
    assert memory.read("b", 50) == HostRead(0, 0, 50)
    assert memory.stage("c", 50) is None, "no room below the limit"
    assert memory.in_page_cache() == {"c": 50}, "a refusal changes nothing"
    assert memory.unstage("b") == 50
    assert memory.unstage("b") == 0
    assert memory.read("b", 50) == HostRead(50, 0, 0)


def test_staging_evicts_where_it_must() -> None:
    memory = HostMemory(100, pinned_limit_bytes=60)
    memory.read("a", 60)
    memory.read("b", 40)
    assert memory.stage("c", 60) == HostRead(60, 0, 0)
    assert memory.in_page_cache() == {"b": 40}
    assert memory.stage("c", 60) == HostRead(0, 0, 60), "staging again changes nothing"
    memory.check_integrity()


def test_sleep_reads_nothing_from_disk() -> None:
    memory = HostMemory(100, pinned_limit_bytes=100)
    assert memory.stage("a", 40, from_device=True) == HostRead(0, 0, 40)
    assert memory.held("a", 40) == HostRead(0, 0, 40)


def test_dropping_and_squeezing() -> None:
    memory = HostMemory(100)
    memory.read("a", 40)
    memory.read("b", 50)
    assert memory.squeeze(30) == 20
    assert memory.in_page_cache() == {"a": 20, "b": 50}
    assert memory.drop("b") == 50
    assert memory.drop("b") == 0
    assert memory.cached_bytes == 20


def test_a_copy_is_its_own() -> None:
    memory = HostMemory(100, 30)
    memory.read("a", 40)
    memory.stage("b", 30)
    other = memory.copy()
    other.read("c", 70)
    other.unstage("b")
    assert memory.in_page_cache() == {"a": 40}
    assert memory.in_pinned_memory() == {"b": 30}
    memory.check_integrity()
    other.check_integrity()


def test_the_limit_lies_within_the_capacity() -> None:
    with pytest.raises(InputError, match="pinned_limit_bytes: 200; expected 0 to 100"):
        HostMemory(100, 200)


def test_what_was_remembered_of_loads_is_forgotten_when_memory_changes() -> None:
    loading = LoadingModel(1.0, 10.0, LoadEvidence("test", 0.0, 0.0), first=FirstLoad(7.0))
    memory = HostMemory(150)
    loads = HostLoads(("a", "b"), (100, 100), loading, memory)
    other = HostLoads(("a", "b"), (100, 100), loading, memory)
    assert loads.load_s(0, 0) == loads.load_s(0, 0) == 100 + 10 + 7
    loads.loaded(0, 0)
    assert (loads.load_s(0, 0), loads.load_s(1, 0)) == (10, 10 + 7)
    other.loaded(0, 1)  # on the same host: takes half of the first one's place
    assert loads.load_s(0, 0) == 50 + 10
    assert loads.load_s(0, 1) == 10
    memory.drop("b")
    assert loads.load_s(0, 1) == 100 + 10
