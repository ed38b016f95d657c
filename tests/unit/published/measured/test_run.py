import csv
import json
from pathlib import Path

from penstock.cli.main import main
from support.measured_rows import write_measured


def reproduced(folder: Path, capsys) -> tuple[int, dict, list[dict[str, str]]]:
    status = main(["lab", "reproduce", "measured", "--data", str(folder), "--out",
                   str(folder / "out"), "--json"])
    with (folder / "out" / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return status, json.loads(capsys.readouterr().out), rows


def test_every_row_has_a_line_with_its_prediction_or_its_reason(tmp_path: Path, capsys) -> None:
    write_measured(tmp_path, {}, {"disaggregated": 1}, {"output_tok_per_s": 900, "ttft_mean": ""})
    status, document, rows = reproduced(tmp_path, capsys)
    assert [(row["file"], row["row"]) for row in rows] == [
        ("measured.csv.gz", str(number)) for number in (1, 2, 3)]
    first, second, third = rows
    for name in ("ttft_s", "tpot_s", "output_tok_per_s"):
        low, value, high = (float(first[f"{what}_{name}"]) for what in ("low", "predicted", "high"))
        assert 0 < low < value < high
        assert second[f"predicted_{name}"] == ""
    assert first["group"] == "h100-80gb, dense, vllm"
    assert (first["not_expressed"], second["group"]) == ("", "")
    assert "disaggregated" in second["not_expressed"]
    assert (third["measured_output_tok_per_s"], third["measured_ttft_s"]) == ("900.0", "")
    assert status == (0 if document["agrees"] else 1)


def test_figures_follow_from_the_rows(tmp_path: Path, capsys) -> None:
    write_measured(tmp_path, *({"load_value": clients} for clients in (1, 2, 4)))
    _, _, rows = reproduced(tmp_path, capsys)
    exact = [{"load_value": clients, "ttft_mean": row["predicted_ttft_s"],
              "tpot_mean": row["predicted_tpot_s"]}
             for clients, row in zip((1, 2, 4), rows, strict=True)]
    write_measured(tmp_path, *exact)
    _, document, _ = reproduced(tmp_path, capsys)
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert figures["nvidia dense, tpot_s: median error"]["ours"] < 1e-9
    assert figures["nvidia dense, tpot_s: median error"]["agrees"]
    assert figures["nvidia dense, ttft_s: within the 90 % interval"]["ours"] == 1.0
    assert figures["aggregated points without speculation, expressed"]["ours"] == 1.0


def test_a_worse_prediction_is_a_miss(tmp_path: Path, capsys) -> None:
    write_measured(tmp_path, {"tpot_mean": 1.0})
    status, document, _ = reproduced(tmp_path, capsys)
    assert status == 1
    assert not document["agrees"]
