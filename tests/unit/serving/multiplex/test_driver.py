"""Real devices that models take turns on, in made-up time."""

import asyncio

import pytest

from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.values import BatchTime, HostedModel, Load, Prefetch, Shed, Wait
from penstock.serving.multiplex.tickets import RefusedError
from support.fake_clock import settle
from support.fake_pool_engines import FirstCome, Stage
from support.multiplexing_cases import multiplexing


def play(work, **stage):
    async def run():
        made = Stage(**stage)
        await work(made)
        assert made.policy.num_waiting == 0
        assert all(not one.num_running for device in made.devices
                   for one in device.residents.values())
        return made

    return asyncio.run(run())


def asked(*models, **stage):
    """The stage after requests for these models, all at once."""
    async def work(made):
        for model in models:
            made.begin(model)
        await made.until()

    return play(work, **stage)


def test_models_take_turns_where_two_of_three_fit() -> None:
    stage = asked(0, 1, 2, 0)
    assert sorted(model for model, _, _ in stage.answered) == [0, 0, 1, 2]
    assert stage.did("load") == ["m0", "m1", "m2"]
    assert stage.did("unload") == ["m0"]  # whoever was used longest ago made room
    assert set(stage.devices[0].residents) == {1, 2}
    assert all(url == f"http://m{model}" for model, _, url in stage.answered)
    assert stage.driver.counts.loads == {(0, index, "loaded"): 1 for index in range(3)}
    assert stage.driver.counts.load_s == {0: 5.0, 1: 5.0, 2: 5.0}


def test_requests_join_a_model_that_runs() -> None:
    async def work(stage):
        for _ in range(3):
            stage.begin(0, service_s=10.0)
        await stage.until(6.0)
        assert stage.devices[0].residents[0].num_running == 3
        stage.begin(0)
        await stage.until()

    stage = play(work)
    assert [at_s for _, at_s, _ in stage.answered] == [7.0, 15.0, 15.0, 15.0]


def test_a_static_batch_ends_as_a_whole() -> None:
    async def work(stage):
        stage.begin(0, service_s=10.0)
        stage.begin(0, service_s=1.0)
        await stage.until(7.0)
        stage.begin(0)
        await settle()
        assert stage.driver.num_waiting(0) == 1
        await stage.until()

    stage = play(work, continuous=False)
    assert [at_s for _, at_s, _ in stage.answered] == [6.0, 15.0, 16.0]


def test_who_leaves_the_line_is_not_served() -> None:
    async def work(stage):
        tasks = [stage.begin(0), stage.begin(1)]
        await stage.until(1.0)
        tasks[1].cancel()
        await stage.until()

    stage = play(work)
    assert [model for model, _, _ in stage.answered] == [0]
    assert stage.did("load") == ["m0"]  # nobody waits for the other any more


def test_who_leaves_while_served_makes_room() -> None:
    async def work(stage):
        task = stage.begin(0, service_s=100.0)
        stage.begin(0)
        await stage.until(10.0)
        task.cancel()
        await stage.until()

    stage = play(work, max_batch=1)
    assert [at_s for _, at_s, _ in stage.answered] == [11.0]


def test_who_leaves_in_the_moment_of_the_turn_gives_it_back() -> None:
    async def work(stage):
        first = asyncio.ensure_future(stage.driver.enter(0))
        second = stage.begin(0)
        await settle()
        stage.loop.now_s = 5.0
        stage.loop.fire()
        while not stage.devices[0].residents.get(0):
            await asyncio.sleep(0)
        first.cancel()  # its turn is there, but it has not seen it
        await stage.until()
        assert first.cancelled()
        await second

    assert len(play(work, max_batch=1).answered) == 1


def test_the_policy_s_reason_reaches_who_is_shed() -> None:
    class Sheds(FirstCome):
        def add(self, request, now_s):
            self.shed.append(Shed((request,), "no hope"))

    stage = asked(0, policy=Sheds(3))
    assert [(code, why) for _, _, code, why in stage.refused] == [("shed", "no hope")]
    assert stage.driver.counts.refused == {(0, "shed", "no hope"): 1}


