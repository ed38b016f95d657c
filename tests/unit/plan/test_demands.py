"""Which requests share replicas, and that none of them is forgotten."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.fleet.sources import fleet_workload
from penstock.plan.demands import demands_of, part_of, redrawn
from penstock.workload.select import select
from support.small_plans import BATCH, CHAT, TWO_MODELS, fleet, lengths, traffic


def demands(found, num_seeds=2):
    return demands_of(found, tuple(fleet_workload(found, seed) for seed in range(num_seeds)))


def test_one_demand_per_model_holds_all_of_its_requests():
    demand, = demands(fleet())
    assert (demand.name, demand.exclusive, demand.class_names) == ("llama-3-8b", False, None)
    assert [len(w) for w in demand.workloads] == [40, 40]
    assert [c.name for c in demand.classes] == ["chat", "batch"]
    assert demand.priority == 1
    assert demand.rate_per_s == pytest.approx(40 / demand.sample.duration_s)


@pytest.mark.parametrize("pooling", ["model", "class"])
def test_every_request_is_in_exactly_one_demand(pooling):
    found = fleet(traffic(model="llama-3-8b"), traffic(model="qwen2.5-7b", mix={"chat": 1.0}),
                  models=TWO_MODELS, plan={"pooling": pooling})
    parts = demands(found)
    for seed in (0, 1):
        arrivals = np.concatenate([demand.workloads[seed].arrival_s for demand in parts])
        assert sorted(arrivals) == fleet_workload(found, seed).arrival_s.tolist()


def test_a_class_alone_is_its_own_demand_unless_it_is_the_only_one():
    found = fleet(traffic(model="llama-3-8b"), traffic(model="qwen2.5-7b", mix={"chat": 1.0}),
                  models=TWO_MODELS, plan={"pooling": "class"})
    assert [(d.name, d.class_names) for d in demands(found)] == [
        ("llama-3-8b/batch", ("batch",)), ("llama-3-8b/chat", ("chat",)), ("qwen2.5-7b", None)]


def test_classes_and_models_without_traffic_ask_for_nothing():
    idle = {"name": "idle", "priority": 0, "slo": {"ttft_s": 1e-6}}
    demand, = demands(fleet(traffic(model="llama-3-8b"), models=TWO_MODELS,
                            service_classes=[CHAT, BATCH, idle]))
    assert [c.name for c in demand.classes] == ["chat", "batch"]
    assert demand.priority == 1


def rare(num_requests):
    """A second model of which the first seeds bring no request."""
    return fleet(traffic(model="llama-3-8b", num_requests=num_requests),
                 traffic(model="qwen2.5-7b", rate_per_s=0.1, num_requests=None, duration_s=8),
                 models=TWO_MODELS, plan={"pooling": "class"})


def test_a_model_that_only_some_seeds_bring_is_not_forgotten():
    found = rare(10)
    workloads = [fleet_workload(found, seed) for seed in range(12)]
    index = workloads[0].models.index("qwen2.5-7b")
    has = [bool((w.model_index == index).any()) for w in workloads]
    first = has.index(True, has.index(False))
    chosen = (workloads[has.index(False)], workloads[first])
    names = [d.name for d in demands_of(found, chosen)]
    assert any(name.startswith("qwen2.5-7b") for name in names)
    for demand in demands_of(found, chosen):
        assert all(len(w) for w in demand.workloads)


def test_a_class_that_only_a_later_seed_brings_is_not_forgotten():
    found = fleet(traffic(num_requests=1), plan={"pooling": "class"})
    assert {d.name for d in demands(found, 8)} == {"llama-3-8b/chat", "llama-3-8b/batch"}


def test_no_request_is_no_demand():
    found = fleet()
    empty = select(fleet_workload(found), np.zeros(40, dtype=np.bool_))
    assert demands_of(found, (empty,)) == ()


def test_the_longest_request_counts_its_most_output_over_all_seeds():
    spread = {"prompt": {"shares": [0.0, 1.0], "tokens": [10, 4000]}, "output": {"fixed": 40}}
    demand, = demands(fleet(traffic(lengths=spread, max_tokens=500)), 3)
    prompts = [int(w.prompt_tokens.max()) for w in demand.workloads]
    assert demand.longest_tokens == max(prompts) + 500
    assert len(set(prompts)) == 3


def test_a_burst_without_a_stated_rate_lasts_a_second():
    demand, = demands(fleet(traffic(lengths=lengths(40, 4))))
    assert demand.lasting
    at_once = replace(demand.sample, arrival_s=np.zeros(40))
    assert replace(demand, workloads=(at_once,)).rate_per_s == 40.0
    brief = replace(demand.sample, arrival_s=demand.sample.arrival_s / 1e6)
    assert replace(demand, workloads=(brief,)).rate_per_s == pytest.approx(1e6 * demand.rate_per_s)
    assert replace(demand, workloads=(brief,), lasting=False).rate_per_s == 40.0


def test_a_part_of_a_demand_is_drawn_again_with_other_seeds():
    found = fleet()
    demand, = demands(found)
    chat = part_of(demand, (demand.classes[0],))
    again = redrawn(chat, [fleet_workload(found, seed) for seed in (7, 8, 9)])
    assert (again.name, again.classes) == (chat.name, chat.classes)
    other, = demands_of(found, (fleet_workload(found, 7),))
    expected = part_of(other, (demand.classes[0],))
    assert len(again.workloads) == 3
    assert again.sample.arrival_s.tolist() == expected.sample.arrival_s.tolist()
    assert redrawn(chat, []).workloads == chat.workloads
