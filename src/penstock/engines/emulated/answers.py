"""Answers of an emulated model. The same prompt always gets the same text and length."""

from dataclasses import replace
from zlib import crc32

from penstock.core.request import AUTO
from penstock.fleet.sources import traffic_sources
from penstock.fleet.values import Fleet
from penstock.workload.lengths import TraceLengths
from penstock.workload.streams import stream

_NUM_DRAWS = 4096
_WORDS = (
    "water", "falls", "through", "the", "gate", "and", "turns", "a", "wheel", "below", "while",
    "rain", "fills", "every", "lake", "above", "old", "stone", "walls", "hold", "it", "back",
    "until", "someone", "opens", "one", "more", "valve", "then", "light", "comes", "on", "in",
    "small", "towns", "far", "away", "where", "people", "read", "late", "at", "night", "snow",
    "melts", "softly", "under", "pale", "spring", "sun", "rivers", "rise", "again", "before",
    "summer", "dries", "them", "out", "completely",
)


class Answers:
    """Lengths and words of a model's answers.

    ``lengths`` are output lengths to draw from. Without any, answers run to their token limit.
    """

    def __init__(self, lengths: tuple[int, ...], seed: int) -> None:
        self._lengths = lengths
        self._seed = seed

    def key(self, prompt: bytes) -> int:
        """Return the number that determines the answer to ``prompt``."""
        return crc32(prompt, crc32(str(self._seed).encode()))

    def output_tokens(self, key: int, max_tokens: int) -> int:
        """Return the length of the answer."""
        if not self._lengths:
            return max_tokens
        return min(max_tokens, self._lengths[key % len(self._lengths)])

    def text(self, key: int, index: int) -> str:
        """Return the word of token ``index``."""
        # Each answer steps through a prime number of words by a stride of its own. So answers
        # differ, and each uses every word before it repeats one.
        num = len(_WORDS)
        word = _WORDS[(key + index * (1 + key // num % (num - 1))) % num]
        return word if index == 0 else f" {word}"


def answers(fleet: Fleet, model: str, seed: int) -> Answers:
    """Return answers with the lengths of the fleet's first traffic for ``model``.

    Reads its trace file, if it has one. Raises InputError for one that cannot be used.
    """
    spec = next((spec for spec in fleet.traffic if spec.model in (model, AUTO)), None)
    if spec is None:
        return Answers((), seed)
    (source,) = traffic_sources(replace(fleet, traffic=(spec,)))
    rng = stream(seed, spec.name, "emulated-lengths")
    if source.trace is not None:
        pairs = TraceLengths(source.trace).draw(rng, len(source.trace))
    else:
        assert source.lengths is not None, "traffic has a trace or lengths"
        pairs = source.lengths.draw(rng, _NUM_DRAWS)
    return Answers(tuple(pairs.output_tokens.tolist()), seed)