def test_a_full_queue_is_said_at_once() -> None:
    stage = asked(0, 0, 0, 1, max_queue=2)
    assert len(stage.answered) == 3
    assert [(model, at_s, code) for model, at_s, code, _ in stage.refused] == [
        (0, 0.0, "queue_full")]


def test_nobody_waits_for_ever() -> None:
    """A policy that waits for a batch to fill need not know when to stop."""
    async def work(stage):
        stage.begin(0)
        await stage.until()

    stage = play(work, policy=FirstCome(3, least_batch=2), max_wait_s=30.0)
    assert [(at_s, code) for _, at_s, code, _ in stage.refused] == [(30.0, "waited_too_long")]


def test_a_policy_s_wake_is_kept() -> None:
    class Later(FirstCome):
        def next(self, device, now_s):
            return super().next(device, now_s) if now_s >= 3.0 else Wait(3.0)

    assert [at_s for _, at_s, _ in asked(0, policy=Later(3)).answered] == [9.0]


def test_what_is_read_ahead_is_told() -> None:
    class Ahead(FirstCome):
        read = ()

        def next(self, device, now_s):
            if not self.read and device.prefetching is None:
                return Prefetch(2)
            return super().next(device, now_s)

        def prefetched(self, device, model, now_s):
            self.read = (model,)

    stage = asked(0, policy=Ahead(3))
    assert stage.did("prefetch") == ["m2"]
    assert stage.policy.read == (2,)


# -- failures -------------------------------------------------------------------------------


def test_a_load_that_fails_is_tried_again() -> None:
    async def work(stage):
        stage.engines[0][0].fails = 1
        stage.begin(0)
        await stage.until()

    stage = play(work)
    assert [at_s for _, at_s, _ in stage.answered] == [11.5]
    assert stage.driver.counts.loads == {(0, 0, "failed"): 1, (0, 0, "loaded"): 1}
    assert any("m0 has no file" in note for note in stage.notes)


def test_a_model_that_cannot_be_loaded_is_set_apart_with_a_reason() -> None:
    async def work(stage):
        stage.engines[0][0].fails = 99
        stage.begin(0)
        stage.begin(1)
        await stage.until(20.0)
        stage.begin(0)  # while it is set apart
        await stage.until(80.0)
        stage.engines[0][0].fails = 0
        stage.begin(0)
        await stage.until()

    stage = play(work)
    assert [code for *_, code, _ in stage.refused] == ["set_apart", "set_apart"]
    assert all("m0 failed 3 times in a row, last: m0 has no file" in why
               for *_, why in stage.refused)
    assert sorted(model for model, _, _ in stage.answered) == [0, 1]
    assert stage.driver.counts.loads[0, 0, "failed"] == 3
    assert stage.driver.apart(0) is None


def test_a_load_that_hangs_has_an_end() -> None:
    async def work(stage):
        stage.engines[0][0].hangs = True
        stage.begin(0)
        stage.begin(1)
        await stage.until()

    stage = play(work, load_timeout_s=20.0)
    assert [(model, at_s) for model, at_s, _ in stage.answered] == [(1, 67.5)]
    assert [(model, at_s) for model, at_s, *_ in stage.refused] == [(0, 61.0)]
    assert "no load within 20 s" in stage.refused[0][3]
    assert stage.did("unload") == ["m0"] * 3  # what a load left behind


def test_who_cannot_be_evicted_stays() -> None:
    async def work(stage):
        await asked_one(stage, 0)
        stage.engines[0][0].unload_fails = True
        stage.begin(1)
        await stage.until(30.0)
        assert set(stage.devices[0].residents) == {0}  # memory is not what it would have been
        stage.engines[0][0].unload_fails = False
        await stage.until()

    stage = play(work, memory=10, attempts=99)
    assert {model for model, *_ in stage.answered} == {0, 1}


async def asked_one(stage, model):
    task = stage.begin(model)
    while not task.done():
        await stage.until(stage.loop.next_s)


