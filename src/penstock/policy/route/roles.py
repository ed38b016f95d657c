"""Replicas that compute only prompts, only answers, or both, and where a request may begin."""

from collections.abc import Sequence
from typing import Final

BOTH: Final = "both"
PREFILL: Final = "prefill"
DECODE: Final = "decode"


class Roles:
    """The role of each replica, by number.

    ``least_tokens`` has the fewest tokens of a prompt that each replica with the role PREFILL
    takes. Where such a replica states any, the length of a prompt decides: a shorter prompt stays
    whole, at the replicas that do both, and where there are none, at those that decode. A longer
    prompt goes to replicas that prefill. Without a stated number, a request begins at any replica
    that prefills or does both. A request also stays whole where no replica of the other role takes
    requests, so that the loss of a role loses nothing.
    """

    def __init__(self, roles: Sequence[str], least_tokens: Sequence[int] = ()) -> None:
        self._prefills = [role == PREFILL for role in roles]
        self._decodes = [role == DECODE for role in roles]
        self._least_tokens = list(least_tokens) or [0] * len(roles)

    def first(self, prompt_tokens: int, replicas: list[int]) -> list[int]:
        """Return those of ``replicas`` at which a request of so many tokens may begin."""
        decodes, least = self._decodes, self._least_tokens
        prefills = [i for i in replicas if self._prefills[i]]
        wholes = [i for i in replicas if not self._prefills[i] and not decodes[i]]
        by_length = any(least[i] > 0 for i in prefills)
        if prefills and any(decodes[i] for i in replicas):
            able = [i for i in prefills if least[i] <= prompt_tokens]
            if able:
                return able if by_length else [i for i in replicas if not decodes[i]]
            return wholes or [i for i in replicas if decodes[i]]
        return [i for i in replicas if not self._prefills[i]] or replicas

    def second(self, replicas: list[int]) -> list[int]:
        """Return those of ``replicas`` that decode what another replica prefilled."""
        return [i for i in replicas if self._decodes[i]]

    def splits(self, index: int, replicas: list[int]) -> bool:
        """Whether a request that begins at replica ``index`` goes on at another of ``replicas``."""
        return self._prefills[index] and any(self._decodes[i] for i in replicas)
