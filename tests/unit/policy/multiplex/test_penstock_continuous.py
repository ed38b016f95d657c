"""Penstock's multiplexing policy where requests join what runs."""

import pytest

from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.multiplex.beliefs import LoadTable, batch_time
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.policy.multiplex.penstock import ValueRate
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Load, Queued, Shed, Wait
from support.multiplexing_cases import multiplexing

MODELS = [HostedModel(f"m{one}", 10, BatchTime(1.0, 0.1), max_batch=8) for one in range(3)]
LOADS = LoadTable([5.0] * 3)
PLAIN = MultiplexOptions(margin=0.0)


class Desk:
    """A policy with one device, driven by hand."""

    def __init__(self, policy: Multiplexer, memory_bytes: int = 10) -> None:
        self.policy = policy
        self.device = Device(0, memory_bytes, MODELS, continuous=True)
        self._num = 0

    def ask(self, now_s: float, *models: int, slack_s: float = 60.0) -> list[object]:
        """Requests for these models arrive; what is done until the policy waits."""
        for model in models:
            self.policy.add(Queued(self._num, model, now_s, now_s + slack_s), now_s)
            self._num += 1
        done: list[object] = []
        while not isinstance(action := self.policy.next(self.device, now_s), Wait):
            done.append(action)
            if isinstance(action, Load):
                self.device.begin_load(action)
            elif isinstance(action, Batch):
                self.device.begin_batch(action)
        return done

    def loaded(self, now_s: float, *models: int) -> list[object]:
        model = self.device.loading
        assert model is not None
        self.device.end_load(now_s, loaded=True)
        self.policy.loaded(self.device, model, now_s, failed=False)
        return self.ask(now_s, *models)

    def ended(self, now_s: float, batch: object) -> list[object]:
        assert isinstance(batch, Batch)
        self.device.end_batch(batch.model, len(batch.requests), now_s)
        self.policy.ended(self.device, batch, now_s, failed=False)
        return self.ask(now_s)


def desk(memory_bytes: int = 10) -> Desk:
    return Desk(ValueRate(MODELS, LOADS, PLAIN), memory_bytes)


def test_requests_join_a_resident_until_it_is_full() -> None:
    one = desk()
    one.ask(0.0, 0)
    first, = one.loaded(5.0)
    second, = one.ask(5.2, *[0] * 9)
    assert [len(batch.requests) for batch in (first, second)] == [1, 7]
    assert one.ask(5.3, 0) == []
    third, = one.ended(6.0, first)
    assert len(third.requests) == 1


def test_a_resident_that_answers_more_is_not_sent_away() -> None:
    one = desk()
    one.ask(0.0, 0)
    running = one.loaded(5.0, 0, 0, 0)
    # Four run and take 1.4 s: 2.9 a second. One answer after 5 s of load is worth less.
    assert one.ask(5.1, 1) == []
    joined, = one.ask(5.2, 0)
    assert joined.model == 0
    assert running


def test_a_resident_runs_out_for_a_model_that_is_worth_more() -> None:
    one = desk()
    one.ask(0.0, 0)
    running, = one.loaded(5.0)
    # One that runs is 0.9 answers a second; eight in 6.8 s are 1.2.
    assert one.ask(5.1, *[1] * 8) == []
    assert one.ask(5.2, 0) == [], "who runs out takes no more"
    assert one.ended(6.1, running) == [Load(1, (0,))]


def test_nobody_leaves_any_more_once_nobody_waits_for_the_other() -> None:
    one = desk()
    one.ask(0.0, 0)
    one.loaded(5.0)
    one.ask(5.1, *[1] * 8)
    assert one.ask(5.2, 0) == []
    for request_id in range(1, 9):
        assert one.policy.cancel(request_id)
    joined, = one.ask(5.3)
    assert (joined.model, len(joined.requests)) == (0, 1)


def test_a_model_is_loaded_beside_those_that_run_where_memory_allows() -> None:
    one = desk(memory_bytes=20)
    one.ask(0.0, 0)
    running = one.loaded(5.0, 0, 0)
    assert one.ask(5.1, 1) == [Load(1)]
    joined, = one.ask(5.2, 0)  # requests join while it is loaded
    assert joined.model == 0
    assert running


def test_only_those_join_who_are_in_time_among_what_then_runs() -> None:
    one = desk(memory_bytes=20)
    one.ask(0.0, 0)
    one.loaded(5.0, *[0] * 5)
    # Six run and take 1.6 s: with one more nobody is there within 1.5 s, alone it would be.
    assert one.ask(5.1, 0, slack_s=1.5) == []
    gone, = one.ask(5.6)
    assert isinstance(gone, Shed)
    assert [request.request_id for request in gone.requests] == [6]


def test_beliefs_follow_what_requests_took() -> None:
    one = desk()
    one.ask(0.0, 0)
    batches = one.loaded(5.0)
    assert isinstance(one.policy, ValueRate)
    for turn in range(60):
        now_s = 5.0 + 4.4 * (turn + 1)
        one.ended(now_s, batches.pop())
        batches = one.ask(now_s, 0)
    assert one.policy._worth._batch_off.factor(0) == pytest.approx(4.0, rel=0.02)  # 4.4 s, not 1.1


def test_two_devices_share_who_waits() -> None:
    policy = multiplexing("penstock", MODELS, LOADS)
    devices = [Device(index, 10, MODELS, continuous=True) for index in range(2)]
    for device in devices:
        policy.next(device, 0.0)
        device.begin_load(Load(0))
        policy._loading[device.index] = 0.0, 5.0  # type: ignore[attr-defined]
        device.end_load(5.0, loaded=True)
        policy.loaded(device, 0, 5.0, failed=False)
    for number in range(6):
        policy.add(Queued(number, 0, 5.0, 65.0), 5.0)
    for device in devices:
        taken = policy.next(device, 5.0)
        assert isinstance(taken, Batch)
        device.begin_batch(taken)
    assert [device.residents[0].num_running for device in devices] == [3, 3]


def test_one_line_says_what_batches_take_and_how_long_a_request_stays() -> None:
    step = LinearStepTime(0.01, 1e-4, 0.0, 0.001, 0.0, Evidence("made up", 0.0, 0.0))
    line = batch_time(step, 50, 11, 16)
    # A step of prompts, ten more: 11 * 10 ms, and 5 ms + 10 * 1 ms for each request.
    assert line.fixed_s == pytest.approx(0.11)
    assert line.per_request_s == pytest.approx(0.015)
    alone = batch_time(step, 50, 11, 1)
    assert (alone.fixed_s, alone.per_request_s) == (pytest.approx(0.125), 0.0)


@pytest.mark.parametrize("continuous", [False, True])
def test_whoever_is_neither_in_time_with_a_margin_nor_hopeless_is_told_all_the_same(
        continuous: bool) -> None:
    policy, device = multiplexing("penstock", MODELS, LOADS), Device(0, 10, MODELS,
                                                                   continuous=continuous)
    policy.add(Queued(0, 0, 0.0, 6.12), 0.0)  # 5 s and 1.1 s; with the margin 1.155 s
    waits = policy.next(device, 0.0)
    assert isinstance(waits, Wait)
    assert 0.0 < waits.until_s < 1.0
    assert isinstance(policy.next(device, waits.until_s), Shed)
