import gzip
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.predict.embed.hashed import fit_hashed
from support.judged_prompts import prompt_rows
from support.model_choice.contenders import (
    CONTENDERS,
    Lesson,
    routellm_factorisation,
    routellm_similarity,
)
from support.model_choice.curve import gap_curve, recovered_at
from support.model_choice.rows import ChoiceRows, read_choice_rows
from support.model_choice.validation import (
    difference,
    held_out_scores,
    judge,
    random_folds,
    subset_folds,
)

WEAK, STRONG = np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])


def test_a_perfect_order_recovers_the_gap_at_once() -> None:
    curve = gap_curve(STRONG - WEAK, WEAK, STRONG)
    # Steps of a quarter: 0, 1/2, 1, 1, 1 of the gap.
    assert curve.recovered.tolist() == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert curve.apgr == pytest.approx((0.25 + 0.75 + 1.0 + 1.0) / 4)
    assert [curve.cost(level) for level in (0.5, 0.8, 1.0)] == [0.25, 0.5, 0.5]


def test_no_knowledge_is_the_straight_line() -> None:
    curve = gap_curve(np.zeros(4), WEAK, STRONG)
    assert curve.recovered.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert curve.apgr == pytest.approx(0.5)
    assert curve.cost(0.5) == 0.5


def test_ties_do_not_go_by_the_order_of_rows() -> None:
    scores = np.array([1.0, 1.0, 0.0, 0.0])
    order = [1, 0, 3, 2]
    assert gap_curve(scores, WEAK, STRONG).recovered == pytest.approx(
        gap_curve(scores[order], WEAK[order], STRONG[order]).recovered)


def test_more_than_the_gap_can_be_recovered() -> None:
    weak, strong = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0])
    assert gap_curve(strong - weak, weak, strong).recovered.max() == 2.0
    assert recovered_at(np.array([False, True, True]), weak, strong) == (pytest.approx(2 / 3), 2.0)


@pytest.fixture(scope="module")
def rows() -> ChoiceRows:
    """Sums, on which the large model is better by 0.6, and poems, on which it is not."""
    made = prompt_rows(400)
    subsets = np.array([("sums", "poems")[place % 2] + str(place % 8) for place in range(400)])
    return ChoiceRows(made.prompts, made.quality[:, 0], made.quality[:, 1], subsets)


def test_contenders_find_what_there_is_to_find(rows: ChoiceRows) -> None:
    folds = random_folds(rows, 2, np.random.default_rng(0))
    found = held_out_scores(rows, folds, lambda prompts, rng: fit_hashed(
        prompts, rng, num_dimensions=8), CONTENDERS, 0)
    apgr = {name: judge(name, [(ranks, folds)], rows, np.random.default_rng(0), 50)
            for name, ranks in found.items()}
    assert apgr["random / best fixed mix"].apgr == pytest.approx(0.5, abs=0.12)
    # All the gap is in one half of the prompts: a line to 1 at a half, then flat.
    for name in ("penstock", "penstock knn", "routellm-style, factorisation", "told the subset"):
        assert apgr[name].apgr == pytest.approx(0.75, abs=0.09), name
    assert apgr["oracle"].apgr > max(score.apgr for name, score in apgr.items() if name != "oracle")
    for score in apgr.values():
        assert score.apgr_interval[0] <= score.apgr <= score.apgr_interval[1]
    ahead, low, high = difference([found["penstock"]], [found["random / best fixed mix"]], rows,
                                  np.random.default_rng(0), 50)
    assert 0.1 < low < ahead < high
    share, gap = apgr["penstock"].operating[1]
    assert share == pytest.approx(0.4, abs=0.15)
    assert gap == pytest.approx(0.8, abs=0.2)


def test_no_test_row_is_learnt_from(rows: ChoiceRows) -> None:
    """Answers of held-out rows turned round change no score of theirs but the oracle's."""
    folds = random_folds(rows, 2, np.random.default_rng(0))
    turned = ChoiceRows(rows.prompts, np.where(folds == 0, 1 - rows.weak, rows.weak),
                        np.where(folds == 0, 1 - rows.strong, rows.strong), rows.subsets)
    contenders = {name: contender for name, contender in CONTENDERS.items() if name != "oracle"}
    one, other = (held_out_scores(these, folds, lambda prompts, rng: fit_hashed(
        prompts, rng, num_dimensions=8), contenders, 0) for these in (rows, turned))
    for name in contenders:
        assert (one[name][folds == 0] == other[name][folds == 0]).all(), name


