"""Penstock's scaler on observations written by hand."""

from dataclasses import replace

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.penstock import (
    MOST_MEASURED,
    PERIOD_S,
    PenstockScaler,
    PenstockSettings,
    penstock,
)
from penstock.policy.scale.protocol import GroupFacts, ReplicaRate, ScalerContext
from penstock.policy.scale.values import (
    Observation,
    ScalingDecision,
    SeenDemand,
    SeenGroup,
    SeenReplica,
)

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=3.0, percentile=99.0))}
LENGTHS = ((100, 10),)


def built(first: int = 4, floor: int = 1, ceiling: int = 100, rate: float = 2.0,
          **settings: float) -> PenstockScaler:
    """A scaler of one group whose replicas sustain ``rate`` requests/s."""
    context = ScalerContext((GroupFacts("m", floor, ceiling, first, 1.0, 60.0, 1000),), CLASSES,
                            (lambda _: ReplicaRate(rate, 1.25 * rate),))
    return penstock({"margin": 1.0, "stay_s": 60.0, **settings}, context)


class Fleet:
    """Feeds a scaler with arrivals at given rates, and follows its targets at once. More arrivals
    than the replicas serve in time miss, all of them."""

    def __init__(self, scaler: PenstockScaler, first: int = 4, rate: float = 2.0) -> None:
        self.scaler = scaler
        self.rate = rate
        self.now_s = 0.0
        self.target = first
        self.arrived = 0.0
        self.missed = 0.0

    def run(self, rate: float, for_s: float, miss_share: float = 0.0,
            *, metrics: bool = True, num_held: int = 0) -> ScalingDecision:
        decision = None
        until_s = self.now_s + for_s
        while self.now_s < until_s:
            self.now_s += PERIOD_S
            self.arrived += rate * PERIOD_S
            overloaded = rate > self.target * self.rate
            self.missed += rate * PERIOD_S * (1.0 if overloaded else miss_share)
            done = round(self.arrived)
            demand = (SeenDemand("m", "chat", done + num_held, 0, done, 0, num_held,
                                 done - round(self.missed), 0, LENGTHS),)
            ready = tuple(SeenReplica(i, "ready", 0.0) for i in range(self.target))
            decision = self.scaler.decide(Observation(
                self.now_s, (SeenGroup(self.target, ready),), demand if metrics else None),
                self.now_s)
            self.target, = decision.targets
        assert decision is not None
        return decision


def test_as_many_replicas_as_the_rate_needs() -> None:
    fleet = Fleet(built())
    fleet.run(9.0, 600.0)
    assert fleet.target == 6  # ceil(1.2 * 9 / 2): nothing is known of errors yet
    fleet.run(9.0, 12 * 3600.0)
    assert fleet.target == 5  # ceil(9 / 2)


def test_each_role_is_sized_by_the_same_demand() -> None:
    facts = GroupFacts("m", 1, 100, 2, 1.0, 60.0, 1000)
    context = ScalerContext(
        (replace(facts, role="prefill"), replace(facts, role="decode")), CLASSES,
        tuple(lambda _, rate=rate: ReplicaRate(rate, 1.25 * rate) for rate in (3.0, 1.0)))
    scaler, targets, decision = penstock({"margin": 1.0, "stay_s": 60.0}, context), (2, 2), None
    for step in range(1, 61):
        done = 90 * step
        demand = SeenDemand("m", "chat", done, 0, done, 0, 0, done, 0, LENGTHS)
        groups = tuple(SeenGroup(target, tuple(
            SeenReplica(number, "ready", 0.0) for number in range(target))) for target in targets)
        decision = scaler.decide(Observation(PERIOD_S * step, groups, (demand,)), PERIOD_S * step)
        targets = decision.targets
    assert targets == (4, 11)  # ceil(1.2 * 9 / 3), ceil(1.2 * 9 / 1)


def test_requests_that_fill_spare_capacity_need_no_replicas() -> None:
    scaler, target = built(6, rate=1.0), 6
    for step in range(180):
        demand = SeenDemand("m", "chat", 60 * step, 0, 60 * step, 0, 0, 60 * step, 0, LENGTHS,
                            num_deferred=20 * step)
        ready = tuple(SeenReplica(number, "ready", 0.0) for number in range(target))
        target, = scaler.decide(Observation(
            step * PERIOD_S, (SeenGroup(target, ready),), (demand,)),
            step * PERIOD_S).targets
    assert target == 5  # the other 4 requests/s, with some to spare


