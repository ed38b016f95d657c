"""A fit finds the numbers that loads were made with."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.units import GB
from penstock.perf.loading.fitting import fit_loads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.records import LoadRecord, missing_bytes, working_set_bytes
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence

SIZES = {"a": 8 * GB, "b": 20 * GB, "c": 30 * GB, "d": 45 * GB}
CACHE = 60 * GB
TRUTH = LoadingModel(2e9, 6e9, LoadEvidence("truth", 0.0, 0.0), fixed_s=2.0,
                     first=FirstLoad(5.0, 5.0))
CONFIDENTIAL = replace(TRUTH, confidential=ConfidentialTerms(3.0, 0.1, 0.2))


def loads(models: Iterable[LoadingModel], *, num_runs: int = 20, noise: float = 0.03,
          known: bool = False) -> list[LoadRecord]:
    rng = np.random.default_rng(0)
    found = []
    for host, model in enumerate(models):
        memory = HostMemory(CACHE)
        for run in range(num_runs):
            for number in range(15):
                name = str(rng.choice(list(SIZES), p=[0.3, 0.3, 0.3, 0.1]))
                read = memory.read(name, SIZES[name])
                seconds = model.seconds(SIZES[name], read.cached_bytes, first=number == 0)
                found.append(LoadRecord(
                    str(host), f"{host}.{run}", name, SIZES[name],
                    seconds * float(rng.normal(1.0, noise)), number == 0,
                    model.confidential is not None, read.cached_bytes if known else None))
    return found


def test_runs_tell_rates_and_the_page_cache() -> None:
    fit = fit_loads(loads([TRUTH]), "made up")
    assert fit.model.disk_bytes_per_s == pytest.approx(2e9, rel=0.05)
    assert fit.model.pageable_bytes_per_s == pytest.approx(6e9, rel=0.1)
    assert fit.model.fixed_s == pytest.approx(2.0, abs=0.4)
    assert fit.model.first.extra_s == pytest.approx(5.0, abs=0.5)
    assert fit.page_cache_bytes == pytest.approx(CACHE, rel=0.06)
    assert fit.page_cache_range is not None
    low, high = fit.page_cache_range
    assert low <= fit.page_cache_bytes <= high
    held, mean = fit.held_out["plain"], fit.per_model_mean["plain"]
    assert held.r2 > 0.97
    assert mean.r2 < 0.8
    assert held.mae_s < 0.3 * mean.mae_s
    assert held.num_loads == 20 * 14
    assert fit.num_runs == 20


def test_both_settings_tell_what_confidential_mode_adds() -> None:
    fit = fit_loads(loads([TRUTH, CONFIDENTIAL]), "made up")
    terms = fit.model.confidential
    assert terms is not None
    assert terms.fixed_s == pytest.approx(3.0, abs=0.8)
    assert terms.copy_s_per_gb == pytest.approx(0.1, abs=0.03)
    assert terms.disk_s_per_gb == pytest.approx(0.2, abs=0.04)
    assert set(fit.held_out) == {"plain", "confidential"}


def test_one_setting_alone_says_so() -> None:
    fit = fit_loads(loads([CONFIDENTIAL]), "made up")
    assert fit.model.confidential is None
    assert any("every load was confidential" in note for note in fit.notes)


def test_known_caches_need_no_page_cache() -> None:
    fit = fit_loads(loads([TRUTH], known=True), "a profile")
    assert fit.page_cache_bytes is None
    assert fit.page_cache_range is None
    assert fit.model.disk_bytes_per_s == pytest.approx(2e9, rel=0.05)


def test_a_given_page_cache_is_kept() -> None:
    fit = fit_loads(loads([TRUTH]), "made up", page_cache_bytes=CACHE)
    assert fit.page_cache_bytes == CACHE
    assert fit.page_cache_range is None
    assert fit.model.pageable_bytes_per_s == pytest.approx(6e9, rel=0.05)


def test_a_stalled_load_moves_little() -> None:
    records = loads([TRUTH])
    records[7] = replace(records[7], seconds=500.0)
    fit = fit_loads(records, "made up")
    assert fit.model.disk_bytes_per_s == pytest.approx(2e9, rel=0.1)


def test_one_size_cannot_tell_fixed_from_copied() -> None:
    records = [LoadRecord("h", str(n), "a", 8 * GB, 3.0 + 0.01 * n, cached_bytes=8 * GB)
               for n in range(12)]
    fit = fit_loads(records, "one model")
    assert fit.model.seconds(8 * GB, 8 * GB) == pytest.approx(3.055, abs=0.02)
    assert any("fewer than three sizes" in note for note in fit.notes)
    assert any("no load was slower for what it read" in note for note in fit.notes)


def test_too_few_loads() -> None:
    with pytest.raises(InputError, match="made up: 5 loads after the first of their runs"):
        fit_loads(loads([TRUTH])[:6], "made up")


def test_missing_bytes_follow_from_the_order() -> None:
    records = [LoadRecord("h", "1", name, SIZES[name], 1.0) for name in ("c", "b", "c", "d", "b")]
    assert missing_bytes(records, CACHE) == [30 * GB, 20 * GB, 0, 45 * GB, 20 * GB]
    looked = [replace(one, cached_bytes=5 * GB) for one in records]
    assert missing_bytes(looked, CACHE)[0] == 25 * GB
    assert working_set_bytes(records) == 95 * GB
