"""Requests of a model that are alike to the slot, and in which slots what serves them may happen.

Every interval is widened to whole slots, so that whatever is possible in time is in slots.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued


class Cohort(NamedTuple):
    """Slots of ``num`` requests: they ``arrive``; ``ready``, ``begun`` and ``done`` are the last
    slots in which a load of their model can be over that they wait for, in which a batch of theirs
    can be in its fixed part, and in which they can be computed."""

    arrive: int
    ready: int
    begun: int
    done: int
    num: int


def cohorts(requests: Sequence[Queued], index: int, model: HostedModel, after: BatchTime,
            largest: int, slot_s: float, end_s: float) -> list[Cohort]:
    """Those who could be in time, in order of arrival.

    A batch takes the device for its answers and for ``after``. Taken as fixed parts first and then
    requests, each with its share of ``after``, the last request is done up to that much past the
    answer.
    """
    fixed_s, each_s = model.batch.fixed_s, model.batch.per_request_s
    found: Counter[tuple[int, int, int, int]] = Counter()
    for request in requests:
        due_s = min(request.deadline_s, end_s)
        if request.model != index or request.arrival_s + fixed_s + each_s >= due_s:
            continue
        moments_s = (request.arrival_s, due_s - fixed_s - each_s, due_s - each_s + after.fixed_s,
                     due_s + after.seconds(largest))
        arrive, ready, begun, done = (int(moment_s / slot_s) for moment_s in moments_s)
        found[arrive, ready, begun, done] += 1
    return [Cohort(*slots, num) for slots, num in sorted(found.items())]
