from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.predict.learned.features import (
    DERIVED,
    FEATURES,
    REQUEST,
    STATE,
    feature_matrix,
    features_of,
    windows,
)
from penstock.predict.learned.recurrent import RecurrentOptions
from penstock.predict.learned.store import load_learned, save_learned
from penstock.predict.learned.training import KINDS, CollectedRows, LearnedModel, train_learned
from support.latency_rows import as_columns, collected_rows

SMALL = RecurrentOptions(hidden=32, layers=2, head=16, dropout=0.0, epochs=40, batch=16,
                         learning_rate=5e-3)
EXTRA = {"boosting": "lightgbm", "lstm": "torch"}


@pytest.fixture(scope="module")
def rows() -> CollectedRows:
    return as_columns(collected_rows(600))


def need(kind: str) -> None:
    if kind in EXTRA:
        pytest.importorskip(EXTRA[kind], reason=f"the extra of {kind} is not installed",
                            exc_type=(ImportError, OSError))


def test_there_are_25_features_and_no_oracle() -> None:
    assert len(FEATURES) == len(STATE) + len(REQUEST) + len(DERIVED) == 25
    assert "output_tokens" not in FEATURES
    assert features_of(["output_tokens", "e2e_s", *REQUEST]) == (
        *REQUEST, "mean_context_tokens", "final_context_tokens")


def test_derived_features_follow_their_formulas() -> None:
    columns = {name: np.array([value]) for name, value in {
        "prompt_tokens": 100.0, "predicted_output_tokens": 11.0, "pending_prefill_tokens": 500.0,
        "prefill_tokens_per_s": 1000.0, "pending_decode_tokens": 30.0, "decode_tokens_per_s": 60.0,
        "decode_context_max": 900.0, "decode_context_p95": 600.0}.items()}
    features = features_of(tuple(columns))
    found = dict(zip(features, feature_matrix(columns, features)[0], strict=True))
    assert found["mean_context_tokens"] == 105.0
    assert found["final_context_tokens"] == 110.0
    assert found["backlog_s"] == pytest.approx(1.0)
    assert found["own_prefill_s"] == pytest.approx(0.1)
    assert found["own_decode_s"] == pytest.approx(11 / 60)
    assert found["context_spread"] == pytest.approx(1.5)


def test_an_unknown_rate_is_no_division_by_nought() -> None:
    columns = {"prompt_tokens": np.array([5.0]), "predicted_output_tokens": np.array([5.0]),
               "prefill_tokens_per_s": np.array([np.nan])}
    found = feature_matrix(columns, features_of(tuple(columns)))
    assert np.isfinite(found).all()


def test_windows_hold_each_replicas_own_past() -> None:
    matrix = np.arange(6.0)[:, None]
    found = windows(matrix, ["a", "b", "a", "a", "b", "a"], 3)[:, :, 0]
    assert found.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 2], [0, 2, 3], [1, 1, 4], [2, 3, 5]]


