from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.predict.embed.hashed import fit_hashed
from penstock.predict.prompts.conformal import ConformalFactor
from penstock.predict.prompts.forecaster import (
    ForecastSettings,
    Prior,
    PromptForecaster,
)
from penstock.predict.prompts.memory import PromptMemory
from penstock.predict.prompts.neighbours import Nearby, NeighbourSettings, nearest, weigh
from penstock.predict.prompts.rows import PromptRows
from penstock.predict.prompts.store import load_forecaster, save_forecaster
from penstock.predict.prompts.training import FORMS, Trained, train_forecaster
from support.judged_prompts import MODELS, prompt_of, prompt_rows
from support.untrained import forecaster_of, untrained_hashed


@pytest.fixture(scope="module")
def trained() -> Trained:
    rows = prompt_rows(300)
    embedder = fit_hashed(rows.prompts, np.random.default_rng(0), num_dimensions=16)
    return train_forecaster(rows, embedder, np.random.default_rng(1))


def test_topics_are_told_apart(trained: Trained) -> None:
    rng = np.random.default_rng(9)
    sums = trained.forecaster.forecast(prompt_of("sums", rng))
    poems = trained.forecaster.forecast(prompt_of("poems", rng))
    assert sums["large"].quality - sums["small"].quality > 0.3
    assert abs(poems["large"].quality - poems["small"].quality) < 0.15
    assert poems["small"].output_tokens == pytest.approx(200, rel=0.3)
    assert sums["small"].output_tokens == pytest.approx(20, rel=0.3)
    assert sums["large"].source == trained.forecaster.source


def test_nine_of_ten_answers_stay_below_the_high_length(trained: Trained) -> None:
    rows = prompt_rows(400, seed=5)
    forecasts = [trained.forecaster.forecast(prompt) for prompt in rows.prompts]
    for place, model in enumerate(MODELS):
        covered = np.mean([forecast[model].output_high_tokens >= tokens for forecast, tokens
                           in zip(forecasts, rows.output_tokens[:, place], strict=True)])
        assert covered == pytest.approx(0.9, abs=0.05)


def test_nothing_seen_is_the_prior() -> None:
    forecaster = PromptForecaster(untrained_hashed(np.random.default_rng(0)),
                                  {"one": Prior(100.0, 0.7)})
    forecast = forecaster.forecast("anything")["one"]
    assert forecast.source == "prior"
    assert forecast.quality == pytest.approx(0.7)
    assert forecast.output_tokens == pytest.approx(100.0, rel=0.1)
    assert forecast.quality_sd > 0.1


def test_a_far_prompt_gets_the_models_mean() -> None:
    settings = ForecastSettings(NeighbourSettings(num_neighbours=30, far_cosine=0.2))
    forecaster = PromptForecaster(untrained_hashed(np.random.default_rng(0)), {"one": Prior()},
                                  settings)
    for place in range(60):
        forecaster.observe(f"prove theorem {place}", "one", 50, 1.0)
        forecaster.observe(f"paint horse {place}", "one", 50, 0.0)
    near = forecaster.forecast("prove theorem 99")["one"]
    far = forecaster.forecast("wholly unrelated gibberish qwertz")["one"]
    assert near.quality > 0.7
    assert far.quality == pytest.approx(0.5, abs=0.02)
    assert far.quality_sd > near.quality_sd


def test_it_learns_from_what_it_observes() -> None:
    forecaster = forecaster_of(untrained_hashed(np.random.default_rng(0)), ["one", "two"])
    before = forecaster.forecast("count the sheep")
    for place in range(40):
        forecaster.observe(f"count the sheep {place}", "one", 10 + place % 3, 0.9)
    after = forecaster.forecast("count the sheep")
    assert after["one"].output_tokens < 30 < before["one"].output_tokens
    assert after["one"].quality > 0.75
    assert after["two"].quality == before["two"].quality


def test_the_memory_is_bounded() -> None:
    forecaster = PromptForecaster(untrained_hashed(np.random.default_rng(0)), {"one": Prior()},
                                  ForecastSettings(capacity=30))
    for place in range(100):
        forecaster.observe(f"prompt {place}", "one", 500 if place < 70 else 10, 0.0)
    assert len(forecaster.memory) == 30
    assert forecaster.forecast("prompt 99")["one"].output_tokens < 60  # the first 70 are forgotten


@pytest.mark.parametrize(("arguments", "message"), [
    (("a", "thee", 1, None), "model 'thee' has no forecasts; did you mean 'three'"),
    (("a", "three", -1, None), "output_tokens: -1; expected a number of 0 or more"),
    (("a", "three", float("nan"), None), "output_tokens: nan"),
    (("a", "three", 1, 1.5), "quality: 1.5; expected 0 to 1"),
    (("a", "three", 1, float("nan")), "quality: nan"),
])
def test_what_cannot_be_observed_is_refused(arguments: tuple[str, str, float, float | None],
                                            message: str) -> None:
    forecaster = forecaster_of(untrained_hashed(np.random.default_rng(0)), ["three"])
    with pytest.raises(InputError, match=message):
        forecaster.observe(*arguments)
    assert not len(forecaster.memory)


