"""The bound against every schedule of small instances in whole seconds: loads beside batches, one
or two residents, a device that stays taken after its answers."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from random import Random
from typing import NamedTuple

from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from support.multiplex_bound.bound import in_time_bound
from support.multiplex_bound.values import BoundOptions, DeviceLimits

LAST_S = 22


class Case(NamedTuple):
    models: Sequence[HostedModel]
    requests: Sequence[Queued]
    loads_s: Sequence[int]
    num_residents: int
    after_s: int


class Now(NamedTuple):
    """``load`` and ``batch`` are a model and when the device is done with it."""

    at_s: int
    residents: frozenset[int]
    waiting: frozenset[int]
    load: tuple[int, float] | None = None
    batch: tuple[int, float] | None = None


def drawn(draw: Random) -> Case:
    models = [HostedModel(f"m{index}", 10, BatchTime(draw.randint(1, 3), draw.randint(0, 1)), 0,
                          draw.choice((1, 2, 4))) for index in range(draw.randint(1, 3))]
    arrivals = sorted((draw.randint(0, 6), draw.randint(2, 14), draw.randrange(len(models)))
                      for _ in range(draw.randint(1, 5)))
    requests = [Queued(number, model, float(at_s), float(at_s + slack_s))
                for number, (at_s, slack_s, model) in enumerate(arrivals)]
    return Case(models, requests, [draw.randint(0, 4) for _ in models], draw.randint(1, 2),
                draw.randint(0, 1))


def best(case: Case) -> int:
    """The most requests in time, by trying everything that may begin at any whole second."""
    @cache
    def most(now: Now) -> int:
        if not now.waiting or now.at_s > LAST_S:
            return 0
        now = settled(now)
        return max(gain + most(after._replace(at_s=now.at_s + 1))
                   for gain, batched in batches(case, now) for after in loads(case, batched))

    return most(Now(0, frozenset(), frozenset(range(len(case.requests)))))


def settled(now: Now) -> Now:
    if now.load is not None and now.load[1] <= now.at_s:
        now = now._replace(residents=now.residents | {now.load[0]}, load=None)
    return now._replace(batch=None) if now.batch and now.batch[1] <= now.at_s else now


def batches(case: Case, now: Now) -> Iterator[tuple[int, Now]]:
    yield 0, now
    for model in now.residents if now.batch is None else ():
        hosted = case.models[model]
        own = [place for place in sorted(now.waiting) if case.requests[place].model == model
               and case.requests[place].arrival_s <= now.at_s]
        for num in range(1, min(len(own), hosted.max_batch) + 1):
            end_s = now.at_s + hosted.batch.seconds(num)
            for batch in combinations(own, num):
                if all(end_s < case.requests[place].deadline_s for place in batch):
                    yield num, now._replace(batch=(model, end_s + case.after_s),
                                            waiting=now.waiting - set(batch))


def loads(case: Case, now: Now) -> Iterator[Now]:
    yield now
    idle = [model for model in now.residents if now.batch is None or now.batch[0] != model]
    for model in {case.requests[place].model for place in now.waiting} - now.residents:
        for num in range(len(idle) + 1) if now.load is None else ():
            for gone in combinations(idle, num):
                if len(now.residents) - num < case.num_residents:
                    yield now._replace(residents=now.residents - set(gone),
                                       load=(model, now.at_s + case.loads_s[model]))


def test_no_schedule_exceeds_it_and_the_best_mostly_meets_it() -> None:
    draw, gaps = Random(6), []
    for _ in range(40):
        case = drawn(draw)
        found = in_time_bound(
            case.requests, case.models, [float(load_s) for load_s in case.loads_s],
            DeviceLimits(10 * case.num_residents, after=BatchTime(float(case.after_s), 0.0)),
            BoundOptions(slot_s=1.0))
        gaps.append(found.num_in_time - best(case))
    assert min(gaps) == 0
    assert gaps.count(0) >= 30
    assert max(gaps) <= 2
