"""``penstock profile fit served``: parameters, file, errors."""

import json

import pytest

from penstock.perf.step_time.store import load_step_time

POINTS = """rate_per_s,prompt_tokens,output_tokens,max_batch,ttft_s,itl_s
1,256,512,256,0.0236,0.00896
3,1024,256,256,0.0597,0.01074
2,4000,100,256,0.2286,0.01419
"""



@pytest.fixture(autouse=True)
def _points(folder) -> None:
    (folder / "points.csv").write_text(POINTS)


def test_points_give_step_times_that_a_fleet_reads(folder, penstock) -> None:
    found = penstock("profile", "fit", "served", "points.csv", "--out", "served.yaml", "--json")
    document = json.loads(found.out)
    assert document["parameters"]["alpha_ms"]["value"] == pytest.approx(8.5, rel=0.05)
    assert document["parameters"]["beta_ms"]["identified"]
    assert document["num_points"] == 3
    assert load_step_time(folder / "served.yaml").base_s == pytest.approx(0.0085, rel=0.05)
    again = penstock("profile", "fit", "served", "points.csv", "--believed", "served.yaml")
    assert "Step times from 3 points" in again.out


@pytest.mark.parametrize(("arguments", "problem"), [
    (("points.csv", "--fleet", "fleet.yaml"), "--fleet is for a record"),
    (("points.csv", "--believed", "none.yaml"), "none.yaml"),
    (("none.csv",), "none.csv: no such file")])
def test_what_does_not_fit_is_refused(penstock, arguments, problem) -> None:
    found = penstock("profile", "fit", "served", *arguments)
    assert found.status == 2
    assert problem in found.err
