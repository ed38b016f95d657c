"""Answers that are kept in memory for requests that are sent again."""

from collections.abc import Callable
from typing import NamedTuple

MOST_BYTES = 64 * 2**20
_MOST_EACH_BYTES = MOST_BYTES // 8
_KEPT_S = 24 * 3600.0
_ENTRY_BYTES = 1024  # of an answer beside its body


class KeptAnswer(NamedTuple):
    """An answer in one piece, and the decision that it belongs to."""

    decision_id: str
    body: bytes
    content_type: str


class AnswerStore:
    """The latest answers by the digest of their keys, up to ``MOST_BYTES`` together. ``clock``
    gives seconds."""

    def __init__(self, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._kept: dict[str, tuple[float, KeptAnswer]] = {}
        self._num_bytes = 0

    def add(self, digest: str, answer: KeptAnswer) -> None:
        """Keep an answer, and forget the oldest where there are too many bytes. A large answer is
        not kept."""
        self._drop(digest)
        if len(answer.body) > min(_MOST_EACH_BYTES, self._most_bytes - _ENTRY_BYTES):
            return
        self._kept[digest] = self._clock(), answer
        self._num_bytes += _ENTRY_BYTES + len(answer.body)
        while self._num_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def get(self, digest: str) -> KeptAnswer | None:
        """Return an answer that is still kept."""
        found = self._kept.get(digest)
        if found is not None and self._clock() - found[0] > _KEPT_S:
            self._drop(digest)
            return None
        return None if found is None else found[1]

    def _drop(self, digest: str) -> None:
        found = self._kept.pop(digest, None)
        if found is not None:
            self._num_bytes -= _ENTRY_BYTES + len(found[1].body)
