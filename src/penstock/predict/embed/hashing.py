"""A text as a bag of hashed n-grams, and as a few numbers that say what kind of text it is.

Hashing stands in for a vocabulary: a fixed number of buckets, no table to learn, and a sign per
n-gram so that collisions cancel on average (Weinberger et al., ICML 2009). Hashes are computed, not
taken from Python's salted ``hash``, so a bucket means the same in every process.
"""

import re
from math import log1p
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_DIGITS = re.compile(r"\d+")
_SYMBOL = re.compile(r"[-+*/=^<>(){}\[\]\\$%|]")
# Odd constants of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): they spread bits evenly.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SIGN_BIT = np.uint64(40)

NUM_TEXT_FEATURES = 12


def bag_of_ngrams(text: str, num_buckets: int, max_words: int,
                  max_chars: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Buckets that the text fills and the damped counts in them, ``sign * log(1 + count)``.

    N-grams of 1 to ``max_words`` words (a digit and a sign are words of their own) and of 3 to
    ``max_chars`` characters; no characters where ``max_chars`` is below 3. Case is ignored.
    """
    hashes = _word_hashes(text.lower(), max_words)
    if max_chars >= 3:
        hashes += _char_hashes(text.lower(), max_chars)
    found = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
    buckets = (found % np.uint64(num_buckets)).astype(np.intp)
    signs = 1.0 - 2.0 * ((found >> _SIGN_BIT) & np.uint64(1)).astype(np.float64)
    counts = np.bincount(buckets, signs, num_buckets)
    filled = np.flatnonzero(counts)
    values = counts[filled]
    return filled, (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def _word_hashes(text: str, max_words: int) -> list[NDArray[np.uint64]]:
    words = np.array([crc32(word.encode("utf-8", "surrogatepass"))
                      for word in _WORD.findall(text)], np.uint64)
    return [_rolled(words, length) for length in range(1, max_words + 1) if len(words) >= length]


def _char_hashes(text: str, max_chars: int) -> list[NDArray[np.uint64]]:
    chars = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    return [_rolled(chars + np.uint64(1 << 40), length) for length in range(3, max_chars + 1)
            if len(chars) >= length]


def _rolled(units: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A hash of each run of ``length`` units; arithmetic modulo 2**64."""
    num_runs = len(units) - length + 1
    rolled = np.full(num_runs, length, np.uint64)
    for offset in range(length):
        rolled = rolled * _STEP + units[offset:offset + num_runs]
        rolled ^= rolled >> np.uint64(29)
    rolled = (rolled ^ (rolled >> np.uint64(30))) * _FIRST
    rolled = (rolled ^ (rolled >> np.uint64(27))) * _SECOND
    return rolled ^ (rolled >> np.uint64(31))


def text_features(text: str) -> NDArray[np.float64]:
    """How long, how numeric, how symbolic a text is and how it asks; ``NUM_TEXT_FEATURES`` numbers.

    Rates are per character, lengths are logarithms.
    """
    chars = max(len(text), 1)
    lines = text.split("\n")
    words = text.split()
    rest = lines[1:]
    return np.array([
        log1p(len(text)), log1p(len(words)), log1p(len(lines)),
        log1p(len(_DIGITS.findall(text))),
        sum(map(str.isdigit, text)) / chars, sum(map(str.isupper, text)) / chars,
        len(_SYMBOL.findall(text)) / chars,
        len(text) / max(len(words), 1), len(set(words)) / max(len(words), 1),
        float(lines[0].rstrip().endswith("?")), float("__" in text),
        log1p(sum(map(len, rest)) / len(rest)) if rest else 0.0])