def test_an_engine_that_dies_with_a_batch_is_begun_again_and_the_batch_served() -> None:
    async def work(stage):
        engine = stage.engines[0][0]
        for _ in range(3):
            stage.begin(0, service_s=4.0, ends=("failed",))
        await stage.until(7.0)
        engine.held = False  # all of its connections break soon
        await stage.until()

    stage = play(work)
    assert len(stage.answered) == 3
    assert stage.did("load") == ["m0", "m0"]
    assert stage.driver.counts.lost == {(0, 0): 1}
    assert any("its engine died" in note for note in stage.notes)


def test_an_engine_that_keeps_dying_is_set_apart() -> None:
    async def work(stage):
        engine = stage.engines[0][0]

        async def client():
            try:
                ticket = await stage.driver.enter(0)
                while True:
                    engine.held = False
                    ticket = await stage.driver.retry(ticket)
            except RefusedError as error:
                stage.refused.append((0, stage.loop.time(), error.code, str(error)))

        for _ in range(2):
            task = asyncio.ensure_future(client())
            await stage.until(stage.loop.now_s + 200.0)
            await task

    stage = play(work, attempts=3, tries=9)
    assert stage.driver.counts.lost[0, 0] >= 3
    codes = [code for *_, code, _ in stage.refused]
    assert len(codes) == 2
    assert set(codes) <= {"set_apart", "failed"}
    assert len(stage.did("load")) <= 6


def test_a_request_that_its_engine_keeps_failing_is_refused_and_nobody_else() -> None:
    async def work(stage):
        stage.begin(0, ends=("failed",) * 9)
        stage.begin(0)
        await stage.until()

    stage = play(work)
    assert len(stage.answered) == 1
    assert [(code, why) for *_, code, why in stage.refused] == [
        ("failed", "its engine failed it 2 times")]
    assert stage.did("load") == ["m0"]  # it is alive


def test_a_batch_that_fails_as_a_whole_is_the_policy_s_to_cut() -> None:
    models = [HostedModel(f"m{index}", 10, BatchTime(1.0, 0.1), 0, 4) for index in range(3)]
    policy = multiplexing("first-come", models, LoadTable([5.0] * 3))

    async def work(stage):
        for _ in range(4):
            stage.begin(0, ends=("failed",))
        await stage.until()

    stage = play(work, policy=policy, continuous=False)
    assert len(stage.answered) == 4
    assert [at_s for _, at_s, _ in stage.answered] == [7.0, 7.0, 8.0, 8.0]  # halves


def test_a_batch_whose_engine_died_is_not_taken_for_one_that_was_too_large() -> None:
    models = [HostedModel(f"m{index}", 10, BatchTime(1.0, 0.1), 0, 4) for index in range(3)]
    policy = multiplexing("first-come", models, LoadTable([5.0] * 3))

    async def work(stage):
        for _ in range(4):
            stage.begin(0, ends=("failed",))
        await stage.until(5.5)
        stage.engines[0][0].held = False  # while the batch runs, which fails at 6 s
        await stage.until()

    stage = play(work, policy=policy, continuous=False)
    assert stage.did("load") == ["m0", "m0"]
    assert [at_s for _, at_s, _ in stage.answered] == [12.0] * 4, "all four together again"


def test_an_engine_that_lets_go_of_its_model_is_noticed() -> None:
    async def work(stage):
        await asked_one(stage, 0)
        stage.engines[0][0].held = False
        await stage.driver.look()
        await settle()
        assert stage.devices[0].residents == {}
        await asked_one(stage, 0)

    stage = play(work)
    assert stage.did("load") == ["m0", "m0"]
    assert len(stage.answered) == 2


def test_nothing_is_loaded_while_a_lost_engine_is_being_ended() -> None:
    async def work(stage):
        stage.begin(0, service_s=1.5, ends=("failed",))
        await stage.until(6.0)
        engine = stage.engines[0][0]
        engine.held, engine.unload_s = False, 3.0
        looking = asyncio.ensure_future(stage.driver.look())  # its request fails at 6.5 s
        await stage.until()
        await looking

    stage = play(work)
    assert not stage.engines[0][0].clashes
    assert [at_s for kind, _, at_s in stage.log if kind == "load"] == [0.0, 9.0]


