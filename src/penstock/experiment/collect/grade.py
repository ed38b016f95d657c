"""Quality of an answer by its likeness to a reference, 0 to 1."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_WORD = re.compile(r"\w+")
_ARTICLES = {"a", "an", "the"}
_CHRF_ORDER, _CHRF_BETA = 6, 2.0


def exact(answer: str, reference: str) -> float:
    """1 when the answer says what the reference says, else 0.

    A reference that ends in a number (``#### 72`` as well) is met by the same number as the
    answer's last; any other by the same words, case and articles aside.
    """
    wanted = _last_number(reference)
    if wanted is not None and not _words_without_numbers(reference):
        return float(_last_number(answer) == wanted)
    return float(_words(answer) == _words(reference))


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text.rsplit("####", 1)[-1]) or _NUMBER.findall(text)
    if not found:
        return None
    top, _, bottom = found[-1].replace(",", "").partition("/")
    if not bottom:
        return float(top)
    return float(top) / float(bottom) if float(bottom) else None


def _words_without_numbers(reference: str) -> list[str]:
    """Words of a reference that is not just a number; a worked solution before #### is none."""
    return re.findall(r"[^\W\d_]{2,}", reference.rsplit("####", 1)[-1])


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in _ARTICLES]


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of words, as SQuAD scores answers (Rajpurkar et al.,
    EMNLP 2016)."""
    found, wanted = Counter(_words(answer)), Counter(_words(reference))
    return _f_score(sum((found & wanted).values()), sum(found.values()), sum(wanted.values()))


def rouge_l(answer: str, reference: str) -> float:
    """F-score of the longest common subsequence of words (Lin, 2004)."""
    found, wanted = _words(answer), _words(reference)
    return _f_score(_common_length(found, wanted), len(found), len(wanted))


def _f_score(common: int, num_found: int, num_wanted: int) -> float:
    if not num_found or not num_wanted:
        return float(num_found == num_wanted)
    return 2.0 * common / (num_found + num_wanted)


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Hyyrö's bit-vector method: one integer operation per word of ``other``."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    state = mask = (1 << len(one)) - 1
    for word in other:
        matched = state & places.get(word, 0)
        state = ((state + matched) | (state - matched)) & mask
    return len(one) - state.bit_count()


def chrf(answer: str, reference: str) -> float:
    """Mean F2 of character 1- to 6-grams without blanks (Popovic, WMT 2015)."""
    found, wanted = "".join(answer.split()), "".join(reference.split())
    precision, recall, num_orders = 0.0, 0.0, 0
    for order in range(1, _CHRF_ORDER + 1):
        ours, theirs = _grams(found, order), _grams(wanted, order)
        if not ours and not theirs:
            continue
        num_orders += 1
        common = sum((ours & theirs).values())
        precision += common / max(sum(ours.values()), 1)
        recall += common / max(sum(theirs.values()), 1)
    if not num_orders:
        return 1.0
    if not precision or not recall:
        return 0.0
    precision, recall = precision / num_orders, recall / num_orders
    weight = _CHRF_BETA**2
    return (1.0 + weight) * precision * recall / (weight * precision + recall)


def _grams(text: str, order: int) -> Counter[str]:
    return Counter(text[place:place + order] for place in range(len(text) - order + 1))


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact": exact, "f1": token_f1, "rouge-l": rouge_l, "chrf": chrf}
