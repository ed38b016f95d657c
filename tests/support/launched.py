"""Fleets with the replicas of random variants, and the command lines that start them."""

from dataclasses import replace
from random import Random

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.engines.launch.group import on_engine
from penstock.engines.launch.starts import Start, starts
from penstock.engines.launch.statements import Statements
from penstock.fleet.load import parse_fleet, read_marked
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.write import to_yaml
from penstock.plan.variants import variants_of
from support.random_fleets import random_document, random_text

CATALOG = load_catalog()
DENSE, MIXTURE = "llama-3.1-8b", "qwen3-235b-a22b"
ENGINES = ("vllm:0.32.0", "sglang:0.5.23", "tensorrt-llm:1.3.0")


def two_replicas(engine: str, model: str, precision: str, kv: str, spread: str) -> str:
    """A fleet file of two replicas that states what engines take as arguments. ``engine`` is the
    beginning of the engine's section, ``spread`` the parallelism, both without braces."""
    return f"""
name: two
accelerators: [{{name: h100-80gb}}]
models: [{{name: {model}, precisions: [{precision}]}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 9}}, output: {{fixed: 9}}}}, rate_per_s: 1,
            num_requests: 9}}]
engine: {{{engine}, memory_fraction: 0.85, max_num_seqs: 99, prefix_caching: false}}
replicas: [{{count: 2, precision: {precision}, kv_precision: {kv}, served_as: me/weights,
             parallelism: {{{spread}}}, schedule: {{name: sarathi, chunk_tokens: 4096}}}}]
"""


def planned_text(seed: int) -> str | None:
    """A fleet file as a plan writes it, with variants that a plan considers; None where a random
    fleet has none."""
    rng, document = Random(seed), random_document(seed)
    try:
        fleet = parse_fleet(random_text(seed), to_plan=True)
        found = [variant.group for choice in fleet.models
                 for variant in variants_of(fleet, choice, 1)[0]]
    except InputError:
        return None
    if not found:
        return None
    groups = [_spread(rng, replace(rng.choice(found), count=rng.choice((1, 1, 2, 5))))
              for _ in range(rng.choice((1, 1, 2, 3)))]
    pools = tuple(replace(pool, count=None) for pool in fleet.accelerators)
    fleet = replace(fleet, replicas=tuple(groups), accelerators=pools)
    assert document["name"] == fleet.name
    return to_yaml(fleet)


def _spread(rng: Random, group: ReplicaGroup) -> ReplicaGroup:
    """The group with further ranks, and sometimes with weights of its own."""
    if rng.random() < 0.5:
        group = replace(group, served_as=rng.choice(("/models/weights", "maker/weights")))
    tensor, pipeline, data, expert = group.parallelism.tensor, rng.choice((1, 1, 2)), 1, 1
    if group.model.num_moe_layers and rng.random() < 0.7:
        data = rng.choice((2, 4, 8))
        expert = rng.choice((1, tensor * data, data))
    return replace(group, step_time=None, parallelism=Parallelism(tensor, pipeline, data, expert))


def read(text: str, engine: str, plan: str | None = "plan.json") -> tuple[Fleet, Statements]:
    """A fleet on an engine, and who stated its values."""
    name, _, version = engine.partition(":")
    said = Statements(read_marked(text, "fleet.yaml"), plan)
    fleet = parse_fleet(text, to_plan=True)
    return on_engine(fleet, name, version or None, said), said


def started(text: str, engine: str, plan: str | None = "plan.json", *,
            everywhere: bool = False) -> list[Start]:
    """The command lines of a fleet file's replicas on an engine."""
    fleet, said = read(text, engine, plan)
    return starts(fleet, CATALOG, said, "/fleet.yaml", everywhere=everywhere)


def random_starts(seed: int, engine: str) -> tuple[list[Start], Fleet] | None:
    """The command lines of a random plan, and its fleet; None where there is no such plan, or where
    the engine's version does not know what a replica needs."""
    text = planned_text(seed)
    if text is None:
        return None
    try:
        return started(text, engine), read(text, engine)[0]
    except InputError:
        return None
