"""Laws of models that take turns on devices: all policies, on machines that break in every way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.units import to_ps
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.published.sincere.policy import STRATEGIES
from support.multiplexing_cases import ALL_POLICIES, PENSTOCK, MultiplexCase, Watched
from support.scaled_examples import examples
from support.strategies import multiplex_cases

CASES = multiplex_cases(ALL_POLICIES)


def left(watched: Watched) -> int:
    """Requests that have no end."""
    return sum(place in ("waits", "runs") for place in watched.place.values())


def each_request_ends_once(case: MultiplexCase, watched: Watched) -> None:
    run = watched.run
    assert len(watched.place) == len(case.requests)
    for request in case.requests:
        place = watched.place[request.request_id]
        assert (place == "served") == bool(run.served[request.request_id])
        assert (place == "shed") == (not np.isnan(run.shed_s[request.request_id]))
        assert (place == "shed") == (run.reason[request.request_id] >= 0)
    assert run.num_waiting == left(watched)
    if case.policy not in STRATEGIES:  # those leave requests below the threshold, as published
        assert left(watched) == 0


def no_answer_is_there_before_its_batch_could_have_been_over(case: MultiplexCase,
                                                             watched: Watched) -> None:
    run = watched.run
    share = case.faults.batch_share
    for request in case.requests:
        end_s = run.end_s[request.request_id]
        if not np.isnan(end_s):
            least_s = case.models[request.model].batch.seconds(1) * share
            assert run.begin_s[request.request_id] >= request.arrival_s
            assert end_s >= run.begin_s[request.request_id] + least_s - 1e-9
        if not np.isnan(run.shed_s[request.request_id]):
            assert run.shed_s[request.request_id] >= request.arrival_s


def the_same_case_runs_the_same_again(case: MultiplexCase, watched: Watched) -> None:
    first, second = watched.run, case.run().run
    for name in ("begin_s", "end_s", "shed_s", "reason"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.loads, first.batches, first.reasons) == (
        second.loads, second.batches, second.reasons)


def a_batch_runs_only_while_its_model_is_loaded(case: MultiplexCase, watched: Watched) -> None:
    run = watched.run
    for batch in run.batches:
        loads = [load for load in run.loads
                 if (load.device, load.model) == (batch.device, batch.model) and not load.failed
                 and to_ps(load.begin_s) + to_ps(load.seconds) <= to_ps(batch.begin_s)]
        assert loads


@given(CASES)
def test_laws_of_every_run(case: MultiplexCase) -> None:
    # That it ends is a law, too. While it runs, ``Watched`` looks at devices and calls: memory is
    # never exceeded, and time never goes back.
    watched = case.run()
    for law in (each_request_ends_once, no_answer_is_there_before_its_batch_could_have_been_over,
                a_batch_runs_only_while_its_model_is_loaded, the_same_case_runs_the_same_again):
        law(case, watched)


@given(multiplex_cases((PENSTOCK,), healthy=True))
def test_nobody_is_turned_away_who_could_still_be_in_time(case: MultiplexCase) -> None:
    """Beliefs are right and nothing fails: who is shed would have been late, had a load of the
    model begun at once."""
    run = replace(case, after_s=0.0).run().run
    for request in case.requests:
        if not np.isnan(run.shed_s[request.request_id]):
            least_s = case.models[request.model].batch.seconds(1)
            soonest_s = run.shed_s[request.request_id] + case.loads_s[request.model] + least_s
            assert soonest_s > request.deadline_s - 1e-6


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35])
@examples(30)
@given(load_s=st.sampled_from((1.0, 4.0, 10.0)), fixed_s=st.sampled_from((0.25, 1.0, 3.0)),
       num_others=st.integers(1, 3))
def test_a_model_whose_queue_never_empties_gets_its_floor(share: float, load_s: float,
                                                          fixed_s: float, num_others: int) -> None:
    """Others bring much more per second, and never stop."""
    num_s = 600
    rich = BatchTime(0.25, 0.01)
    models = [HostedModel("poor", 10, BatchTime(fixed_s, 1.0), max_batch=4, min_share=share),
              *(HostedModel(f"rich {i}", 10, rich, max_batch=64) for i in range(num_others))]
    each = 4 * len(models)
    requests = [Queued(place, place % len(models), float(place // each))
                for place in range(each * num_s)]
    case = MultiplexCase(PENSTOCK, models, [load_s] * len(models), [12], 1, requests)
    run = case.run().run
    poor_s = sum(min(one.seconds, num_s - one.begin_s) for one in (*run.loads, *run.batches)
                 if one.model == 0 and one.begin_s < num_s)
    # A visit is granted when it has been earned, and at the end one may be under way.
    visit_s = load_s + models[0].batch.seconds(4)
    assert poor_s >= share * num_s - 2.0 * visit_s
