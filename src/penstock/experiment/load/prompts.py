"""Prompts of a wanted length, made up from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.workload.conversations import Conversation
from penstock.workload.streams import stream
from penstock.workload.workload import Workload

Form = Literal["text", "ids"]

# Three letters and a blank: four bytes each, and one token each in vocabularies of English text.
_TEXT = (
    "act add age ago aid aim air all and any arm art ask bad bag bar bed bee big bit box boy bus "
    "but buy can cap car cat cow cry cup cut dad day did die dog dry due ear eat egg end eye fan "
    "far fat few fit fix fly for fox fun gap gas get god gun guy had has hat her hid him his hit "
    "hot how ice ill its job joy key kid lab law lay led leg let lie lip log lot low man map may "
    "men met mix mom mud net new nor not now nut odd off oil old one our out owe own pay pen pet "
    "pig pin put ran red run sad sat saw say sea see set")
WORDS = tuple(_TEXT.split())
_FIRST_ID, _NUM_IDS = 100, 400  # within the vocabulary of any model, tiny ones for tests too
_NUM_DIGITS = 4  # words that tell prompts apart: 128^4 of them


@dataclass(frozen=True, slots=True)
class Scale:
    """How words become tokens: ``overhead + per_word * words``, as a server counts them."""

    per_word: float = 1.0
    overhead: float = 0.0

    def words(self, tokens: int) -> int:
        """The number of words that comes closest to so many tokens, at least 1."""
        return max(1, round((tokens - self.overhead) / self.per_word))


class GivenPrompts:
    """The prompts of conversations, in their order and again from the first; as messages for a
    chat, otherwise as one text each."""

    def __init__(self, conversations: Sequence[Conversation], *, chat: bool) -> None:
        self._conversations = conversations
        self._chat = chat

    def prompt(self, number: int) -> str | list[dict[str, str]]:
        """The n-th that is sent."""
        one = self._conversations[number % len(self._conversations)]
        if not self._chat:
            return one.text
        return [{"role": message.role, "content": message.text} for message in one.messages]


class Prompts:
    """The prompts of a workload; number n is the n-th that is sent, and rows repeat.

    Every prompt differs from all others within its first tokens, but for what is shared: the
    beginnings that a trace's hashes say are equal, and ``shared_tokens`` at the beginning of all.
    """

    def __init__(self, workload: Workload, seed: int, form: Form = "text",
                 scale: Scale = Scale(), shared_tokens: int = 0) -> None:
        self._workload = workload
        self._seed = seed
        self._form = form
        self._scale = scale if form == "text" else Scale()
        self._shared = self._draw("shared", 0, self._scale.words(shared_tokens)
                                  ) if shared_tokens else []

    def prompt(self, number: int) -> str | list[int]:
        """Text, or token ids with the form ``ids``."""
        row = number % len(self._workload)
        num = self._scale.words(int(self._workload.prompt_tokens[row]))
        pieces = [*self._shared, *self._beginning(row, number)][:num]
        rest = num - len(pieces)
        pieces += self._mark(number, min(rest, _NUM_DIGITS))
        pieces += self._draw("rest", number, num - len(pieces))
        if self._form == "ids":
            return [_FIRST_ID + piece for piece in pieces]
        return " ".join(WORDS[piece] for piece in pieces)

    @property
    def _num_kinds(self) -> int:
        return _NUM_IDS if self._form == "ids" else len(WORDS)

    def _draw(self, purpose: str, number: int, num: int) -> list[int]:
        if num <= 0:
            return []
        rng = stream(self._seed, f"{purpose} {number}", "prompts")
        drawn: list[int] = rng.integers(self._num_kinds, size=num).tolist()
        return drawn

    def _beginning(self, row: int, number: int) -> Sequence[int]:
        """Return the prompt's beginning by the trace's hashes. A further round over the rows has
        other users' prompts."""
        workload = self._workload
        if not workload.hash_block_tokens:
            return ()
        first, last = workload.hash_offsets[row:row + 2]
        block = self._scale.words(workload.hash_block_tokens)
        round_number = number // len(workload)
        return [piece for value in workload.hash_values[first:last].tolist()
                for piece in self._draw(f"block{round_number}", int(value), block)]

    def _mark(self, number: int, num_digits: int) -> list[int]:
        base = len(WORDS)
        shifted = (number + self._seed * 7919) % base**_NUM_DIGITS
        return [shifted // base**place % base for place in range(num_digits)]
