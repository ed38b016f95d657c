"""Recorded cycles: read, recomputed, and a decision that differs is noticed."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.loop.cycles import read_cycles
from penstock.published.inferno.loop.decisions import batch_of, compare
from penstock.published.inferno.loop.runs import (
    RUNS,
    RunSettings,
    label_of,
    run_of,
    settings_for,
)
from support.inferno_cycles import cycle, written


def replicas(tmp_path, settings, rates):
    log = written(tmp_path / "log.jsonl", [cycle(each, rate, 1) for each, rate in enumerate(rates)])
    return [one.recomputed for one in compare(read_cycles(log), settings)]


def test_a_log_of_our_own_decisions_is_equal_and_another_number_is_not(tmp_path):
    settings = RunSettings(128, 128)
    rates = (30.0, 60.0, 300.0)
    found = replicas(tmp_path, settings, rates)
    assert found == sorted(found)
    assert found[-1] > 5
    log = written(tmp_path / "own.jsonl", [cycle(each, rate, number) for each, (rate, number) in
                                           enumerate(zip(rates, found, strict=True))])
    assert all(one.equal for one in compare(read_cycles(log), settings))
    log = written(tmp_path / "other.jsonl", [cycle(0, 300.0, found[-1] + 1)])
    assert not next(compare(read_cycles(log), settings)).equal


def test_the_analysis_before_chunks_needs_more_replicas(tmp_path):
    rates = tuple(range(50, 400, 25))
    early = replicas(tmp_path, RunSettings(128, 128, one_chunk=True), rates)
    late = replicas(tmp_path, RunSettings(128, 128), rates)
    assert all(one >= other for one, other in zip(early, late, strict=True))
    assert sum(early) > sum(late)


def test_a_searched_batch_is_compared_and_a_recorded_one_taken(tmp_path):
    log = written(tmp_path / "log.jsonl", [cycle(1, 60.0, 2, max_batch=36)])
    searched = next(compare(read_cycles(log), RunSettings(128, 0, search_limit=128)))
    assert searched.recorded_batch == 36
    assert 1 < searched.recomputed_batch <= 128
    assert next(compare(read_cycles(log), RunSettings(128, 0))).recomputed_batch == 0


def test_the_batch_is_what_fits_at_the_length_of_answers(tmp_path):
    server = read_cycles(written(tmp_path / "log.jsonl", [cycle(1, 60.0, 2)]))[0].servers[0]
    assert batch_of(server, RunSettings(64, 0, 512)) == 32
    assert batch_of(server, RunSettings(64, 0)) == 64


@pytest.mark.parametrize(("path", "run", "label", "searched"), [
    ("d/experiments/run5/inferno-cycles.jsonl", "run5", "run5", None),
    ("d/experiments/run16/armA-surge-cycles.jsonl", "run16", "run16 armA-surge", 128),
    ("d/experiments/run16/armB-surge-cycles.jsonl", "run16", "run16 armB-surge", None),
    ("d/experiments/run19/before/armA-search-cycles.jsonl", "run19", "run19 before/armA-search",
     128)])
def test_a_log_belongs_to_a_documented_run(path, run, label, searched):
    assert run_of(Path(path)) == run
    assert label_of(Path(path)) == label
    assert settings_for(Path(path)).search_limit == searched


def test_an_unknown_run_has_no_settings():
    assert settings_for(Path("d/run99/inferno-cycles.jsonl")) is None
    assert RUNS["run11"].truth is not None


@pytest.mark.parametrize(("text", "problem"), [
    ("{", ":1: not JSON"), ("[]", ":1: expected a JSON object"),
    ('{"cycle": 1}', "'servers' is missing"),
    ('{"cycle": 1, "servers": [{"name": 3}], "internals": [], "capacity": []}', "name")])
def test_a_broken_log_is_refused_with_its_line(tmp_path, text, problem):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_cycles(path)
    with pytest.raises(InputError, match="No such file"):
        read_cycles(tmp_path / "none.jsonl")