def test_outlook_says_how_much_is_still_to_come(trained: Trained) -> None:
    outlook = trained.forecaster.outlook("write a gentle poem about a river beside the engine")
    lengths = outlook["small"].lengths
    assert lengths.mean_tokens == outlook["small"].forecast.output_tokens
    assert lengths.remaining_mean(150) < lengths.mean_tokens


def test_lengths_follow_a_trend_in_the_prompt(tmp_path: Path) -> None:
    """Answers as long as the prompt: neighbours blur that, a linear trend does not."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 200, 300)
    prompts = tuple(" ".join(rng.choice(["alpha", "beta", "gamma"], size)) for size in sizes)
    tokens = np.stack([10.0 * sizes * rng.lognormal(0, 0.1, 300)], axis=1)
    rows = PromptRows(prompts, ("one",), tokens, np.full((300, 1), np.nan))
    embedder = fit_hashed(prompts, np.random.default_rng(0), num_dimensions=8, text_weight=0.5)
    trained = train_forecaster(rows, embedder, np.random.default_rng(1))
    assert trained.forecaster.trend is not None
    short, long = (trained.forecaster.forecast(" ".join(["beta"] * size))["one"]
                   for size in (20, 180))
    assert long.output_tokens > 3 * short.output_tokens
    covered = [trained.forecaster.forecast(prompt)["one"].output_high_tokens >= value
               for prompt, value in zip(prompts, tokens[:, 0], strict=True)]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.06)
    save_forecaster(trained.forecaster, tmp_path / "f.npz")
    assert load_forecaster(tmp_path / "f.npz").forecast(prompts[0]) \
        == trained.forecaster.forecast(prompts[0])
    # What is learnt later is held against the trend as well.
    for _ in range(60):
        trained.forecaster.observe(" ".join(["beta"] * 20), "one", 400)
    assert trained.forecaster.forecast(" ".join(["beta"] * 20))["one"].output_tokens \
        > 1.3 * short.output_tokens


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns(form: str) -> None:
    rows = prompt_rows(120)
    embedder = fit_hashed(rows.prompts, np.random.default_rng(0), num_dimensions=8)
    trained = train_forecaster(rows, embedder, np.random.default_rng(1), form)
    if form != "auto":
        assert trained.forecaster.source == f"{form}/hashed"
    forecast = trained.forecaster.forecast("add the numbers 12 and 34 and show every step")
    assert forecast["large"].quality > forecast["small"].quality + 0.2


def test_training_needs_rows_and_a_known_form() -> None:
    rows = prompt_rows(40)
    embedder = untrained_hashed(np.random.default_rng(0))
    with pytest.raises(InputError, match="19 prompts; expected at least 20"):
        train_forecaster(rows.take(range(19)), embedder, np.random.default_rng(1))
    with pytest.raises(InputError, match="form 'kn' is unknown; did you mean 'knn'"):
        train_forecaster(rows, embedder, np.random.default_rng(1), "kn")


def test_rows_may_lack_models_and_judgements() -> None:
    rows = prompt_rows(120)
    rows.quality[::3, 0] = np.nan
    rows.output_tokens[1::3, 1] = np.nan
    embedder = fit_hashed(rows.prompts, np.random.default_rng(0), num_dimensions=8)
    trained = train_forecaster(rows, embedder, np.random.default_rng(1))
    forecast = trained.forecaster.forecast("add the numbers 12 and 34 and show every step")
    assert forecast["large"].quality > forecast["small"].quality
    rows.quality[:] = np.nan
    only_lengths = train_forecaster(rows, embedder, np.random.default_rng(1)).forecaster
    assert only_lengths.forecast("add 1 and 2")["large"].quality == pytest.approx(0.5)


def test_a_saved_forecaster_says_the_same(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "forecaster.npz"
    save_forecaster(trained.forecaster, path)
    loaded = load_forecaster(path)
    for prompt in ("add the numbers 1 and 2", "something else altogether", ""):
        assert loaded.forecast(prompt) == trained.forecaster.forecast(prompt)


def test_a_full_memory_is_saved_in_order(tmp_path: Path) -> None:
    forecaster = PromptForecaster(untrained_hashed(np.random.default_rng(0)), {"one": Prior()},
                                  ForecastSettings(capacity=10))
    for place in range(14):
        forecaster.observe(f"prompt {place}", "one", place)
    save_forecaster(forecaster, tmp_path / "f.npz")
    loaded = load_forecaster(tmp_path / "f.npz")
    assert loaded.memory.values[:, 0].tolist() == list(range(4, 14))
    loaded.observe("prompt 14", "one", 14)
    assert 4 not in loaded.memory.values[:, 0]


def test_what_is_no_forecaster_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    with pytest.raises(InputError, match=r"f.npz: cannot be read"):
        load_forecaster(path)
    for content in (b"", b"PK\x03\x04nothing", b"text", b"\x80\x04}."):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"f.npz: is not a saved forecaster"):
            load_forecaster(path)
    np.savez(path, head=np.array([{"a": 1}], dtype=object))  # would be a pickle
    with pytest.raises(InputError, match=r"is not a saved forecaster"):
        load_forecaster(path)


@pytest.mark.parametrize(("name", "array", "message"), [
    ("vectors", np.zeros((3, 4)), "vectors has shape"),
    ("weights", np.full(8192, np.nan), "weights holds a number that is not finite"),
    ("values", np.zeros((300, 3)), "values has shape"),
    ("linear_weights", np.zeros((28, 2), int), "linear_weights has shape"),
])
def test_a_damaged_forecaster_is_refused(trained: Trained, tmp_path: Path, name: str,
                                         array: np.ndarray, message: str) -> None:
    path = tmp_path / "f.npz"
    save_forecaster(trained.forecaster, path)
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(path, **{**arrays, name: array})
    with pytest.raises(InputError, match=message):
        load_forecaster(path)


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"num_neighbours": ', '"num_neighbours": -', "num_neighbours -"),
    ('"capacity": 20000', '"capacity": 0', "capacity 0; expected 1 to"),
    ('"softening": 0.05', '"softening": NaN', "softening nan"),
    ('"hashed"', '"hashd"', "embedder 'hashd' is unknown; did you mean 'hashed'"),
    ('"penstock-forecaster-1"', '"penstock-forecaster-0"', "is of another format"),
    ('"capacity"', '"capacty"', "is not a saved forecaster"),
])
def test_a_damaged_head_is_refused(trained: Trained, tmp_path: Path, old: str, new: str,
                                   message: str) -> None:
    path = tmp_path / "f.npz"
    save_forecaster(trained.forecaster, path)
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    head = arrays["head"].tobytes().decode()
    assert old in head
    arrays["head"] = np.frombuffer(head.replace(old, new, 1).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        load_forecaster(path)


def test_conformal_factor_is_the_score_of_its_rank() -> None:
    factor = ConformalFactor(0.9)
    factor.extend([0.0] * 8)
    assert factor.value == 1.0  # the ninth of nine does not exist
    factor.extend([np.log(2.0)])
    assert factor.value == pytest.approx(2.0)
    assert factor.corrected(9.0) == pytest.approx(19.0)


def test_conformal_factor_forgets() -> None:
    factor = ConformalFactor(0.5)
    factor.extend([1.0] * ConformalFactor.WINDOW)
    factor.extend([0.0] * ConformalFactor.WINDOW)
    assert factor.value == 1.0
    assert len(factor) == ConformalFactor.WINDOW


def test_weights_follow_cosines_and_padding_is_nothing() -> None:
    settings = NeighbourSettings(softening=0.1, strength=2.0)
    found = weigh(np.array([1.0, 0.0]), np.array([1.0, 0.0], np.float32), settings)
    assert found.weights.tolist() == pytest.approx([10.0, 1 / 1.1])
    padded = weigh(np.array([1.0, 0.0, 5.0]), np.array([1.0, 0.0, -np.inf], np.float32), settings)
    assert padded.shrunk(0.5) == pytest.approx(float(found.shrunk(0.5)))
    assert weigh(np.empty(0), np.empty(0, np.float32), settings).shrunk(0.3) == pytest.approx(0.3)


def test_a_rare_column_is_searched_in_full() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.random(1000).astype(np.float32)
    values = np.stack([rng.random(1000), np.full(1000, np.nan)], axis=1)
    values[np.argsort(cosines)[:20], 1] = 7.0  # only the farthest have it
    settings = NeighbourSettings(num_neighbours=10)
    near = Nearby(values, cosines, 10)
    assert near.of(1, settings).values.tolist() == [7.0] * 10
    assert sorted(near.of(0, settings).values) == sorted(nearest(values[:, 0], cosines, 10)[0])


def test_memory_means_follow_what_is_held() -> None:
    memory = PromptMemory(2, 1, 3)
    for value in (1.0, np.nan, 2.0, 3.0, 4.0):
        memory.add(np.ones((1, 2), np.float32), np.array([[value]]))
    assert memory.mean(0, 0.0, 0.0) == pytest.approx(3.0)
    assert memory.known(0).tolist() == [3.0, 4.0, 2.0]
