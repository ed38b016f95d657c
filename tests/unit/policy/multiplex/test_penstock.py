"""Penstock's multiplexing policy: where it goes, who is shed, what is loaded beside compute."""

from collections.abc import Sequence

import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.policy.multiplex.penstock import ValueRate
from penstock.policy.multiplex.queues import INFEASIBLE, NOT_LOADED, OUT_OF_MEMORY
from penstock.policy.multiplex.values import Batch, HostedModel, Load, Shed, Wait
from penstock.sim.multiplex.machine import Took
from support.small_hosts import PlainMachine, host, models, queued

PLAIN = {"margin": 0.0, "prefetch": False}


def test_it_goes_where_most_are_answered_per_second() -> None:
    run = host("penstock", models(2), queued([(0.0, 0), *[(0.0, 1)] * 8], 60.0), settings=PLAIN)
    assert [load.model for load in run.loads] == [1, 0]
    assert run.in_time.all()


def test_who_is_too_late_whatever_is_done_is_shed_at_once_and_told_why() -> None:
    run = host("penstock", models(1), queued([(0.0, 0)], slack_s=6.0), settings=PLAIN)
    assert run.reasons == (INFEASIBLE,)  # 5 s of load and 1.1 s of batch
    assert run.shed_s.tolist() == [0.0]
    assert not run.loads


def test_nobody_is_shed_where_that_is_switched_off() -> None:
    keep = {"shed": False}
    run = host("penstock", models(1), queued([(0.0, 0), (0.0, 0)], slack_s=6.0), settings=keep)
    assert run.reasons == ()
    assert run.served.all()
    assert not run.in_time.all()


def test_a_batch_is_made_small_enough_for_those_due_first() -> None:
    urgent = queued([(0.0, 0)] * 4, slack_s=6.5)
    patient = [one._replace(request_id=4 + place, deadline_s=100.0)
               for place, one in enumerate(queued([(0.0, 0)] * 12))]
    run = host("penstock", models(1), [*urgent, *patient], settings=PLAIN)
    # A batch of 16 takes 2.6 s and would be late for four: they go first; with
    # one more they would be there at their deadline, which is late.
    assert run.in_time.all()
    assert run.batches[0].num_requests == 4


def test_one_is_left_out_where_that_answers_more_in_all() -> None:
    urgent = queued([(0.0, 0)], slack_s=6.15)
    patient = [one._replace(request_id=1 + place, deadline_s=7.6)
               for place, one in enumerate(queued([(0.0, 0)] * 15))]
    # A batch of 15 ends at 7.5 s; behind one of 1 it would end at 8.6 s, too late for all of them.
    run = host("penstock", models(1), [*urgent, *patient], settings=PLAIN)
    assert run.batches[0].num_requests == 15
    assert run.in_time[1:].all()
    assert not run.served[0]


def test_the_next_model_is_loaded_beside_compute_where_memory_allows() -> None:
    arrivals = queued([(0.0, 0), *[(5.5, 1)] * 4], 60.0)
    both = host("penstock", models(2), arrivals, memory_bytes=20, settings=PLAIN)
    # Model 0 runs from 5 to 6.1 s; model 1 arrives meanwhile and is loaded after that batch.
    assert both.loads[1].begin_s == pytest.approx(6.1)
    early = queued([*[(0.0, 0)] * 8, *[(0.0, 1)] * 4], 60.0)
    run = host("penstock", models(2), early, memory_bytes=20, settings=PLAIN)
    assert run.loads[1].begin_s == 5.0  # as soon as the first batch runs
    assert run.batches[0].begin_s == 5.0


class StretchedMachine(PlainMachine):
    """Batches take ``times`` as long as their line says."""

    def __init__(self, hosted: Sequence[HostedModel], times: float) -> None:
        super().__init__(hosted)
        self._times = times

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        took = super().batch(device, batch, now_s)
        return took._replace(seconds=took.seconds * self._times)


@pytest.mark.parametrize("times", [1.0, 15.0])
def test_what_is_loaded_beside_a_batch_follows_from_its_believed_end(times: float) -> None:
    hosted = models(3)
    arrivals = queued([*[(0.0, 0)] * 8, *[(4.0, 1)] * 3, *[(4.0, 2)] * 2], 100.0)
    arrivals = [one._replace(deadline_s=13.0) if one.model == 1 else one for one in arrivals]
    nobody_expected = {"horizon_s": 0.0, "margin": 0.0, "prefetch": False}
    run = host("penstock", hosted, arrivals, memory_bytes=25, settings=nobody_expected,
               machine=StretchedMachine(hosted, times))
    # The batch that begins at 5 s is believed to end at 6.8 s: three answers of model 1 are then
    # worth more than two of model 2. Who knew that it ends at 32 s would load model 2.
    assert [(load.begin_s, load.model) for load in run.loads[:2]] == [(0.0, 0), (5.0, 1)]


