"""Replicas that compute only prompts, only answers, or both, and where a request may begin."""

from collections.abc import Sequence
from typing import Final

BOTH: Final = "both"
PREFILL: Final = "prefill"
DECODE: Final = "decode"


class Roles:
    """The role of each replica, by number.

    A prompt of fewer than ``min_prompt_tokens`` stays whole: the replica that decodes it computes
    the prompt, too. A request also stays whole where no replica of the other role takes requests,
    so that the loss of a role loses nothing.
    """

    def __init__(self, roles: Sequence[str], min_prompt_tokens: int = 0) -> None:
        self._prefills = [role == PREFILL for role in roles]
        self._decodes = [role == DECODE for role in roles]
        self._min_prompt_tokens = min_prompt_tokens

    def first(self, prompt_tokens: int, replicas: list[int]) -> list[int]:
        """Return those of ``replicas`` at which a request of so many tokens may begin."""
        prefills, decodes = self._prefills, self._decodes
        others = [i for i in replicas if not decodes[i]]
        if (prompt_tokens < self._min_prompt_tokens or len(others) == len(replicas)
                or not any(prefills[i] for i in others)):
            others = [i for i in replicas if not prefills[i]]
        return others or replicas

    def second(self, replicas: list[int]) -> list[int]:
        """Return those of ``replicas`` that decode what another replica prefilled."""
        return [i for i in replicas if self._decodes[i]]

    def splits(self, index: int, replicas: list[int]) -> bool:
        """Whether a request that begins at replica ``index`` goes on at another of ``replicas``."""
        return self._prefills[index] and any(self._decodes[i] for i in replicas)