def test_the_cheapest_replicas_are_those_of_the_least_weight() -> None:
    def ordered(first: float | None, second: float | None) -> tuple[int, ...]:
        groups = tuple(GroupFacts("m", 0, 100, 0, cost, 60.0, 1000, objective_per_hour=weight)
                       for cost, weight in ((1.0, first), (3.0, second)))
        scaler = penstock({"margin": 1.0}, ScalerContext(
            groups, CLASSES, (lambda _: ReplicaRate(2.0, 2.5),) * 2))
        for step in range(60):
            demand = SeenDemand("m", "chat", 85 * step, 0, 85 * step, 0, 0, 85 * step, 0, LENGTHS)
            found = scaler.decide(Observation(
                step * PERIOD_S, (SeenGroup(0, ()), SeenGroup(0, ())), (demand,)), step * PERIOD_S)
        return found.targets

    assert ordered(None, None) == (5, 0)
    assert ordered(700.0, 400.0) == (0, 5)


def test_a_burst_is_seen_within_seconds() -> None:
    fleet = Fleet(built())
    fleet.run(8.0, 1800.0)
    fleet.run(40.0, PERIOD_S)
    assert 17 <= fleet.target <= 20


def test_a_change_predicts_its_attainment_and_that_of_the_next_best() -> None:
    fleet = Fleet(built())
    fleet.run(8.0, 1800.0)
    decision = fleet.run(16.0, PERIOD_S)
    while fleet.target < 8:
        decision = fleet.run(16.0, PERIOD_S)
    other = decision.next_best
    assert other is not None
    assert other.targets == (decision.targets[0] - 1,)
    assert other.attainment is not None
    assert decision.attainment is not None
    assert 0.5 < other.attainment < decision.attainment <= 1.0


def test_no_change_and_no_rate_predict_nothing() -> None:
    fleet = Fleet(built())
    steady = fleet.run(8.0, 1800.0)
    assert (steady.attainment, steady.next_best) == (None, None)
    fresh = PenstockScaler(ScalerContext(
        (GroupFacts("m", 0, 4, 0, 1.0, 60.0, 1000),), CLASSES), PenstockSettings())
    held = SeenDemand("m", "chat", 1, 100, 0, 0, num_held=1)
    first = fresh.decide(Observation(0.0, (SeenGroup(0, ()),), (held,)), 0.0)
    assert first == ScalingDecision((1,), "no answers yet")


def test_fewer_only_after_fewer_have_sufficed_for_the_stay() -> None:
    fleet = Fleet(built(stay_s=300.0))
    fleet.run(20.0, 1800.0)
    before = fleet.target
    assert before >= 10
    fleet.run(3.8, 290.0)
    assert fleet.target == before
    fleet.run(3.8, 2 * 3600.0)
    assert fleet.target <= 3


def test_to_zero_and_back() -> None:
    fleet = Fleet(built(floor=0))
    fleet.run(1.0, 600.0)
    assert fleet.target == 1
    fleet.run(0.0, 1200.0)
    assert fleet.target == 0
    fleet.run(0.0, PERIOD_S, num_held=1)
    assert fleet.target == 1


def test_missing_metrics_change_nothing() -> None:
    fleet = Fleet(built())
    fleet.run(20.0, 1200.0)
    before = fleet.target
    decision = fleet.run(0.0, 3600.0, metrics=False)
    assert fleet.target == before
    assert "missing" in decision.reason


def test_a_restarted_scaler_does_not_shrink_on_empty_history() -> None:
    fleet = Fleet(built(first=12, stay_s=300.0), 12)
    fleet.run(0.5, 290.0)
    assert fleet.target == 12


def test_misses_under_load_raise_the_margin_and_their_absence_lowers_it() -> None:
    fleet = Fleet(built(adapt_s=600.0))
    fleet.run(8.0, 1200.0, miss_share=0.3)
    raised = fleet.target
    assert raised > 4
    fleet.run(8.0, 30 * 3600.0)  # what failed is remembered for a day
    assert fleet.target < raised


