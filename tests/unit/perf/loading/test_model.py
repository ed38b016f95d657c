"""Seconds of a load are the sum that the model states, with an interval and a source."""

from dataclasses import replace

import pytest

from penstock.core.units import GB
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence

EVIDENCE = LoadEvidence("made up for tests", 0.05, 0.25, 1.0, 10 * GB, 40 * GB)
PLAIN = LoadingModel(disk_bytes_per_s=2e9, pageable_bytes_per_s=5e9, pinned_bytes_per_s=25e9,
                     fixed_s=1.0, unload_s=0.02, evidence=EVIDENCE)
CONFIDENTIAL = replace(PLAIN, confidential=ConfidentialTerms(3.0, 0.2, 0.1))


def test_from_disk_reads_and_copies() -> None:
    load = PLAIN.load(20 * GB)
    assert load.parts["disk_s"] == pytest.approx(10.0)
    assert load.parts["copy_s"] == pytest.approx(4.0)
    assert load.total_s == pytest.approx(15.0)
    assert (load.low_s, load.high_s) == (pytest.approx(12.0), pytest.approx(18.75))
    assert load.source == "made up for tests"
    assert not load.extrapolated


def test_what_is_cached_is_not_read() -> None:
    assert PLAIN.load(20 * GB, 20 * GB).total_s == pytest.approx(5.0)
    assert PLAIN.load(20 * GB, 15 * GB).total_s == pytest.approx(7.5)
    # More in the cache than the file has is no gain.
    assert PLAIN.load(20 * GB, 30 * GB).total_s == pytest.approx(5.0)


def test_pinned_memory_is_copied_faster() -> None:
    assert PLAIN.load(20 * GB, pinned_bytes=20 * GB).total_s == pytest.approx(1.8)
    half = PLAIN.load(20 * GB, 10 * GB, pinned_bytes=10 * GB)
    assert half.total_s == pytest.approx(1.0 + 2.0 + 0.4)
    assert half.parts["disk_s"] == 0.0


def test_a_pipeline_hides_the_shorter_stage() -> None:
    for overlap, total_s in ((0.0, 15.0), (0.5, 13.0), (1.0, 11.0)):
        load = replace(PLAIN, overlap=overlap).load(20 * GB)
        assert load.total_s == pytest.approx(total_s)
        assert load.parts["hidden_s"] == pytest.approx(15.0 - total_s)


def test_confidential_mode_adds_its_terms() -> None:
    load = CONFIDENTIAL.load(20 * GB)
    assert load.parts["confidential_s"] == pytest.approx(3.0 + 4.0)
    assert load.parts["disk_s"] == pytest.approx(10.0 + 2.0)
    assert load.total_s == pytest.approx(15.0 + 9.0)
    # Encryption is a part of copying, so it hides behind reading, too.
    assert replace(CONFIDENTIAL, overlap=1.0).load(20 * GB).total_s == pytest.approx(24.0 - 8.0)


def test_the_first_load_is_slower_and_less_sure() -> None:
    model = replace(PLAIN, first=FirstLoad(6.0, 30.0))
    later, first = model.load(20 * GB), model.load(20 * GB, first=True)
    assert first.total_s == pytest.approx(later.total_s + 6.0)
    assert first.high_s == pytest.approx(later.high_s + 30.0)
    assert first.parts["first_s"] == 6.0


@pytest.mark.parametrize("model", [PLAIN, CONFIDENTIAL, replace(PLAIN, overlap=0.3)])
@pytest.mark.parametrize("first", [False, True])
def test_parts_make_the_total(model: LoadingModel, first: bool) -> None:
    load = model.load(30 * GB, 7 * GB, pinned_bytes=3 * GB, first=first)
    hidden_s = load.parts["hidden_s"]
    assert sum(load.parts.values()) - 2 * hidden_s == pytest.approx(load.total_s)
    assert model.seconds(30 * GB, 7 * GB, pinned_bytes=3 * GB, first=first) == load.total_s


def test_beyond_the_measured_sizes_the_interval_is_wider() -> None:
    load = PLAIN.load(80 * GB)
    assert load.extrapolated
    assert load.high_s == pytest.approx(1.5 * load.total_s)


def test_nothing_is_faster_than_the_bus() -> None:
    model = replace(PLAIN, evidence=replace(EVIDENCE, p95_error=9.0), link_bytes_per_s=10e9)
    assert model.load(20 * GB).low_s == pytest.approx(2.0)
    assert model.stage(20 * GB).low_s == pytest.approx(1.0)  # nothing crosses the bus


def test_staging_reads_and_no_more() -> None:
    assert PLAIN.stage(20 * GB).total_s == pytest.approx(10.0)
    assert PLAIN.stage(20 * GB, 14 * GB).total_s == pytest.approx(3.0)


def test_unloading_is_short_and_sleep_copies_back() -> None:
    assert PLAIN.unload(20 * GB).total_s == pytest.approx(0.02)
    assert PLAIN.unload(20 * GB, "host").total_s == pytest.approx(0.82)
    assert replace(PLAIN, back_bytes_per_s=1e9).unload(20 * GB, "host").total_s == pytest.approx(
        20.02)
    assert CONFIDENTIAL.unload(20 * GB, "host").total_s == pytest.approx(4.82)