def test_folds_keep_subsets_together(rows: ChoiceRows) -> None:
    folds = subset_folds(rows, 3, np.random.default_rng(1))
    for subset in np.unique(rows.subsets):
        assert len(np.unique(folds[rows.subsets == subset])) == 1
    counts = np.bincount(random_folds(rows, 3, np.random.default_rng(1)))
    assert counts.max() - counts.min() <= 1


def lesson(vectors: np.ndarray, weak: list[float], strong: list[float]) -> Lesson:
    prompts = tuple("abcdefgh"[:len(weak)])
    these = ChoiceRows(prompts, np.array(weak), np.array(strong), np.array(prompts))
    return Lesson(these, vectors, these, vectors, fit_hashed(prompts, np.random.default_rng(0)),
                  np.random.default_rng(0))


def test_routellms_similarity_is_its_weighted_win_rate() -> None:
    vectors = np.eye(2, dtype=np.float32)
    # The strong model wins the first and ties the second; weights are 10^2 and 10^1.
    found = routellm_similarity(lesson(vectors, [0.0, 1.0], [1.0, 1.0]))
    assert found == pytest.approx([(100 * 1 + 10 * 0.5) / 110, (10 * 1 + 100 * 0.5) / 110])


def test_routellms_factorisation_is_at_its_optimum() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((8, 2)).astype(np.float32)
    asked = lesson(vectors, [0, 1, 0, 1, 0, 0, 1, 1], [1, 0, 1, 1, 1, 0, 1, 0])
    scores = routellm_factorisation(asked, penalty=1.0)
    wins = (1 + asked.rows.strong - asked.rows.weak) / 2
    chance = 1 / (1 + np.exp(-scores))
    # The slope along the intercept is nought at the optimum.
    assert chance.sum() == pytest.approx(wins.sum())


def test_rows_are_read(tmp_path: Path) -> None:
    text = "family,prompt,weak_correct,strong_correct,subset\nx,\"a, b\",0,1,law\nx,c,1,0.5,art\n"
    (tmp_path / "rows.csv").write_text(text)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("rows.csv", "rows.csv.gz"):
        found = read_choice_rows(tmp_path / name)
        assert found.prompts == ("a, b", "c")
        assert found.strong.tolist() == [1.0, 0.5]
        assert found.subsets.tolist() == ["law", "art"]


@pytest.mark.parametrize(("content", "message"), [
    (b"prompt,weak_correct,strong_correct\n", "no column 'subset'"),
    (b"prompt,weak_correct,strong_correct,subset\n", "no rows"),
    (b"prompt,weak_correct,strong_correct,subset\na,2,1,s\n", "row 2: weak_correct '2'"),
    (b"prompt,weak_correct,strong_correct,subset\na,1,,s\n", "row 2: strong_correct ''"),
    (b"prompt,weak_correct,strong_correct,subset\na,nan,1,s\n", "row 2: weak_correct 'nan'"),
    (b"\xff\xfe", "is not CSV text"),
])
def test_bad_rows_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_choice_rows(tmp_path / "rows.csv")


def test_real_correctness_is_predicted(shared_data: Path) -> None:
    """A part of the measured prompts: clearly better than any fixed mix of the two models."""
    whole = read_choice_rows(shared_data / "routing" / "two_model_correctness_dev.csv.gz")
    rows = whole.take(range(0, len(whole), 6))
    folds = random_folds(rows, 2, np.random.default_rng(0))
    found = held_out_scores(rows, folds, lambda prompts, rng: fit_hashed(
        prompts, rng, num_dimensions=64), {"penstock": CONTENDERS["penstock"]}, 0)
    score = judge("penstock", [(found["penstock"], folds)], rows, np.random.default_rng(0), 100)
    assert score.apgr_interval[0] > 0.55