def test_windows_know_nothing_of_the_future() -> None:
    matrix = np.random.default_rng(0).random((40, 2))
    replicas = ["a", "b"] * 20
    whole = windows(matrix, replicas, 10)
    changed = matrix.copy()
    changed[25:] = -1.0
    assert (windows(changed, replicas, 10)[:25] == whole[:25]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_latency_and_knows_its_error(kind: str, rows: CollectedRows) -> None:
    need(kind)
    learned = train_learned(rows, "latency", kind, 0, SMALL)
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        # The law is linear in the features but for e2e, a product; the median knows nothing.
        worst = (0.9 if kind == "lstm" else 0.8) * learned.baseline[name].mape
        assert learned.errors[name].mape < worst, name
        assert 0.8 < learned.errors[name].coverage <= 1.0
    assert learned.errors["ttft_s"].num_rows == 120
    found, low, high = learned.predict(rows)
    assert found.shape == (600, 3)
    assert (found >= 0).all()
    assert (low <= found).all()
    assert (found <= high).all()


@pytest.mark.parametrize("kind", ["linear", "boosting", "lstm"])
def test_memory_use_is_learnt_too(kind: str, rows: CollectedRows) -> None:
    need(kind)
    learned = train_learned(rows, "memory", kind, 0, SMALL)
    assert learned.errors["mean_kv_use"].mape < 0.5 * learned.baseline["mean_kv_use"].mape


def test_the_roofline_finds_the_rates(rows: CollectedRows) -> None:
    learned = train_learned(rows, "latency", "roofline", 0)
    assert learned.model.ttft[:2] == pytest.approx([0.02, 1e-4], rel=0.3)
    assert learned.model.tpot[:2] == pytest.approx([0.01, 1e-3], rel=0.1)
    with pytest.raises(InputError, match="roofline"):
        train_learned(rows, "memory", "roofline", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_true_lengths_do_not_matter(kind: str) -> None:
    need(kind)
    rows = collected_rows(120)
    lengths = CollectedRows({**as_columns(rows).columns,
                             "output_tokens": np.array([row["output_tokens"] for row in rows],
                                                       float)}, as_columns(rows).replicas)
    plain = train_learned(as_columns(rows), "latency", kind, 3, SMALL).predict(as_columns(rows))
    told = train_learned(lengths, "latency", kind, 3, SMALL).predict(lengths)
    assert (plain[0] == told[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_says_the_same(kind: str, rows: CollectedRows, tmp_path: Path) -> None:
    need(kind)
    learned = train_learned(rows, "latency", kind, 0, replace(SMALL, epochs=2))
    save_learned(learned, tmp_path / "m.npz")
    loaded = load_learned(tmp_path / "m.npz")
    for one, other in zip(learned.predict(rows), loaded.predict(rows), strict=True):
        assert one == pytest.approx(other)
    assert loaded.errors == learned.errors
    assert loaded.model.features == learned.model.features


def test_the_same_seed_gives_the_same_network(rows: CollectedRows) -> None:
    need("lstm")
    made = [train_learned(rows, "latency", "lstm", seed, replace(SMALL, epochs=1)).predict(rows)[0]
            for seed in (1, 1, 2)]
    assert (made[0] == made[1]).all()
    assert not (made[0] == made[2]).all()


@pytest.fixture
def saved(rows: CollectedRows, tmp_path: Path) -> Path:
    save_learned(train_learned(rows, "latency", "linear", 0), tmp_path / "m.npz")
    return tmp_path / "m.npz"


def changed(path: Path, **arrays: np.ndarray) -> None:
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    np.savez(path, **{**held, **arrays})


def with_head(path: Path, old: str, new: str) -> None:
    with np.load(path) as file:
        head = file["head"].tobytes().decode()
    assert old in head
    changed(path, head=np.frombuffer(head.replace(old, new, 1).encode(), np.uint8))


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"linear"', '"liner"', "kind 'liner' is unknown; did you mean 'linear'"),
    ('"prompt_tokens"', '"prompt_tokns"', "feature 'prompt_tokns' is unknown; did you mean"),
    ('"penstock-learned-1"', '"penstock-learned-9"', "is of another format"),
    ('"num_running"', '"prompt_tokens"', "feature 'twice'"),
    ('"ttft_s"', '"tttt_s"', "targets"),
    ('"linear"', '"roofline"', "is not a learnt model"),
    ('"low": [', '"low": [1.0, ', "4 and 3 ends of intervals"),
    ("{", "[", "is not a learnt model"),
])
def test_a_damaged_head_is_refused(saved: Path, old: str, new: str, message: str) -> None:
    with_head(saved, old, new)
    with pytest.raises(InputError, match=message):
        load_learned(saved)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"weights": np.zeros((2, 3))}, "weights is float64 of shape"),
    ({"weights": np.array(["x"])}, "weights is <U1"),
    ({"intercepts": np.array([0.0, np.inf, 0.0])}, "expected finite floats"),
])
def test_damaged_arrays_are_refused(saved: Path, arrays: dict[str, np.ndarray],
                                    message: str) -> None:
    changed(saved, **arrays)
    with pytest.raises(InputError, match=message):
        load_learned(saved)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with pytest.raises(InputError, match="cannot be read"):
        load_learned(path)
    for content in (b"", b"PK\x03\x04", b"\x80\x04]."):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not a learnt model"):
            load_learned(path)


def test_a_boosters_text_is_checked(rows: CollectedRows, tmp_path: Path) -> None:
    need("boosting")
    path = tmp_path / "m.npz"
    save_learned(train_learned(rows, "latency", "boosting", 0), path)
    changed(path, text_ttft_s=np.frombuffer(b"import os", np.uint8))
    with pytest.raises(InputError, match="not a LightGBM model in text form"):
        load_learned(path)


def test_weights_of_another_network_are_refused(rows: CollectedRows, tmp_path: Path) -> None:
    need("lstm")
    path = tmp_path / "m.npz"
    save_learned(train_learned(rows, "latency", "lstm", 0, replace(SMALL, epochs=1)), path)
    with_head(path, '"hidden": 32', '"hidden": 33')
    with pytest.raises(InputError, match="not the weights of this network"):
        load_learned(path)


@pytest.mark.parametrize(("what", "kind", "message"), [
    ("latncy", "linear", "target 'latncy' is unknown; did you mean 'latency'"),
    ("latency", "liner", "kind 'liner' is unknown; did you mean 'linear'"),
])
def test_unknown_names_are_refused(what: str, kind: str, message: str,
                                   rows: CollectedRows) -> None:
    with pytest.raises(InputError, match=message):
        train_learned(rows, what, kind, 0)


def test_too_few_rows_and_missing_columns_are_refused() -> None:
    few = as_columns(collected_rows(49))
    with pytest.raises(InputError, match="49 rows with ttft_s, tpot_s, e2e_s; expected at least"):
        train_learned(few, "latency", "linear", 0)
    without = CollectedRows({name: values for name, values in few.columns.items()
                             if name != "predicted_output_tokens"}, few.replicas)
    with pytest.raises(InputError, match="no column 'predicted_output_tokens'"):
        train_learned(without, "latency", "linear", 0)


@pytest.mark.parametrize(("kind", "module"), EXTRA.items())
def test_a_missing_extra_is_named(kind: str, module: str, rows: CollectedRows,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    extra = {"lstm": "torch"}.get(kind, kind)
    with pytest.raises(InputError, match=f"needs the extra '{extra}'"):
        train_learned(rows, "latency", kind, 0, SMALL)


def test_intervals_are_wider_where_answers_scatter() -> None:
    made: list[LearnedModel] = [train_learned(as_columns(collected_rows(600, noise=noise)),
                                              "latency", "roofline", 0) for noise in (0.02, 0.5)]
    assert made[0].errors["ttft_s"].width < 0.5 * made[1].errors["ttft_s"].width