def test_a_model_that_pays_less_gets_its_floor() -> None:
    busy = [(0.2 * place, 0) for place in range(1500)]
    rare = [(10.0 * place, 1) for place in range(30)]
    arrivals = queued(sorted(busy + rare), slack_s=100.0)
    without = host("penstock", models(2), arrivals, settings=PLAIN)
    floor = host("penstock", models(2, min_share=0.2), arrivals, settings=PLAIN)
    rare_ones = floor.model == 1
    assert floor.in_time[rare_ones].mean() >= without.in_time[rare_ones].mean()
    time_s = sum(one.seconds for one in floor.batches if one.model == 1) + sum(
        load.seconds for load in floor.loads if load.model == 1)
    assert time_s >= 0.1 * 300.0


def test_a_load_that_fails_is_tried_again_after_a_pause() -> None:
    hosted = models(1)
    run = host("penstock", hosted, queued([(0.0, 0)], 60.0), settings=PLAIN,
               machine=PlainMachine(hosted, failing_loads=[0]))
    assert [load.failed for load in run.loads] == [True, False]
    assert run.loads[1].begin_s == 10.0  # 5 s of load, 5 s of pause
    assert run.in_time.all()


def test_after_three_failures_who_waits_is_told() -> None:
    hosted = models(1)
    run = host("penstock", hosted, queued([(0.0, 0), (0.0, 0)], 200.0), settings=PLAIN,
               machine=PlainMachine(hosted, failing_loads=[0, 1, 2]))
    assert run.reasons == (NOT_LOADED,)
    assert run.num_waiting == 0


def test_a_batch_out_of_memory_comes_back_at_half_its_size() -> None:
    hosted = models(1)
    run = host("penstock", hosted, queued([(0.0, 0)] * 16, 60.0), settings=PLAIN,
               machine=PlainMachine(hosted, most=5))
    assert [one.num_requests for one in run.batches] == [16, 8, 4, 4, 4, 4]
    assert run.in_time.all()


def test_one_request_that_does_not_fit_is_turned_away() -> None:
    hosted = models(1)
    run = host("penstock", hosted, queued([(0.0, 0)], 60.0), settings=PLAIN,
               machine=PlainMachine(hosted, most=0))
    assert run.reasons == (OUT_OF_MEMORY,)


def test_two_devices_take_different_models() -> None:
    arrivals = queued([*[(0.0, 0)] * 8, *[(0.0, 1)] * 8], 60.0)
    run = host("penstock", models(2), arrivals, num_devices=2, settings=PLAIN)
    assert {(load.device, load.model) for load in run.loads} == {(0, 0), (1, 1)}


def test_batches_are_as_large_as_memory_beside_the_weights() -> None:
    arrivals = queued([(0.0, 0)] * 8, 60.0)
    run = host("penstock", models(1, request_bytes=2), arrivals, memory_bytes=16, settings=PLAIN)
    assert [one.num_requests for one in run.batches] == [3, 3, 2]


def test_options_must_make_sense() -> None:
    with pytest.raises(InputError, match="expected at least 1, 0 and 0"):
        MultiplexOptions(max_batches=0)


def test_who_comes_back_from_a_batch_out_of_memory_is_told_when_it_is_too_late() -> None:
    served = models(1)
    policy = ValueRate(served, LoadTable([5.0]), MultiplexOptions(margin=0.0, prefetch=False))
    one, other = (Device(index, 10, served) for index in range(2))
    requests = queued([(0.0, 0), (0.0, 0)], slack_s=7.0)
    for request in requests:
        policy.add(request, 0.0)
    one.begin_load(load := policy.next(one, 0.0))
    assert load == Load(0)
    one.end_load(5.0, loaded=True)
    policy.loaded(one, 0, 5.0, failed=False)
    one.begin_batch(batch := policy.next(one, 5.0))
    assert batch == Batch(0, tuple(requests))
    assert isinstance(policy.next(other, 6.0), Wait)  # nobody waits at that moment
    one.end_batch(0, 2, 6.4)
    policy.ended(one, batch, 6.4, failed=True)
    assert policy.next(one, 6.4) == Shed(tuple(requests), INFEASIBLE)
    assert policy.num_waiting == 0


class SlowAtFirst(PlainMachine):
    """Loads that take 100 s until ``until_s``, and 5 s from then on."""

    def __init__(self, hosted: Sequence[HostedModel], until_s: float) -> None:
        super().__init__(hosted)
        self._until_s = until_s

    def load(self, device: int, model: int, now_s: float) -> Took:
        return Took(100.0 if now_s < self._until_s else 5.0)


def test_loads_that_were_slow_once_are_tried_again() -> None:
    hosted = models(2)
    arrivals = queued([(2.0 * place, place % 2) for place in range(6000)], slack_s=12.0)
    run = host("penstock", hosted, arrivals, settings=PLAIN, machine=SlowAtFirst(hosted, 1500.0))
    late = run.arrival_s > 9000.0
    for model in (0, 1):
        assert run.in_time[late & (run.model == model)].mean() > 0.3


def test_a_load_that_is_believed_to_take_too_long_is_tried_all_the_same() -> None:
    hosted = models(1)
    arrivals = queued([(5.0 * place, 0) for place in range(2000)], slack_s=20.0)
    run = host("penstock", hosted, arrivals, settings=PLAIN, load_s=25.0,
               machine=PlainMachine(hosted, 5.0))
    assert run.in_time.mean() > 0.5
