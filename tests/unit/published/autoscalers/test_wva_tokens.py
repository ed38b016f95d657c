"""The Workload Variant Autoscaler on worked examples: saturation in tokens."""

import pytest

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)
from penstock.published.autoscalers.laws import LawScaler
from penstock.published.autoscalers.lengths import Lengths
from penstock.published.autoscalers.wva import Peak, Variant
from penstock.published.autoscalers.wva_tokens import (
    Sized,
    derived_tokens,
    fewer_replicas,
    held_demand,
    more_replicas,
    wva_tokens,
)


def facts(cost: float = 2.0, floor: int = 0, ceiling: int = 100, **more: int) -> GroupFacts:
    return GroupFacts("m", floor, ceiling, 1, cost, 60.0, 1000, **more)


def built(*groups: GroupFacts, **settings: object) -> LawScaler:
    return wva_tokens({"window_s": 0.0, **settings},
                      ScalerContext(groups or (facts(floor=1),), {}))


def group(loads: list[tuple[float, int]], starting: int = 0,
          totals: Totals | None = None) -> SeenGroup:
    ready = [SeenReplica(number, "ready", 0.0, Gauges(1, waiting, share), 0.0)
             for number, (share, waiting) in enumerate(loads)]
    new = [SeenReplica(len(loads) + number, "starting", 0.0) for number in range(starting)]
    return SeenGroup(len(loads) + starting, (*ready, *new), totals)


def demand(arrived: int = 0, prompt: int = 0, finished: int = 0, output: int = 0, held: int = 0,
           tokens: int = 0) -> SeenDemand:
    return SeenDemand("m", "chat", arrived, prompt, finished, output, held, held_tokens=tokens)


def decided(scaler: LawScaler, *groups: SeenGroup, now_s: float = 0.0,
            asked: SeenDemand | None = None) -> tuple[tuple[int, ...], dict[str, float]]:
    found = scaler.decide(Observation(now_s, groups, (asked or demand(),)), now_s)
    return found.targets, dict(found.terms)


def test_a_replica_holds_80_percent_of_its_cache_where_nothing_else_is_known() -> None:
    targets, terms = decided(built(), group([(0.5, 0)]))
    assert targets == (1,)
    assert terms["demand_tokens"] == 500.0
    assert terms["required_tokens"] == 0.0
    assert terms["spare_tokens"] == pytest.approx(800 - 500 / 0.7)


def test_required_tokens_count_what_starts() -> None:
    targets, terms = decided(built(), group([(0.9, 0)] * 2))
    assert terms["required_tokens"] == pytest.approx(1800 / 0.85 - 1600)
    assert targets == (3,)
    targets, terms = decided(built(), group([(0.9, 0)] * 2, starting=1))
    assert (targets, terms["required_tokens"]) == ((3,), 0.0)


def test_spare_tokens_do_not_count_what_starts() -> None:
    # Supply 3 x 800 less 300 / 0.7 is 1971: two replicas of 800.
    assert decided(built(), group([(0.1, 0)] * 3))[0] == (1,)
    assert decided(built(), group([(0.9, 0), (0.0, 0)], starting=3))[0] == (5,)  # 314 is below 800


def test_waiting_requests_need_their_prompts() -> None:
    # Mean prompt 3,000 / 10: 500 + 4 x 300.
    found = decided(built(), group([(0.5, 4)]), asked=demand(10, 3000, 10, 500))
    assert found[1]["demand_tokens"] == 1700.0


def test_requests_at_the_gateway_need_prompts_and_outputs() -> None:
    lengths = Lengths(100.0, 50.0, 0.2)
    assert held_demand([demand(held=3, tokens=500)], lengths) == pytest.approx(550.0)
    assert held_demand([demand(held=3, tokens=100)], lengths) == pytest.approx(390.0)


