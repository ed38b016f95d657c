"""The verbs of deployments: what they change, what they refuse, and what a restart finds."""

import asyncio
from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.policy.place.intent import Criteria
from penstock.serving.deployments.deployments import DeployIntent, RefusedError, State
from penstock.serving.deployments.store import open_store
from support.simulated_deployments import World, free_gib, in_loop, running


async def soon(condition):
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


def code_of(told):
    return told.value.code


@in_loop
async def test_a_life(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = control.register("a", "llama-2-7b", "sim", {"load_s": 0})
        assert one.state == State.REGISTERED
        await control.profile("a", {})
        assert (await control.settled("a")).profile == "/profiles/a"
        one, decision = await control.deploy("a", DeployIntent())
        assert one.state == State.DEPLOYING
        assert decision.document == {"name": "a"}
        assert (await control.settled("a")).state == State.RUNNING
        assert free_gib(control) == [28, 48, 48, 48]
        reply = await control.infer("a", {"prompt": "x", "max_tokens": 50})
        assert (reply.output_tokens, reply.service_s, reply.simulated) == (50, 0.5, True)
        await control.remove("a")
        assert (await control.settled("a")).state == State.REMOVED
        assert free_gib(control) == [48] * 4
        assert not world.engines.living
        assert [event.state for event in control.events("a")] == [
            "registered", "profiling", "profiled", "deploying", "running", "removing", "removed"]
        control.register("a", "llama-2-13b", "sim", {})
        assert control.show("a").model == "llama-2-13b"


@pytest.mark.parametrize(("arguments", "message"), [
    (("-a", "llama-2-7b", "sim", {}), "name: '-a'; expected at most 64 letters"),
    (("a/b", "llama-2-7b", "sim", {}), "name: 'a/b'"),
    (("", "llama-2-7b", "sim", {}), "name: ''"),
    (("a", "llama-2-7bb", "sim", {}), "model: 'llama-2-7bb' is not in the fleet; did you mean "
                                      "'llama-2-7b'?"),
    (("a", "llama-2-7b", "vlm", {}), "engine: 'vlm' is unknown; did you mean 'vllm'?"),
    (("a", "llama-2-7b", "vllm", {}), "options: vllm needs model"),
    (("a", "llama-2-7b", "emulate", {"sped": 2}), "has no option 'sped'; did you mean 'speed'?"),
    (("a", "llama-2-7b", "emulate", {"speed": "x"}), "speed: found 'x'; expected a number"),
    (("a", "llama-2-7b", "vllm", {"model": "--help"}), "model: found '--help'; expected a text"),
    (("a", "llama-2-7b", "vllm", {"model": "m", "eager": 1}), "eager: found '1'; expected true"),
    (("a", "llama-2-7b", "llamacpp", {"model": "no.gguf"}), "no such file"),
])
def test_what_cannot_be_registered(tmp_path, arguments, message):
    async def one():
        async with World(tmp_path).open() as control:
            with pytest.raises(InputError) as told:
                control.register(*arguments)
            assert message in str(told.value)
            assert control.deployments() == []

    asyncio.run(one())


@in_loop
async def test_an_unknown_name_is_told_the_nearest(tmp_path):
    async with World(tmp_path).open() as control:
        control.register("llama-main", "llama-2-7b", "sim", {})
        for verb in (control.profile("llama-man", {}), control.deploy("llama-man", DeployIntent()),
                     control.infer("llama-man", {}), control.remove("llama-man"),
                     control.restart("llama-man")):
            with pytest.raises(InputError, match="did you mean 'llama-main'"):
                await verb


@in_loop
async def test_what_a_state_does_not_allow(tmp_path):
    async with World(tmp_path).open() as control:
        control.register("a", "llama-2-7b", "sim", {})
        with pytest.raises(RefusedError, match="a is registered already"):
            control.register("a", "llama-2-7b", "sim", {})
        for verb in (control.infer("a", {}), control.restart("a")):
            with pytest.raises(RefusedError, match="a is registered") as told:
                await verb
            assert code_of(told) == "state"
            assert told.value.details == {"name": "a", "state": "registered"}
        await running(control, "b")
        for verb in (control.deploy("b", DeployIntent()), control.profile("b", {})):
            with pytest.raises(RefusedError, match="b is running: it cannot become"):
                await verb
        await control.remove("b")
        await control.settled("b")
        with pytest.raises(RefusedError, match="b is removed"):
            await control.remove("b")


@in_loop
async def test_a_dry_run_changes_nothing(tmp_path):
    async with World(tmp_path).open() as control:
        one = control.register("a", "llama-2-7b", "sim", {})
        assert (await control.deploy("a", DeployIntent(), dry_run=True))[0] is one
        assert control.show("a") is one
        assert free_gib(control) == [48] * 4


@in_loop
async def test_a_decision_knows_who_is_there(tmp_path):
    """With what was told of them, and what their answers are seen to take."""
    world = World(tmp_path)
    async with world.open() as control:
        for name, rate in (("asked", 0.5), ("silent", 0.0), ("gone", 1.0), ("late", 1.0)):
            control.register(name, "llama-2-7b", "sim", {"load_s": 0})
            if name != "late":
                await control.deploy(name,
                                     DeployIntent(Criteria(own_rate_per_s=rate), output_tokens=50))
                await control.settled(name)
        await control.remove("gone")
        await control.settled("gone")
        await control.infer("asked", {"prompt": "x", "max_tokens": 50})
        await control.deploy("late", DeployIntent(), dry_run=True)
        asked, silent = world.neighbours
        assert asked.device_ids == frozenset(control.show("asked").devices)
        assert asked.traffic.rate_per_s == 0.5
        assert asked.traffic.service_s == control.seen("asked").latency_s
        assert (silent.name, silent.traffic) == ("silent", None)


@in_loop
async def test_no_room_is_a_refusal_that_leaves_nothing(tmp_path):
    world = World(tmp_path)
    world.num_gib["big"] = (30, 4)
    async with world.open() as control:
        one = control.register("big", "llama-2-7b", "sim", {})
        with pytest.raises(RefusedError) as told:
            await control.deploy("big", DeployIntent())
        assert code_of(told) == "no_room"
        assert control.show("big") is one
        assert free_gib(control) == [48] * 4


@in_loop
async def test_a_start_that_fails_gives_its_memory_back(tmp_path):
    world = World(tmp_path)
    world.broken.add("a")
    async with world.open() as control:
        one = await running(control)
        assert (one.state, one.reason) == (State.FAILED, "it would not start")
        assert free_gib(control) == [48] * 4
        assert not world.engines.living
        world.broken.clear()
        await control.deploy("a", DeployIntent())
        assert (await control.settled("a")).state == State.RUNNING


@in_loop
async def test_a_profile_that_fails_says_why(tmp_path):
    world = World(tmp_path)
    world.broken.add("a")
    async with world.open() as control:
        control.register("a", "llama-2-7b", "sim", {})
        await control.profile("a", {})
        one = await control.settled("a")
        assert (one.state, one.reason) == (State.FAILED, "profiling: nothing could be measured")


@in_loop
async def test_two_deploys_at_once_never_get_the_same_memory(tmp_path):
    world = World(tmp_path)
    names = [f"d{number}" for number in range(6)]
    world.num_gib = dict.fromkeys(names, (20, 1))  # two layers: 40 GiB, one per accelerator
    async with world.open() as control:
        for name in names:
            control.register(name, "llama-2-7b", "sim", {})
        world.deciding.clear()
        deploys = [asyncio.create_task(control.deploy(name, DeployIntent())) for name in names]
        await asyncio.sleep(0)
        world.deciding.set()  # all have chosen the same accelerator by now
        found = await asyncio.gather(*deploys, return_exceptions=True)
        refused = [one for one in found if isinstance(one, RefusedError)]
        assert {one.code for one in refused} == {"no_room"}
        for name in names:
            await control.settled(name)
        taken = [one.devices for one in control.deployments() if one.placement]
        assert len(taken) == len(set(taken)) == len(names) - len(refused)
        assert len(taken) == 4  # as many as there is room for
        control.check_integrity()


@in_loop
async def test_one_thing_at_a_time_with_one_deployment(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        control.register("a", "llama-2-7b", "sim", {})
        world.deciding.clear()
        first = asyncio.create_task(control.deploy("a", DeployIntent()))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as told:
            await control.deploy("a", DeployIntent())
        assert code_of(told) == "busy"
        world.deciding.set()
        await first
        world.gate.clear()
        with pytest.raises(RefusedError):
            await control.profile("a", {})
        world.gate.set()


@in_loop
async def test_whoever_stops_waiting_for_a_decision_leaves_nothing(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        control.register("a", "llama-2-7b", "sim", {})
        world.deciding.clear()
        task = asyncio.create_task(control.deploy("a", DeployIntent()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        world.deciding.set()
        assert control.show("a").state == State.REGISTERED
        assert (await control.deploy("a", DeployIntent()))[0].state == State.DEPLOYING


@in_loop
async def test_a_removal_waits_for_what_is_under_way(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        await running(control)
        world.answers.clear()
        asked = [asyncio.create_task(control.infer("a", {"prompt": "x"})) for _ in range(3)]
        await soon(lambda: control.load("a") == (2, 1))
        await control.remove("a")
        with pytest.raises(RefusedError, match="a is removing; it takes requests when it is runn"):
            await control.infer("a", {})
        assert control.show("a").state == State.REMOVING
        assert free_gib(control) == [28, 48, 48, 48]
        world.answers.set()
        assert len(await asyncio.gather(*asked)) == 3
        assert (await control.settled("a")).state == State.REMOVED


@in_loop
async def test_a_removal_may_call_off_what_is_under_way(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        await running(control)
        world.answers.clear()
        asked = [asyncio.create_task(control.infer("a", {"prompt": "x"})) for _ in range(3)]
        await soon(lambda: control.load("a") == (2, 1))
        await control.remove("a")
        await control.remove("a", cancel=True)  # minds may change
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [one.code for one in found] == ["cancelled"] * 3
        assert (await control.settled("a")).state == State.REMOVED
        assert control.load("a") == (0, 0)


@pytest.mark.parametrize("cancel", [True, False])
def test_a_removal_of_what_is_being_deployed(tmp_path, cancel):
    async def one():
        world = World(tmp_path)
        world.gate.clear()
        async with world.open() as control:
            control.register("a", "llama-2-7b", "sim", {})
            await control.deploy("a", DeployIntent())
            await soon(lambda: world.engines.living)
            task = asyncio.create_task(control.remove("a", cancel=cancel))
            await asyncio.sleep(0)
            if not cancel:
                assert control.show("a").state == State.DEPLOYING
                world.gate.set()
            await task
            assert (await control.settled("a")).state == State.REMOVED
            states = [event.state for event in control.events("a")]
            assert states[2] == ("failed" if cancel else "running")
            assert free_gib(control) == [48] * 4
            assert not world.engines.living

    asyncio.run(one())


@in_loop
async def test_a_deploy_called_off_before_it_began(tmp_path):
    async with World(tmp_path).open() as control:
        control.register("a", "llama-2-7b", "sim", {})
        await control.deploy("a", DeployIntent())
        await control.remove("a", cancel=True)  # the task had no chance to run yet
        assert (await control.settled("a")).state == State.REMOVED
        assert free_gib(control) == [48] * 4


@in_loop
async def test_a_client_that_hangs_up_gives_its_turn_away(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        await running(control)
        world.answers.clear()
        first, second = (asyncio.create_task(control.infer("a", {})) for _ in range(2))
        await soon(lambda: control.load("a") == (1, 1))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await soon(lambda: control.load("a") == (0, 1))
        world.answers.set()
        assert (await second).output_tokens == 100


@in_loop
async def test_the_head_of_the_queue(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        await running(control)
        world.answers.clear()
        order = []

        async def ask(number, *, head=False):
            await control.infer("a", {}, head=head)
            order.append(number)

        tasks = [asyncio.create_task(ask(number, head=number == 2)) for number in range(3)]
        await soon(lambda: control.load("a") == (2, 1))
        world.answers.set()
        await asyncio.gather(*tasks)
        assert order == [0, 2, 1]


# -- supervision --------------------------------------------------------------


@in_loop
async def test_an_engine_that_died_is_started_again_later_each_time(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = await running(control)
        world.engines.kill(one.instance)
        await control.reconcile()
        one = control.show("a")
        assert (one.state, one.reason) == (State.UNHEALTHY, "its engine is gone")
        assert one.retry_s == world.now_s + 1.0
        with pytest.raises(RefusedError, match="a is unhealthy: its engine is gone") as told:
            await control.infer("a", {})
        assert code_of(told) == "engine"
        await control.reconcile()
        assert not world.engines.living  # too early
        world.now_s += 1.0
        await control.reconcile()
        assert (await control.settled("a")).state == State.RUNNING
        assert control.show("a").num_failures == 1
        world.now_s += 100.0
        await control.reconcile()
        assert control.show("a").num_failures == 0


@in_loop
async def test_an_engine_that_keeps_dying_is_given_up(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = await running(control)
        world.engines.kill(one.instance)
        world.broken.add("a")
        for _ in range(3):
            await control.reconcile()
            await control.settled("a")
            world.now_s += 10.0
        one = control.show("a")
        assert (one.state, one.reason) == (State.FAILED,
                                           "given up after 2 starts: it would not start")
        assert free_gib(control) == [48] * 4
        assert not world.engines.living


@in_loop
async def test_an_engine_that_does_not_answer_now_and_then_is_borne_with(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        await running(control)
        well = [False, True, False, False]

        async def is_healthy(one):
            return well.pop(0)

        control._dependencies.engines["sim"].is_healthy = is_healthy
        for _ in range(3):
            await control.reconcile()
            assert control.show("a").state == State.RUNNING
        await control.reconcile()
        assert control.show("a").reason == "its engine does not answer"


@in_loop
async def test_a_restart_by_hand_and_a_removal_of_the_unhealthy(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        world.engines.kill((await running(control)).instance)
        await control.reconcile()
        await control.restart("a")
        assert (await control.settled("a")).state == State.RUNNING
        world.engines.kill(control.show("a").instance)
        await control.reconcile()
        world.gate.clear()
        await control.restart("a")
        await soon(lambda: world.engines.living)
        await control.remove("a")
        assert (await control.settled("a")).state == State.REMOVED
        assert not world.engines.living


# -- restarts --------------------------------------------------------------


@in_loop
async def test_what_runs_outlives_the_controller(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        before = await running(control)
    assert world.engines.living
    async with world.open() as control:
        assert control.show("a") == before
        assert free_gib(control) == [28, 48, 48, 48]
        assert (await control.infer("a", {})).output_tokens == 100
        world.num_gib["b"] = (24, 4)
        control.register("b", "llama-2-7b", "sim", {})
        with pytest.raises(RefusedError):
            await control.deploy("b", DeployIntent())


@in_loop
async def test_what_died_meanwhile_is_unhealthy(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = await running(control)
    world.engines.kill(one.instance)
    async with world.open() as control:
        assert control.show("a").state == State.UNHEALTHY
        assert free_gib(control) == [28, 48, 48, 48]
        await control.reconcile()
        assert (await control.settled("a")).state == State.RUNNING


@pytest.mark.parametrize(("verb", "state"), [("deploy", State.FAILED), ("profile", State.FAILED)])
def test_what_was_under_way_at_the_end_is_undone(tmp_path, verb, state):
    async def one():
        world = World(tmp_path)
        world.gate.clear()
        async with world.open() as control:
            control.register("a", "llama-2-7b", "sim", {})
            await getattr(control, verb)("a", DeployIntent() if verb == "deploy" else {})
            await asyncio.sleep(0)
        async with world.open() as control:
            assert control.show("a").state == state
            assert free_gib(control) == [48] * 4
            assert not world.engines.living

    asyncio.run(one())


@in_loop
async def test_what_a_killed_controller_had_started_is_stopped(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = await running(control)
    for state in (State.DEPLOYING, State.REMOVING):
        store = open_store(world.cluster.state_file)
        store.write([replace(one, state=state)])
        store.close()
        world.engines.living.add(one.instance.url)
        async with world.open() as control:
            assert control.show("a").state == (
                State.FAILED if state == State.DEPLOYING else State.REMOVED)
            assert not world.engines.living
            assert free_gib(control) == [48] * 4


@in_loop
async def test_what_cannot_be_written_has_not_happened(tmp_path):
    world = World(tmp_path)
    async with world.open() as control:
        one = control.register("a", "llama-2-7b", "sim", {})
        write = control._records.store.write

        def full(changed):
            raise OSError("no space left")

        control._records.store.write = full
        for verb in (control.deploy("a", DeployIntent()), control.profile("a", {}),
                     control.remove("a")):
            with pytest.raises(OSError, match="no space left"):
                await verb
        control._records.store.write = write
        assert control.show("a") is one
        assert free_gib(control) == [48] * 4
        control.check_integrity()
        await control.deploy("a", DeployIntent())
        assert (await control.settled("a")).state == State.RUNNING
