"""``penstock lab reproduce sincere`` on the shared runs: as near, and better, as asked."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.figures import Options
from penstock.published.sincere.records import SincereRun, read_runs
from penstock.published.sincere.replay import replay, replay_figures, run_rows
from penstock.published.sincere.what_if import what_if, what_if_figures, what_if_rows


@pytest.fixture(scope="module")
def runs(shared_data: Path) -> list[SincereRun]:
    return read_runs(shared_data / "sincere")


@pytest.mark.long
def test_replayed_runs_come_to_what_was_logged(runs: list[SincereRun]) -> None:
    replayed = replay(runs, Options())
    figures = replay_figures(replayed)
    assert [one.name for one in figures if not one.agrees] == []
    rows = run_rows(replayed)
    assert len(rows) == len(runs)
    for row in rows:  # nothing is made of nothing
        assert 0 < row["served"] <= row["received"]
        assert row["sla_received_pct"] <= row["sla_served_pct"]


@pytest.mark.long
def test_ours_answers_more_on_the_same_arrivals(runs: list[SincereRun]) -> None:
    few = [run for run in runs if run.pattern == "gamma"][::4]
    outcomes = what_if(few, Options())
    rows = what_if_rows(outcomes)
    for setting in ("cc", "noncc"):
        means = {row["policy"]: row["received_pct"] for row in rows if row["setting"] == setting}
        others = [mean for policy, mean in means.items() if not policy.startswith("penstock")]
        assert means["penstock"] > 1.05 * max(others)
        for wrong in ("loads believed 30 % short", "loads believed 30 % long", "times vary"):
            assert means[f"penstock, {wrong}"] > 0.97 * means["penstock"]
    assert any("one resident" in figure.name for figure in what_if_figures(outcomes, few))


SUMMARY = ("run,setting,strategy,pattern,rate,sla_s,served,lat_mean_s,sla_attain_served_pct,"
           "sla_attain_received_pct,swaps_at_stop,mean_batch,goodput_rps,timer_profile\n")
ROW = "7,cc,BestBatch,gamma,4,40,10,20.0,50,40,2,5,0.1,none\n"


def folder(tmp_path: Path, row: str = ROW, packed: str = "7,10,0 5 5,012\n") -> Path:
    import gzip

    (tmp_path / "runs_summary.csv").write_text(SUMMARY + row)
    with gzip.open(tmp_path / "requests_packed.csv.gz", "wt") as file:
        file.write("run,n,dt_ms,model\n" + packed)
    return tmp_path


def test_a_run_is_read(tmp_path: Path) -> None:
    run, = read_runs(folder(tmp_path))
    assert [(one.arrival_s, one.model, one.deadline_s) for one in run.requests] == [
        (0.0, 0, 40.0), (0.005, 1, 40.005), (0.01, 2, 40.01)]
    assert (run.timer_table, run.deviations) == ("noncc", 1.0)


@pytest.mark.parametrize(("row", "packed", "words"), [
    (ROW.replace("BestBatch", "BestBach"), "7,3,0 5 5,012\n", "did you mean 'bestbatch'"),
    (ROW.replace(",40,10,", ",forty,10,"), "7,3,0 5 5,012\n", "sla_s"),
    (ROW, "8,3,0 5 5,012\n", "no line in requests_packed"),
    (ROW, "7,3,0 5 5,01\n", "3 digits"),
    (ROW + ROW, "7,3,0 5 5,012\n", "runs_summary.csv:3: run: found '7'; expected one row per run"),
    (ROW, 2 * "7,3,0 5 5,012\n", "requests_packed.csv.gz:3: run: found '7'; expected one row"),
    (ROW, "7,3,0 5 5,019\n", "one of 012"),
    (ROW, "7,3,0 -5 5,012\n", "whole numbers"),
])
def test_what_is_wrong_is_told_by_file_and_field(tmp_path: Path, row: str, packed: str,
                                                 words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_runs(folder(tmp_path, row, packed))
