"""Prompts that replicas have still to compute, with what each has in the cache."""

from collections import deque
from typing import NamedTuple

from penstock.core.snapshot import ReplicaSnapshot

_MOST_SENT = 4096


class Remainder(NamedTuple):
    """A prompt of which a replica has still to compute the last ``tokens_left`` tokens."""

    prompt_tokens: int
    tokens_left: int


class Outstanding:
    """Remembers the prompts sent to each replica, and what its cache lacked of each.

    A snapshot counts the tokens of waiting prompts in full, since the engine looks into its cache
    only as a prompt starts. Prompts start in order, so those that wait were sent last, and before
    them those that have started.
    """

    def __init__(self) -> None:
        self._sent: dict[int, deque[Remainder]] = {}

    def sent(self, replica_id: int, prompt_tokens: int, tokens_left: int) -> None:
        """A request was sent to a replica, which has to compute so many tokens of the prompt."""
        sent = self._sent.get(replica_id)
        if sent is None:
            sent = self._sent[replica_id] = deque(maxlen=_MOST_SENT)
        sent.append(Remainder(prompt_tokens, tokens_left))

    def of(self, replica: ReplicaSnapshot) -> list[Remainder]:
        """Return the prompts that a replica has still to compute. Tokens of prompts that others
        sent are spread evenly over the requests that this router has not sent."""
        started = replica.queued_prompt_tokens
        found: list[Remainder] = []
        for one in reversed(self._sent.get(replica.replica_id, ())):
            if len(found) < replica.num_waiting:
                started -= one.prompt_tokens
                found.append(one)
            elif started > 0:
                left = min(started, one.tokens_left)
                found.append(Remainder(one.prompt_tokens, left))
                started -= left
            else:
                break
        if started > 0:
            others = max(1, replica.num_waiting + replica.num_running - len(found))
            found += [Remainder(started // others, started // others)] * others
        return found
