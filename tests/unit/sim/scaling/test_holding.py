"""Requests that wait for a simulated replica."""

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.units import PS_PER_S
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.hopeless import HOPELESS
from penstock.sim.kernel import NEVER_PS
from penstock.sim.scaling.holding import HELD_TOO_LONG, Holding


def request(number: int, arrival_s: float = 0.0, prompt_tokens: int = 5) -> Request:
    return Request(number, arrival_s, prompt_tokens, 9, ServiceClass("chat"), "m")


class World:
    """A holding with a patience of 10 s. A request is within reach for as many seconds as its
    prompt has tokens."""

    def __init__(self, *, hopeless: bool = False) -> None:
        self.refused: list[tuple[int, str]] = []
        self.holding = Holding(
            10 * PS_PER_S, DemandMeter(), lambda one, reason: self.refused.append(
                (one.request_id, reason)), lambda _: 7,
            (lambda _model, _class, tokens: float(tokens)) if hopeless else None)

    @property
    def num_held(self) -> int:
        return sum(one.num_held for one in self.holding.demand.seen())


def test_requests_are_given_up_in_order_of_their_waits() -> None:
    world = World()
    for number in range(3):
        assert world.holding.hold(request(number), number * PS_PER_S) == 7
    assert world.holding.due_ps == NEVER_PS
    assert [one.request_id for one in world.holding.give_up(11 * PS_PER_S)] == [0, 1]
    assert world.refused == [(0, HELD_TOO_LONG), (1, HELD_TOO_LONG)]
    assert world.num_held == 1


def test_a_released_request_that_returns_goes_on_to_wait() -> None:
    world = World()
    world.holding.hold(request(0), 0)
    found, = world.holding.release()
    assert world.num_held == 0
    world.holding.hold(found, 4 * PS_PER_S)
    assert world.holding.give_up(10 * PS_PER_S) == [found]


def test_a_hopeless_request_ends_at_its_moment_whatever_came_before() -> None:
    world = World(hopeless=True)
    world.holding.hold(request(0, 0.0, 8), 0)
    world.holding.hold(request(1, 1.0, 2), PS_PER_S)
    world.holding.hold(request(2, 2.0, 99), 2 * PS_PER_S)
    assert world.holding.due_ps == 3 * PS_PER_S
    assert world.holding.give_up(3 * PS_PER_S - 1) == []
    world.holding.give_up(3 * PS_PER_S)
    assert world.holding.due_ps == 8 * PS_PER_S
    world.holding.give_up(12 * PS_PER_S)
    assert world.refused == [(1, HOPELESS), (0, HOPELESS), (2, HELD_TOO_LONG)]
    assert world.num_held == 0
