"""The offline bound, on cases small enough to work out, or to try out every schedule."""

from collections.abc import Sequence
from itertools import combinations
from math import inf

import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from support.multiplex_bound.bound import in_time_bound
from support.multiplex_bound.values import Bound, BoundOptions, DeviceLimits

ONE = DeviceLimits(10, 1)
LINE = BatchTime(1.0, 1.0)


def two_models(max_batch: int = 2, line: BatchTime = LINE) -> list[HostedModel]:
    return [HostedModel(name, 10, line, max_batch=max_batch) for name in "ab"]


def asked(*each: tuple[int, float, float]) -> list[Queued]:
    """Requests by model, arrival and deadline."""
    return [Queued(place, *one) for place, one in enumerate(each)]


def bound(requests: Sequence[Queued], models: Sequence[HostedModel], loads_s: Sequence[float],
          limits: DeviceLimits = ONE, slot_s: float = 0.25, **options: float) -> Bound:
    return in_time_bound(requests, models, loads_s, limits, BoundOptions(slot_s, **options))


def best(requests: Sequence[Queued], models: Sequence[HostedModel],
         loads_s: Sequence[float], now_s: float = 0.0, resident: int = -1) -> int:
    """By trying every order of every batch: the most that one device with one resident answers in
    time. A batch starts as soon as its model is there and its last request has arrived."""
    most = 0
    for model, hosted in enumerate(models):
        own = [one for one in requests if one.model == model]
        ready_s = now_s if model == resident else now_s + loads_s[model]
        for num in range(1, min(len(own), hosted.max_batch) + 1):
            for batch in combinations(own, num):
                end_s = max(ready_s, *(one.arrival_s for one in batch)) + hosted.batch.seconds(num)
                if all(end_s < one.deadline_s for one in batch):
                    rest = [one for one in requests if one not in batch]
                    most = max(most, num + best(rest, models, loads_s, end_s, model))
    return most


def test_nobody_and_nothing() -> None:
    assert bound([], two_models(), [1.0, 1.0]).share == 1.0
    too_late = bound(asked((0, 0.0, 3.0)), two_models(), [1.0, 1.0])
    assert (too_late.num_in_time, too_late.num_received, too_late.num_possible) == (0, 1, 0)
    too_large = bound(asked((0, 0.0, 9.0)), two_models(), [1.0, 1.0], DeviceLimits(9))
    assert (too_large.num_in_time, too_large.share) == (0, 0.0)


def test_the_last_second_counts() -> None:
    """A load of 1 s and a batch of 2 s are over at 3: too late at 3, in time just after."""
    assert bound(asked((0, 0.0, 3.001)), two_models(), [1.0, 1.0]).num_in_time == 1
    assert bound(asked((0, 5.0, 7.0)), two_models(), [1.0, 1.0]).num_in_time == 0


def test_two_models_do_not_both_come_in_time_where_one_load_takes_too_long() -> None:
    requests = asked((0, 0.0, 10.0), (1, 0.0, 10.0))
    assert bound(requests, two_models(), [4.0, 4.0]).num_in_time == 1  # 4 + 2 + 4 + 2 s
    assert bound(requests, two_models(), [2.0, 2.0]).num_in_time == 2


def test_beside_each_other_a_load_is_hidden_behind_the_first_batch() -> None:
    requests = asked((0, 0.0, 10.0), (1, 0.0, 10.0))
    two = DeviceLimits(20)
    assert bound(requests, two_models(), [3.5, 3.5], ONE).num_in_time == 1
    assert bound(requests, two_models(), [3.5, 3.5], two).num_in_time == 2
    assert bound(requests, two_models(), [3.5, 3.5], DeviceLimits(19)).num_in_time == 1
    assert bound(requests, two_models(), [5.0, 5.0], two).num_in_time == 1  # loads take turns


def test_compute_bounds_a_flood() -> None:
    """Batches of two take 3 s: in 30 s after a load of 2 s there are nine, and part of a tenth."""
    flood = asked(*((0, 0.0, 32.0) for _ in range(100)))
    assert 18 <= bound(flood, two_models(), [2.0, 2.0]).num_in_time <= 20
    assert 9 <= bound(flood, two_models(max_batch=1), [2.0, 2.0]).num_in_time <= 15
    assert 14 <= bound(flood, two_models(), [2.0, 2.0], DeviceLimits(
        10, 1, BatchTime(1.0, 0.0))).num_in_time <= 16


def test_memory_of_requests_makes_batches_smaller() -> None:
    model = HostedModel("a", 10, BatchTime(2.0, 0.0), request_bytes=2, max_batch=50)
    flood = asked(*((0, 0.0, 20.5) for _ in range(100)))
    assert bound(flood, [model], [0.5], DeviceLimits(14)).num_in_time in (20, 21)
    assert bound(flood, [model], [0.5], DeviceLimits(10)).num_in_time == 0


def test_answers_after_the_end_do_not_count() -> None:
    requests = asked((0, 0.0, inf), (0, 50.0, inf))
    assert bound(requests, two_models(), [1.0, 1.0], end_s=40.0).num_in_time == 1
    with pytest.raises(InputError, match="needs end_s"):
        bound(requests, two_models(), [1.0, 1.0])


def test_it_never_goes_below_the_best_schedule_and_mostly_meets_it() -> None:
    met = 0
    for case in range(30):
        # Numbers that look random: models, arrivals and slacks from the digits of case.
        requests = asked(*sorted(
            (((case + place) * 7 % 5 < 2, place * (case % 4) * 0.75,
              place * (case % 4) * 0.75 + 3.5 + (case * 3 + place * 5) % 7 * 1.5)
             for place in range(5)), key=lambda one: one[1]))
        models = two_models(max_batch=1 + case % 3, line=BatchTime(1.0, 0.5))
        loads_s = [1.0 + case % 5, 1.5]
        found = bound(requests, models, loads_s).num_in_time
        assert found >= best(requests, models, loads_s)
        met += found == best(requests, models, loads_s)
    assert met >= 15


def test_stopped_early_it_still_holds() -> None:
    requests = asked(*((place % 2, place * 0.5, place * 0.5 + 9.0) for place in range(60)))
    stopped = bound(requests, two_models(), [2.0, 2.0], time_limit_s=1e-6)
    solved = bound(requests, two_models(), [2.0, 2.0])
    assert solved.solved
    assert not stopped.solved
    assert solved.num_in_time <= stopped.num_in_time <= 60


@pytest.mark.parametrize(("change", "message"), [
    ({"loads_s": [1.0]}, "1 load times, expected one per model: 2"),
    ({"loads_s": [1.0, -1.0]}, "model b: a load of -1.0 s"),
    ({"requests": asked((2, 0.0, 9.0))}, "request 0: model 2 at 0.0 s, expected 0 to 1"),
    ({"requests": asked((0, -1.0, 9.0))}, "request 0: model 0 at -1.0 s"),
    ({"slot_s": 0.0}, "slot_s 0, end_s inf, time_limit_s 120: expected numbers above 0"),
])
def test_what_means_nothing_is_named(change: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"requests": asked((0, 0.0, 9.0)), "models": two_models(),
                                "loads_s": [1.0, 1.0]}
    with pytest.raises(InputError, match=message):
        bound(**{**usual, **change})  # type: ignore[arg-type]