def test_misses_that_load_does_not_cause_do_not_raise_the_margin() -> None:
    fleet = Fleet(built(floor=20, first=20, adapt_s=600.0), 20)
    fleet.run(8.0, 6 * 3600.0, miss_share=0.5)
    assert fleet.target == 20


def test_bounds_hold() -> None:
    fleet = Fleet(built(ceiling=6))
    fleet.run(100.0, 600.0)
    assert fleet.target == 6


@pytest.mark.parametrize(("costs", "counts"), [((1.0, 3.0), (5, 0)), ((2.0, 3.0), (1, 2))])
def test_the_cheapest_kinds_are_taken(costs: tuple[float, float],
                                      counts: tuple[int, int]) -> None:
    facts = [GroupFacts("m", 0, 50, 1, cost, 60.0, 1000) for cost in costs]
    context = ScalerContext(tuple(facts), CLASSES, (
        lambda _: ReplicaRate(2.0, 3.0), lambda _: ReplicaRate(4.0, 5.0)))
    scaler = penstock({"margin": 1.0, "stay_s": 60.0}, context)
    targets = (1, 1)
    num_missed = 0
    for step in range(1, 500):
        num_missed += 85 if 2.0 * targets[0] + 4.0 * targets[1] < 8.5 else 0
        demand = (SeenDemand("m", "chat", 85 * step, 0, 85 * step, 0, 0, 85 * step - num_missed,
                             0, LENGTHS),)
        seen = Observation(10.0 * step, tuple(SeenGroup(target, tuple(
            SeenReplica(i, "ready", 0.0) for i in range(target))) for target in targets), demand)
        targets = scaler.decide(seen, 10.0 * step).targets
    assert targets == counts


def test_no_decision_starts_some_kinds_and_gives_up_others() -> None:
    """Longer prompts make the first kind the cheaper one, shorter ones the second."""
    facts = [GroupFacts("m", 0, 50, 2, cost, 60.0, 1000) for cost in (1.0, 2.0)]
    context = ScalerContext(tuple(facts), CLASSES, (
        lambda loads: ReplicaRate(2.0 if loads["chat"].lengths[0][0] > 100 else 1.9, 2.5),
        lambda _: ReplicaRate(3.9, 4.9)))
    scaler = penstock({"margin": 1.0, "stay_s": 60.0}, context)
    targets, arrived, steps = (2, 2), 0, []
    for number in range(1, 720):
        now_s = 10.0 * number
        arrived += 80 if number // 60 % 2 else 160
        lengths = ((120 if number // 25 % 2 else 100, 10),)
        demand = (SeenDemand("m", "chat", arrived, 0, arrived, 0, 0, arrived, 0, lengths),)
        before = targets
        targets = scaler.decide(Observation(now_s, tuple(SeenGroup(target, tuple(
            SeenReplica(i, "ready", 0.0) for i in range(target))) for target in before), demand),
            now_s).targets
        steps.append([after - count for after, count in zip(targets, before, strict=True)])
    assert any(max(one) > 0 for one in steps)
    assert any(min(one) < 0 for one in steps)
    assert not any(max(one) > 0 > min(one) for one in steps)


def test_rates_of_many_groups_are_computed_in_turn() -> None:
    computed: list[int] = []

    def capacity(_loads: object) -> ReplicaRate:
        computed.append(1)
        return ReplicaRate(2.0, 2.5)

    names = [f"m{i}" for i in range(25)]
    context = ScalerContext(tuple(GroupFacts(name, 1, 9, 1, 1.0, 60.0, 1000) for name in names),
                            CLASSES, (capacity,) * len(names))
    scaler = penstock({}, context)
    groups = tuple(SeenGroup(1, (SeenReplica(0, "ready", 0.0),)) for _ in names)
    numbers = []
    for step in range(1, 13):
        demand = tuple(SeenDemand(name, "chat", 10 * step, 0, 10 * step, 0, num_met=10 * step,
                                  recent=((100, step),)) for name in names)
        scaler.decide(Observation(10.0 * step, groups, demand), 10.0 * step)
        numbers.append(len(computed))
        computed.clear()
    assert max(numbers) == MOST_MEASURED
    assert sum(numbers[:6]) == len(names)  # the first decision knows no rate of arrivals
    assert sum(numbers[6:]) >= len(names)