def test_prefix_caches_lessen_the_prompts_at_the_gateway() -> None:
    totals = Totals(10, 3000, 500, (), (), cached_tokens=1500)
    found = decided(built(), group([(0.5, 0)], totals=totals),
                    asked=demand(10, 3000, 10, 500, held=2, tokens=600))
    assert found[1]["demand_tokens"] == pytest.approx(500 + 600 * 0.5 + 2 * 50)


def test_a_queue_shows_what_the_steps_hold() -> None:
    scaler = built()

    def required(now_s: float, share: float, waiting: int) -> float:
        return decided(scaler, group([(share, waiting)]), now_s=now_s)[1]["required_tokens"]

    # With 5 waiting, 600 of 1,000 tokens in use are the bound.
    assert required(0.0, 0.6, 5) == pytest.approx(600 / 0.85 - 600)
    assert required(75.0, 0.4, 5) == pytest.approx(400 / 0.85 - 400)
    # Without a queue the mean of both observations counts: 500 tokens.
    assert required(150.0, 0.45, 0) == pytest.approx(450 / 0.85 - 500)


@pytest.mark.parametrize(("max_num_seqs", "tokens"), [(64, 67200), (512, 195490), (None, 195490)])
def test_arguments_of_the_engine_bound_the_steps(max_num_seqs, tokens) -> None:
    # 2,048 x 100 / 1,100 = 186.2 sequences of 1,050 tokens.
    assert derived_tokens(GroupFacts("m", 0, 1, 1, 1.0, 1.0, 1, None, max_num_seqs, 2048),
                          Lengths(1000.0, 100.0)) == tokens


def sized(number: int, cost: float, tokens: float, current: int, ceiling: int = 100,
          floor: int = 0) -> Sized:
    return Sized(Variant(number, facts(cost, floor, ceiling), current, (Peak(0.1, 0),) * current),
                 tokens)


def test_more_of_the_variant_with_the_least_cost_for_a_token() -> None:
    assert more_replicas([sized(0, 2.0, 800.0, 1), sized(1, 3.0, 2000.0, 0)], 2500.0) == {
        0: 1, 1: 2}
    assert more_replicas([sized(0, 2.0, 800.0, 1), sized(1, 3.0, 2000.0, 0, 1)], 2500.0) == {
        0: 2, 1: 1}
    assert more_replicas([sized(0, 2.0, 0.0, 1)], 2500.0) == {0: 1}


def test_fewer_of_the_dearest_variant() -> None:
    assert fewer_replicas([sized(0, 2.0, 800.0, 2), sized(1, 3.0, 2000.0, 2)], 3000.0) == {
        0: 1, 1: 1}
    assert fewer_replicas([sized(0, 2.0, 800.0, 1), sized(1, 3.0, 2000.0, 1)], 9000.0) == {
        0: 1, 1: 0}  # the cheapest keeps the last one
    assert fewer_replicas([sized(0, 2.0, 800.0, 1), sized(1, 3.0, 2000.0, 2)], 1900.0) == {
        0: 0, 1: 2}  # none of 2,000, and others remain
    assert fewer_replicas([sized(0, 2.0, 800.0, 5, floor=3)], 9000.0) == {0: 3}


def test_missing_data_hold() -> None:
    blind = SeenGroup(3, tuple(SeenReplica(number, "ready", 0.0) for number in range(3)))
    assert decided(built(), blind)[0] == (3,)
    full = Observation(0.0, (group([(0.9, 9)]),), None)
    assert built().decide(full, 0.0).targets == (1,)


def test_zero_and_back() -> None:
    scaler = built(facts(), facts(3.0), retention_s=60.0)
    idle = Totals(4, 0, 0, (), ())
    busy = (group([(0.3, 0)], totals=idle), group([], totals=idle))
    assert [decided(scaler, *busy, now_s=15.0 * step)[0] for step in range(5)] == [
        (1, 0)] * 4 + [(0, 0)]
    none = (group([]), group([]))
    assert decided(scaler, *none, now_s=70.0)[0] == (0, 0)
    assert decided(scaler, *none, now_s=71.0, asked=demand(held=1))[0] == (1, 1)
