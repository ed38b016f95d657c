"""``penstock train`` and ``penstock collect`` as a user calls them."""

import numpy as np
import pytest

from penstock.experiment.collect.rows import write_rows
from penstock.predict.learned.store import load_learned
from penstock.predict.prompts.store import load_forecaster
from support.judged_prompts import prompt_rows
from support.latency_rows import collected_rows


@pytest.fixture
def latency_rows(folder):
    write_rows(collected_rows(200), folder / "rows.parquet")
    return "rows.parquet"


@pytest.fixture
def judged_rows(folder):
    made = prompt_rows(120)
    write_rows([{"prompt_id": place, "prompt": prompt, "model": model,
                 "output_tokens": int(made.output_tokens[place, column]),
                 "quality": float(made.quality[place, column]), "outcome": "finished"}
                for place, prompt in enumerate(made.prompts)
                for column, model in enumerate(made.models)], folder / "judged.parquet")
    return "judged.parquet"


@pytest.mark.parametrize("kind", ["linear", "roofline"])
def test_latency_is_trained_and_its_error_told(penstock, folder, latency_rows, kind) -> None:
    done = penstock("lab", "train", "latency", latency_rows, "--kind", kind, "--out", "m.npz",
                    "--json")
    assert done.status == 0, done.err
    errors = done.json["errors"]
    assert errors["tpot_s"]["mape"] < done.json["baseline"]["tpot_s"]["mape"]
    assert 0.0 <= errors["ttft_s"]["coverage"] <= 1.0
    assert load_learned(folder / "m.npz").model.kind == kind
    shown = penstock("lab", "train", "latency", latency_rows, "--kind", kind)
    assert "in the 90 % interval" in shown.out
    assert "features: prompt_tokens, predicted_output_tokens" in shown.out


def test_memory_is_trained(penstock, folder, latency_rows) -> None:
    done = penstock("lab", "train", "memory", latency_rows, "--json")
    assert list(done.json["errors"]) == ["mean_kv_use"]


def test_quality_is_trained_and_the_file_forecasts(penstock, folder, judged_rows) -> None:
    done = penstock("lab", "train", "quality", judged_rows, "--out", "f.npz", "--json", "--seed",
                    "3")
    assert done.status == 0, done.err
    assert done.json["best_picked"] > 0.6
    assert done.json["best_fixed"] <= done.json["oracle"]
    assert [one["model"] for one in done.json["models"]] == ["large", "small"]
    forecast = load_forecaster(folder / "f.npz").forecast("add the numbers 1 and 2")
    assert forecast["large"].quality > forecast["small"].quality
    again = penstock("lab", "train", "quality", judged_rows, "--json", "--seed", "3")
    assert again.json == done.json
    shown = penstock("lab", "train", "quality", judged_rows, "--kind", "knn")
    assert "the model with the highest forecast earns" in shown.out


def test_lengths_need_no_quality(penstock, folder) -> None:
    made = prompt_rows(40)
    write_rows([{"prompt": prompt, "prompt_id": place, "model": "small", "output_tokens": 7}
                for place, prompt in enumerate(made.prompts)], folder / "rows.parquet")
    done = penstock("lab", "train", "length", "rows.parquet", "--json")
    assert done.json["models"][0]["num_judged"] == 0
    assert done.json["best_picked"] is None
    refused = penstock("lab", "train", "quality", "rows.parquet")
    assert refused.status == 2
    assert refused.err.strip() == ("error: rows.parquet: no quality in any row; collect with "
                                   "--metric or --judge")


@pytest.mark.parametrize(("arguments", "message"), [
    (("latency", "none.parquet"), "none.parquet: cannot be read"),
    (("latency", "fleet.yaml"), "fleet.yaml: is not Parquet"),
    (("latency", "rows.parquet", "--kind", "liner"), "kind 'liner' is unknown; did you mean"),
    (("latency", "rows.parquet", "--model", "two"), "no rows of model 'two'"),
    # Names of results are checked before any work.
    (("latency", "none.parquet", "--out", "m.pkl"), "m.pkl: expected a name that ends in .npz"),
    (("quality", "none.parquet", "--out", "m.pkl"), "m.pkl: expected a name that ends in .npz"),
    (("memory", "rows.parquet", "--kind", "roofline"), "kind 'roofline' predicts latencies only"),
    (("quality", "rows.parquet", "--embedder", "hash"), "no quality in any row"),
    (("length", "rows.parquet", "--embedder", "hash"), "embedder 'hash' is unknown; did you mean"),
])
def test_bad_input_is_one_line(penstock, folder, latency_rows, arguments, message) -> None:
    done = penstock("lab", "train", *arguments)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not list(folder.glob("*.npz"))
    assert not list(folder.glob(".partial*"))


def test_rows_without_a_column_or_enough_of_them_are_refused(penstock, folder) -> None:
    rows = collected_rows(30)
    write_rows(rows, folder / "few.parquet")
    assert "30 rows with ttft_s, tpot_s, e2e_s; expected at least 50" \
        in penstock("lab", "train", "latency", "few.parquet").err
    write_rows([row | {"predicted_output_tokens": np.nan} for row in rows],
               folder / "blind.parquet")
    assert "no column 'predicted_output_tokens'" in penstock("lab", "train", "latency",
                                                             "blind.parquet").err


@pytest.mark.parametrize(("arguments", "message"), [
    (("--prompts", "none.txt"), "none.txt: cannot be read"),
    (("--prompts", "p.txt", "--metric", "f1"), "p.txt: no prompt has a reference"),
    (("--prompts", "p.txt", "--judge", "http://127.0.0.1:9"), "--judge needs --judge-model NAME"),
    (("--prompts", "p.txt", "--judge-model", "x"), "go with --judge URL"),
    (("--prompts", "p.txt", "--judge", "ftp://x", "--judge-model", "x"), "URL 'ftp://x'"),
    (("--prompts", "p.txt", "--api", "chats"), "--api 'chats': expected chat or completions"),
    (("--prompts", "p.txt"), "none has endpoints"),
])
def test_collect_refuses_what_cannot_be_done(penstock, folder, arguments, message) -> None:
    (folder / "p.txt").write_text("one prompt\n")
    done = penstock("lab", "collect", "fleet.yaml", "--out", "rows", *arguments)
    assert done.status == 2
    assert message in done.err
    assert not (folder / "rows").exists()
