import pytest

from penstock.experiment.collect.grade import chrf, exact, rouge_l, token_f1


@pytest.mark.parametrize(("answer", "reference", "right"), [
    ("The total is 72.", "72", True),
    ("First 12, then 60, so 72", "some work\n#### 72", True),
    ("It costs $1,234.50", "1234.5", True),
    ("70", "72", False),
    ("half, 1/2", "0.5", True),
    ("no number here", "72", False),
    ("-3", "3", False),
    ("Paris", "paris", True),
    ("the Paris", "Paris.", True),
    ("Lyon", "Paris", False),
    ("apollo 11", "Apollo 11", True),
    ("gemini 11", "Apollo 11", False),
    ("1/0", "5", False),
    ("", "", True),
])
def test_exact(answer: str, reference: str, right: bool) -> None:
    assert exact(answer, reference) == float(right)


def test_token_f1_is_squads() -> None:
    # Two of three words found, two of two wanted.
    assert token_f1("in the big river", "big river") == pytest.approx(0.8)
    assert token_f1("a cat", "the cat") == 1.0
    assert token_f1("dog", "cat") == 0.0
    assert token_f1("", "cat") == 0.0
    assert token_f1("", "") == 1.0


def test_rouge_l_takes_order_into_account() -> None:
    assert rouge_l("police killed gunman", "police kill gunman") == pytest.approx(2 / 3)
    assert rouge_l("gunman police", "police gunman") == pytest.approx(0.5)
    assert token_f1("gunman police", "police gunman") == 1.0
    words = " ".join(f"w{number}" for number in range(500))
    assert rouge_l(words, words) == 1.0
    assert rouge_l("x x y x", "x y y x") == pytest.approx(0.75)


def test_chrf_is_kind_to_inflections() -> None:
    assert chrf("identical", "identical") == pytest.approx(1.0)
    assert chrf("rivers", "river") > chrf("lake", "river")
    assert chrf("abc", "xyz") == 0.0
    assert chrf("", "") == 1.0
    assert chrf("", "abc") == 0.0
    # Over unigrams and bigrams: precision (1 + 0) / 2, recall (1/2 + 0) / 2, F2 of the two.
    assert chrf("a", "ab") == pytest.approx(5 * 0.5 * 0.25 / (4 * 0.5 + 0.25))


@pytest.mark.parametrize("metric", [exact, token_f1, rouge_l, chrf])
@pytest.mark.parametrize(("one", "other"), [("a b c", "a b"), ("", "x"), ("é 漢", "漢"),
                                            ("1", "2")])
def test_scores_lie_between_0_and_1(metric, one: str, other: str) -> None:
    assert 0.0 <= metric(one, other) <= 1.0
    assert metric(one, one) == 1.0
