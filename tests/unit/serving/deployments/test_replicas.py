"""Replicas of an earlier process: which ones the next process keeps."""

import asyncio
from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.serving.deployments.deployments import Deployment, State
from penstock.serving.deployments.replicas import StartedReplicas
from penstock.serving.deployments.startable import to_start

FLEET = """\
name: scaled
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: 60}]
replicas: [{count: 1, engine: emulated}]
"""
SCALED = FLEET.replace("engine:", "max_replicas: 4, engine:") + (
    "scaling: {start_s: 5}\npolicies: {scale: {name: hpa, target: 2}}\n")


class Control:
    """Deployments without processes: removals and starts take no time."""

    def __init__(self, found):
        self.found = dict(found)

    async def recover(self):
        pass

    def deployments(self):
        return list(self.found.values())

    def show(self, name):
        if name not in self.found:
            raise InputError("unknown")
        return self.found[name]

    def register(self, name, model, engine, options):
        self.found[name] = Deployment(name, model, engine, 0.0, 0.0, options)

    async def deploy(self, name, intent):
        self.found[name] = replace(self.found[name], state=State.RUNNING,
                                   configuration=intent.configuration)

    async def remove(self, name, *, cancel):
        del self.found[name]

    async def settled(self, name):
        return self.found.get(name)


def kept(text, *states):
    """Return the numbers and states that a process begins with, after one that left ``states``."""
    fleet = parse_fleet(text)
    replicas = to_start(fleet)
    left = {f"replica-{number}": Deployment(
        f"replica-{number}", "llama-3-8b", "emulate", 0.0, 0.0, {}, state=state,
        configuration=None if state == State.REGISTERED else replicas[0].configuration)
        for number, state in enumerate(states)}
    control = Control(left)
    found = StartedReplicas(fleet, replicas, control)
    asyncio.run(found.start())
    return found, {one.name: one.state for one in control.deployments()}


@pytest.mark.parametrize("interrupted", [State.FAILED, State.REGISTERED])
def test_orders_that_a_crash_interrupted_stay_orders_where_a_policy_scales(interrupted):
    found, states = kept(SCALED, State.RUNNING, interrupted)
    assert states == {"replica-0": State.RUNNING, "replica-1": interrupted}
    assert found.adopted == {0, 1}


def test_without_a_policy_an_interrupted_start_begins_anew():
    found, states = kept(FLEET, State.FAILED)
    assert states == {"replica-0": State.RUNNING}
    assert found.adopted == frozenset()


def test_an_order_is_written_down_once():
    found, _ = kept(SCALED, State.RUNNING)
    found.register(1)
    first = found.deployment(1)
    found.register(1)
    assert found.deployment(1) is first
    assert first.state == State.REGISTERED