def test_an_engine_that_does_not_say_is_believed_for_now() -> None:
    async def work(stage):
        await asked_one(stage, 0)
        stage.engines[0][0].says = "nothing"
        await stage.driver.look()
        assert set(stage.devices[0].residents) == {0}

    play(work)


def test_a_device_on_which_nothing_works_is_left_alone() -> None:
    async def work(stage):
        for engine in stage.engines[0]:
            engine.fails = 99
        for model in (0, 1, 2):
            stage.begin(model)
        await stage.until(59.0)

    stage = play(work, num_devices=2, memory=30)
    assert sorted(model for model, *_ in stage.answered) == [0, 1, 2]
    assert any("device 0 is set apart" in note for note in stage.notes)


def test_what_engines_hold_at_the_start_is_kept_as_far_as_it_fits() -> None:
    async def work(stage):
        for engine in stage.engines[0]:
            engine.held = True
        await stage.driver.recover()
        assert set(stage.devices[0].residents) == {0, 1}
        await asked_one(stage, 1)

    stage = play(work)
    assert stage.did("unload") == ["m2"]
    assert stage.did("load") == []
    assert [at_s for _, at_s, _ in stage.answered] == [1.0]


def test_a_policy_that_asks_for_the_impossible_is_told_of_and_harms_nobody_for_good() -> None:
    class Wrong(FirstCome):
        def next(self, device, now_s):
            return Load(0, (2,)) if now_s < 2.0 else super().next(device, now_s)

    stage = asked(0, policy=Wrong(3))
    assert len(stage.answered) == 1
    assert "the policy decided something impossible: " in \
        stage.notes[0]


def test_closing_turns_away_who_waits_and_closes_the_engines() -> None:
    async def work(stage):
        stage.begin(0)
        await stage.until(1.0)
        await stage.driver.close()
        await settle()
        with pytest.raises(RefusedError, match="closing"):
            await stage.driver.enter(1)

    stage = play(work)
    assert [code for *_, code, _ in stage.refused] == ["closing"]
    assert stage.did("close") == ["m0", "m1", "m2"]


def test_nothing_is_kept_of_who_leaves_while_it_waits_anew() -> None:
    async def work(stage):
        task = stage.begin(0, ends=("failed",))
        await stage.until(5.5)
        stage.engines[0][0].held = False
        await stage.until(7.0)
        assert stage.devices[0].loading == 0, "it waits for another turn"
        task.cancel()
        await stage.until()
        assert not stage.driver._tries

    play(work)


def test_closing_lets_turns_end_and_gives_no_other() -> None:
    async def work(stage):
        stage.begin(0, service_s=4.0)
        stage.begin(0, service_s=4.0, ends=("failed",))
        await stage.until(6.0)
        stage.driver.reject_all()
        stage.begin(0)
        await stage.until()

    stage = play(work)
    assert [(model, at_s) for model, at_s, _ in stage.answered] == [(0, 9.0)]
    assert [(at_s, code) for _, at_s, code, _ in stage.refused] == [(6.0, "closing"),
                                                                    (9.0, "closing")]


def test_a_ticket_goes_back_once() -> None:
    async def work(stage):
        entering = asyncio.ensure_future(stage.driver.enter(0))
        await stage.until(5.0)
        ticket = await entering
        stage.driver.leave(ticket)
        with pytest.raises(ValueError, match="given back before"):
            stage.driver.leave(ticket)

    play(work)


def test_a_device_is_asked_at_the_arrivals_that_it_listens_for() -> None:
    class Choosy(FirstCome):
        asked = 0

        def next(self, device, now_s):
            self.asked += 1
            action = super().next(device, now_s)
            return Wait(arrivals=(1,)) if isinstance(action, Wait) else action

    async def work(stage):
        stage.begin(0, service_s=10.0)
        await stage.until(6.0)
        before = stage.policy.asked
        stage.begin(2)
        await stage.until(7.0)
        assert stage.policy.asked == before  # nobody asked what the device would not do
        stage.begin(1)
        await stage.until(8.0)
        assert stage.policy.asked > before
        await stage.until()

    assert sorted(model for model, _, _ in play(work, policy=Choosy(3)).answered) == [0, 1, 2]
