"""Prometheus metrics of a gateway's scaling."""

import asyncio

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from prometheus_client import CollectorRegistry, generate_latest

from penstock.policy.scale.protocol import GroupFacts
from penstock.policy.scale.values import ScalingDecision
from penstock.serving.scaling.groups import LiveReplica
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.metrics import ScalingMetrics
from support.scaled_loop import Group, Record, Scripted, source_of

FACTS = [GroupFacts("llama", 1, 4, 1, 2.0, 60.0, 1000),
         GroupFacts("qwen", 0, 4, 1, 10.0, 60.0, 1000)]


def scraped(loop):
    registry = CollectorRegistry()
    registry.register(ScalingMetrics(loop))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class Pair(Scripted):
    """Wants the scripted number of the first group, and always one of the second."""

    def decide(self, seen, now_s):
        (first,) = super().decide(seen, now_s).targets
        return ScalingDecision((first, 1), "script")


def loop_of(scaler, clock, advise=False):
    groups = [Group(LiveReplica(0, "ready", 0.0), LiveReplica(1, "starting", 0.0),
                    LiveReplica(2, "waiting", 0.0)), Group(LiveReplica(3, "draining", 0.0))]
    return LiveScaling(scaler, FACTS, groups, source_of(*groups), Record(), clock, lambda: 1e9,
                       advise=advise)


def test_replicas_decisions_bill_and_age_are_told_by_group():
    clock = [10.0]
    loop = loop_of(Pair(3, 3, 2), lambda: clock[0])
    for _ in range(3):
        asyncio.run(loop.decide())
    clock[0] = 25.0
    found = scraped(loop)
    first, second = '{group="0",model_name="llama"', '{group="1",model_name="qwen"'
    for state, number in {"ready": 1, "starting": 1, "waiting": 1, "draining": 0}.items():
        assert found[f'penstock:replicas{first},state="{state}"}}'] == number
    assert found[f'penstock:replicas{second},state="draining"}}'] == 1
    assert found[f"penstock:replicas_wanted{first}}}"] == 2
    assert found[f"penstock:replicas_wanted{second}}}"] == 1
    for direction, number in {"up": 1, "same": 1, "down": 1}.items():
        assert found[f'penstock:scaling_decisions_total{{direction="{direction}",{first[1:]}}}'
                     ] == number
    assert found[f'penstock:scaling_decisions_total{{direction="same",{second[1:]}}}'] == 3
    assert found["penstock:replicas_cost_per_hour"] == 14.0, "a waiting replica holds nothing"
    assert found["penstock:scaling_decision_age_seconds"] == 15.0


def test_before_the_first_decision_there_is_no_age():
    found = scraped(loop_of(Pair(3), lambda: 0.0))
    assert "penstock:scaling_decision_age_seconds" not in found
    assert found['penstock:replicas_wanted{group="0",model_name="llama"}'] == 1


def test_advice_counts_changes_of_the_advice():
    loop = loop_of(Pair(3, 3), lambda: 0.0, advise=True)
    for _ in range(2):
        asyncio.run(loop.decide())
    assert loop.directions[0] == {"up": 1, "down": 0, "same": 1}
    assert scraped(loop)['penstock:replicas_wanted{group="0",model_name="llama"}'] == 3


def test_every_metric_is_described(repository):
    text = (repository / "docs/reference/metrics.md").read_text()
    for name in scraped(loop_of(Pair(1), lambda: 0.0)):
        assert f"`{name.split('{')[0]}`" in text
    assert "`penstock:scaling_decision_age_seconds`" in text
