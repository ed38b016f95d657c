"""Laws of the gateway in simulated schedules of faults, each drawn from its seed."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from support.broken_gateways import BROKEN, broken
from support.long_params import with_long
from support.scaled_examples import EXAMPLES
from support.simulated_schedule import World

NUM_SCHEDULES = round(500 * EXAMPLES)
_MOST_UNTIL_FOUND = 150


@pytest.mark.parametrize("first", range(0, NUM_SCHEDULES, 25))
def test_the_laws_hold_in_every_schedule(first) -> None:
    violated = {seed: lines for seed in range(first, first + 25) if (lines := World(seed).run())}
    assert not violated, "benchmarks/gateway_simulation.py 1 SEED replays a schedule"


def test_a_seed_is_one_schedule() -> None:
    def trace(seed):
        world = World(seed)
        world.run()
        return world.trace

    assert [trace(seed) for seed in range(5)] == [trace(seed) for seed in range(5)]


LONG = ("forgets repeated requests", "takes a batch for written")
"""Faults that show only after many schedules."""


@pytest.mark.parametrize("name", with_long(BROKEN, LONG))
def test_the_laws_find_a_broken_gateway(name) -> None:
    law = BROKEN[name].law
    with broken(name):
        for seed in range(_MOST_UNTIL_FOUND):
            if any(line.startswith(f"{law}:") for line in World(seed + BROKEN[name].first).run()):
                return
    pytest.fail(f"no schedule shows that a gateway {name}")
