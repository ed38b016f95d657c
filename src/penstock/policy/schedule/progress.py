"""Progress of each request of a replica, for observers of its queue."""

from typing import NamedTuple

from penstock.policy.schedule.replica import ReplicaScheduler


class Progress(NamedTuple):
    """Tokens of one request: prompt tokens still to compute, tokens in the KV cache, generated
    tokens. ``group`` is its decode group, -1 before it decodes."""

    request_id: int
    prompt_tokens_left: int
    context_tokens: int
    output_tokens: int
    group: int


def progress(scheduler: ReplicaScheduler) -> list[Progress]:
    """Return the progress of every live request, in order of arrival."""
    found: list[Progress] = []
    for sequence in scheduler.live():
        if sequence.join_turn >= 0:
            group = scheduler.groups[sequence.group]
            found.append(Progress(sequence.request_id, 0, group.stored_tokens(sequence),
                                  group.generated(sequence), sequence.group))
        else:
            found.append(Progress(sequence.request_id, sequence.remaining, sequence.computed,
                                  sequence.generated, -1))
    return found
