"""SINCERE's strategies, traced by hand."""

from collections.abc import Sequence

import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import OVERWRITTEN, BatchTime, HostedModel, Queued
from penstock.published.sincere.policy import (
    STRATEGIES,
    LoadRow,
    Sincere,
    SincereSettings,
    nearest,
)
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.record import MultiplexRun
from support.small_hosts import PlainMachine

TABLE = [LoadRow(4.0, 1.0, 0.5, 0.1), LoadRow(6.0, 1.0, 0.5, 0.1)]


def settings(**changes: object) -> SincereSettings:
    usual = {"sla_s": 40.0, "best_batch": (3, 3), "load_table": TABLE}
    return SincereSettings(**{**usual, **changes})  # type: ignore[arg-type]


def served(strategy: str, arrivals: Sequence[tuple[float, int]], *, until_s: float = 500.0,
           room: int = 64, **changes: object) -> MultiplexRun:
    """Two models, loads of 10 s, batches of 1 s and 1 s per request, at most ``room`` of them."""
    batch = BatchTime(1.0, 1.0)
    models = [HostedModel(name, 10, batch, max_batch=room) for name in "ab"]
    machine = PlainMachine(models, load_s=10.0)
    policy = Sincere(STRATEGIES[strategy], settings(**changes))
    requests = [Queued(place, model, at_s, at_s + 40.0)
                for place, (at_s, model) in enumerate(arrivals)]
    return MultiplexSimulation(policy, [Device(0, 15, models, max_residents=1)],
                               machine).run(requests, until_s)


def test_a_full_batch_swaps_its_model_in_and_runs_alone() -> None:
    run = served("sincere-best-batch", [(0, 0), (1, 0), (2, 0), (3, 0)])
    assert [(load.model, load.begin_s) for load in run.loads] == [(0, 2.0)]
    assert run.end_s[:3].tolist() == [16.0, 16.0, 16.0]  # 2 + 10 + (1 + 3)
    assert run.num_waiting == 1


def test_a_second_hand_over_before_the_first_ran_loses_it() -> None:
    arrivals = [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1), (2, 1)]
    raced = served("sincere-best-batch", arrivals)
    assert raced.reasons == (OVERWRITTEN,)
    assert raced.shed_s[3:6].tolist() == [2.0] * 3
    assert raced.served.tolist() == [True] * 3 + [False] * 3 + [True] * 3
    mended = served("sincere-best-batch", arrivals, overwrite=False)
    assert mended.served.all()
    assert [one.num_requests for one in mended.batches] == [3, 6]


def test_a_cap_leaves_the_rest_of_a_buffer_in_line() -> None:
    arrivals = [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1), (2, 1)]
    run = served("sincere-best-batch", arrivals, overwrite=False, max_batch=3)
    assert [one.num_requests for one in run.batches] == [3, 3, 3]


def test_a_batch_is_never_larger_than_the_device_has_room_for() -> None:
    arrivals = [(0, 0)] * 7 + [(1, 1)] * 3
    run = served("sincere-best-batch", arrivals, overwrite=False, room=2, best_batch=(7, 3))
    assert [(one.model, one.num_requests) for one in run.batches] == [
        (0, 2), (1, 2), (0, 2), (1, 1), (0, 2), (0, 1)]
    assert run.served.all()


def test_the_timer_is_set_by_the_first_request_and_polled() -> None:
    run = served("sincere-best-batch-timer", [(0.05, 0), (5, 0)])
    # 40 - (4 + 1 + 8) = 27 s of room, divided by 1.001 for the one that waits, at the next poll.
    assert run.loads[0].begin_s == pytest.approx(27.2, abs=1e-6)
    assert run.batches[0].num_requests == 2


def test_a_resident_model_is_charged_a_load_unless_told_otherwise() -> None:
    arrivals = [(0, 0), (0, 0), (0, 0), (20, 0)]
    charged = served("sincere-best-batch-timer", arrivals)
    # 40 - (4 + 1 + 0.5 + 0.1 + 8) = 26.4 s of room, divided by 1.001.
    assert charged.batches[1].begin_s == pytest.approx(46.4, abs=1e-6)
    free = served("sincere-best-batch-timer", arrivals, charge_resident=False)
    assert free.batches[1].begin_s == pytest.approx(52.0, abs=1e-6)  # 40 - 8 = 32 s


def test_a_resident_model_that_stayed_is_polled_for_partial_batches() -> None:
    arrivals = [(0, 0), (0, 0), (0, 0), (15, 0)]
    run = served("sincere-best-batch-partial", arrivals)
    # Loaded at 10 s; from 20 s on more than 3 / 4 requests are enough.
    assert run.batches[1].begin_s == pytest.approx(20.2, abs=0.21)
    assert run.batches[1].num_requests == 1


def test_select_takes_the_size_nearest_to_what_arrives_while_it_swaps() -> None:
    # 4 requests a second, 40 - 27 / 1.001 s of room: int(52.x) is nearest to 64.
    run = served("sincere-select-batch-timer", [(0.25 * place, 0) for place in range(80)])
    assert run.batches[0].num_requests in {8, 16, 32, 64}
    # Without gaps the rate is 0, so 8 are enough.
    first = served("sincere-select-batch-timer", [(0.0, 0)] * 8)
    assert first.batches[0].num_requests == 8


@pytest.mark.parametrize(("target", "size"), [(0, 8), (12, 8), (13, 16), (24, 16), (48, 32),
                                              (49, 64), (500, 64)])
def test_nearest_takes_the_smaller_of_two(target: int, size: int) -> None:
    assert nearest((8, 16, 32, 64), target) == size


def test_tables_must_have_a_row_per_model() -> None:
    with pytest.raises(InputError, match="expected one of each"):
        Sincere(STRATEGIES["sincere-best-batch"], settings(best_batch=(3,)))


def test_a_cancelled_request_is_gone() -> None:
    policy = Sincere(STRATEGIES["sincere-best-batch"], settings())
    policy.add(Queued(0, 0, 0.0), 0.0)
    assert policy.cancel(0)
    assert not policy.cancel(0)
    assert policy.num_waiting == 0
