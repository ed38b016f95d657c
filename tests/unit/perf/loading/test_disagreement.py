"""A profile that says other than service does, and why."""

from dataclasses import replace

import pytest

from penstock.core.units import GB
from penstock.perf.loading.disagreement import Disagreement, disagreements
from penstock.perf.loading.fitting import fit_loads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.records import LoadRecord

SIZES = {"a": 20 * GB, "b": 26 * GB, "c": 32 * GB}


def service(cache_gb: int, extra_s: float = 0.0, order: str = "abcabacbcbacacbb") -> list[
        LoadRecord]:
    memory = HostMemory(cache_gb * GB)
    found = []
    for run in range(6):
        for number, name in enumerate(order):
            read = memory.read(name, SIZES[name])
            seconds = 2.0 + SIZES[name] / 10e9 + read.disk_bytes / 2e9 + extra_s
            found.append(LoadRecord("h", str(run), name, SIZES[name], seconds, number == 0))
    return found


def profile(*, confidential: bool = False) -> list[LoadRecord]:
    return [LoadRecord("p", f"{name}{number}", name, size, 2.0 + size / 10e9, False, confidential,
                       size)
            for name, size in SIZES.items() for number in range(3)]


def test_a_page_cache_that_is_too_small() -> None:
    records = service(50)
    (found,) = disagreements(fit_loads(records, "runs"), records, profile())
    assert found.factor > 1.5
    assert not found.agrees
    assert found.profile_s == pytest.approx(4.6, abs=0.3)
    assert found.working_set_bytes == 78 * GB
    assert "the models in rotation (78 GB) do not fit into the page cache" in found.cause
    assert "everything cached" not in found.cause
    assert found.read_s == pytest.approx(found.service_s - found.profile_s, rel=0.15)


def test_a_server_that_is_slower_with_everything_cached() -> None:
    records = service(500, 4.0)
    (found,) = disagreements(fit_loads(records, "runs"), records, profile())
    assert "4.0 s are there with everything cached" in found.cause
    assert "rotation" not in found.cause


def test_agreement() -> None:
    records = service(500)
    (found,) = disagreements(fit_loads(records, "runs"), records, profile())
    assert found.agrees
    assert found.cause == "the profile agrees with loads in service"


def test_kinds_are_apart_and_only_shared_models_count() -> None:
    records = service(50)
    fit = fit_loads(records, "runs")
    assert disagreements(fit, records, profile(confidential=True)) == []
    assert disagreements(fit, records, [replace(one, model="z") for one in profile()]) == []
    (found,) = disagreements(fit, records, [one for one in profile() if one.model == "a"])
    assert found.working_set_bytes == 20 * GB


def test_a_profile_that_is_slower() -> None:
    found = Disagreement("plain", 9.0, 3.0, 0.0, 0.0, 0.0, 10, None)
    assert "faster than the profile" in found.cause
