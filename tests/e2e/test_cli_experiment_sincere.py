"""``penstock lab experiment sincere`` as a user runs it."""

import csv
import json

import pytest

from support.html_pages import headings_descend_by_one, outline

SMALL = ("--policies", "sincere-best-batch,sincere-select-batch-timer", "--patterns", "gamma",
         "--rates", "4,8", "--slas", "40", "--seeds", "2", "--duration-s", "200")


def test_cells_table_summary_and_page(folder, penstock) -> None:
    done = penstock("lab", "experiment", "sincere", "--out", "grid", *SMALL, "--json")
    assert done.status == 0
    assert done.json == json.loads((folder / "grid/summary.json").read_text())
    rows = list(csv.DictReader((folder / "grid/results.csv").read_text().splitlines()))
    assert len(rows) == len(list((folder / "grid/cells").iterdir())) == 2 * 2 * 2 * 2
    assert all(int(row["received"]) == sum(int(row[name]) for name in (
        "served", "lost", "shed", "unfinished")) for row in rows)
    page = outline((folder / "grid/report.html").read_text())
    assert headings_descend_by_one(page.headings)
    assert {"gap", "fates", "time", "sla_received-sla_s"} <= set(page.figures)
    text = " ".join(page.text)
    assert "sincere-select-batch-timer" in text
    assert "overwritten: the buffer was handed new requests before it ran" in text


def test_a_stopped_run_goes_on_and_ends_the_same(folder, penstock) -> None:
    whole = penstock("lab", "experiment", "sincere", "--out", "whole", *SMALL)
    assert whole.status == 0
    assert "SLA received" in whole.out
    assert "Confidential less not confidential" in whole.out
    cells = sorted((folder / "whole/cells").iterdir())
    (folder / "part/cells").mkdir(parents=True)
    for path in cells[:5]:
        (folder / "part/cells" / path.name).write_bytes(path.read_bytes())
    resumed = penstock("lab", "experiment", "sincere", "--out", "part", *SMALL)
    assert resumed.status == 0
    assert "5 of 16 cells are in part already" in resumed.err
    for name in ("results.csv", "summary.json"):
        assert (folder / "part" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    other = penstock("lab", "experiment", "sincere", "--out", "part", *SMALL, "--exact")
    assert other.status == 2
    assert "exact is False there and True now" in other.err
    cells[0].write_text("{")
    broken = penstock("lab", "experiment", "sincere", "--out", "whole", *SMALL)
    assert broken.status == 2
    assert "cannot be read as JSON" in broken.err


@pytest.mark.parametrize(("arguments", "said"), [
    (("--policies", "sincere-best"), "did you mean 'sincere-best-batch'"),
    (("--policies", "edf:shed=2"), "expected true or false"),
    (("--patterns", "gamma,burst"), "--patterns: 'burst' is unknown"),
    (("--modes", "tee"), "--modes: 'tee' is unknown"), (("--rates", "4,x"), "--rates: 'x'"),
    (("--slas", "-3"), "--slas: '-3'"), (("--timers", "mine"), "--timers: 'mine'"),
    (("--timers", "as-run,own"), "--timers: 'as-run,own'; expected one of as-run, own"),
    (("--weights", "bf16,fp32"), "--weights: 'bf16,fp32'; expected one of"),
    (("--rates", "4,9999"), "11,998,800 requests in a cell; expected at most 2,000,000"),
    (("--rates", "4,4"), "one appears twice"), (("--out", "fleet.yaml"), "is a file"),
    (("--out", "."), "holds fleet.yaml")])
def test_bad_input_is_one_line(folder, penstock, arguments, said) -> None:
    given = arguments if "--out" in arguments else ("--out", "grid", *arguments)
    done = penstock("lab", "experiment", "sincere", *given)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not (folder / "grid").exists()
