"""The second look at what holds: another seed, more requests, slightly faster."""

import pytest

from penstock.fleet.sources import fleet_workload
from penstock.plan.assign.solve import solve
from penstock.plan.demands import demands_of
from penstock.plan.other_seed import AGAIN, OtherSeed
from penstock.plan.plan import plan_fleet
from penstock.plan.trials import Trials
from support.small_plans import cards, fleet, lengths, planned, traffic


def other(found):
    workloads = (fleet_workload(found, 0),)
    demand, = demands_of(found, workloads)
    return demand, OtherSeed(found, workloads).of(demand)


@pytest.mark.parametrize("sections", [{}, {"run": {"num_requests": 40}},
                                      {"run": {"duration_s": 8}}])
def test_lasting_traffic_goes_on(sections):
    bounds = {} if sections else {"num_requests": 40}
    found = fleet({**traffic(), "num_requests": None, **bounds}, **sections)
    demand, again = other(found)
    first, = demand.workloads
    longer, = again.workloads
    assert len(longer) >= 2000 > len(first)
    assert list(longer.arrival_s[:40]) != pytest.approx(list(first.arrival_s[:40]))
    assert len(longer) / longer.duration_s == pytest.approx(5 * (1 + 2 / len(longer) ** 0.5),
                                                            rel=0.1)


def test_many_requests_are_enough():
    demand, again = other(fleet(traffic(num_requests=2500)))
    assert [len(one) for one in (*demand.workloads, *again.workloads)] == [2500, 2500]


def test_traffic_in_turn_and_rare_traffic_do_not_go_on():
    in_turn = fleet(traffic(), traffic(start_s=8))
    assert len(other(in_turn)[1].sample) == 80
    rare = fleet(traffic(rate_per_s=1e-4))
    assert len(other(rare)[1].sample) == 40


def test_what_no_seed_changes_gets_no_second_look(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                     "2023-11-16 18:15:46,100,10\n2023-11-16 18:15:47,200,20\n")
    found = fleet({"mix": {"chat": 1.0}, "trace": {"file": str(trace), "format": "azure"}})
    assert other(found)[1] is None


def test_a_plan_carries_the_stated_rate_even_where_fewer_requests_came_by_chance():
    """Few requests of distant deadlines hold on one replica that lasting traffic saturates."""
    entry = traffic(mix={"batch": 1.0}, rate_per_s=40, num_requests=60, lengths=lengths(2000, 200))
    plan = planned(entry, accelerators=cards(a100_80gb=None), plan={"tensor": [1]})
    choice, = plan.choices
    demand = choice.demand
    assert demand.lasting_per_s >= 40
    counts = plan.checked.counts[demand.name]
    trials = Trials(plan.before, 0, None)
    assert plan.served_in_full
    assert trials.sustains(choice, counts)
    fewer = tuple((name, number - 1) for name, number in counts)
    assert not trials.sustains(choice, fewer)
    assert trials.judge(choice, fewer).meets, "the run ends before the queue is long"
    assert not trials.lasts(choice, fewer)
    assert trials.judge(choice, fewer).does_not_last


def test_what_holds_by_chance_alone_is_not_planned(monkeypatch):
    """Where the second look misses, the plan takes more replicas, until it holds."""
    found = fleet(traffic(rate_per_s=30, num_requests=60), accelerators=cards(a100_80gb=None),
                  plan={"tensor": [1]})
    before = plan_fleet(found, solve)
    tried = []

    def lasts(self, choice, counts):
        tried.append(counts)
        if counts == before.checked.counts[choice.demand.name]:
            self._note(choice, counts, 1.0, self.judge(choice, counts).__class__(
                meets=False, num_seeds=1, classes=(), does_not_last=True))
            return False
        return True

    monkeypatch.setattr(Trials, "lasts", lasts)
    after = plan_fleet(found, solve)
    assert after.served_in_full
    assert after.cost_per_hour > before.cost_per_hour
    assert tried[0] == before.checked.counts["llama-3-8b"]
    assert found.plan.num_seeds < AGAIN, "the seeds are others"


def test_what_no_replicas_carry_with_another_seed_does_not_decide(monkeypatch):
    """Some requests of the second look may be late even on idle replicas."""
    found = fleet(traffic(rate_per_s=30, num_requests=60), accelerators=cards(a100_80gb=None),
                  plan={"tensor": [1]})
    before = plan_fleet(found, solve)
    monkeypatch.setattr("penstock.plan.trials.holds", lambda *_, **__: False)
    after = plan_fleet(found, solve)
    assert after.served_in_full
    assert after.checked.counts == before.checked.counts
