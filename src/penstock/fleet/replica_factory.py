"""Builds the parts of a replica for all drivers."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from zlib import crc32

import numpy as np

from penstock.core.money import Price
from penstock.core.units import GB, GIB
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.speculation import drafted_step_time, drafting_of
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.speculation.step_time import at_depth
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.clock import DraftedClock, StepClock
from penstock.perf.step_time.deviation import deviating, drawn_deviation
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.tiers import KvTiers, TierSpec
from penstock.policy.route.context import RouterContext, free_of_charge
from penstock.policy.route.facts import Offer, ReplicaFacts
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.protocol import Router
from penstock.policy.schedule.build import build_kv
from penstock.predict.latency import LatencyPrior
from penstock.registry.make import make_dispatch
from penstock.registry.step_times import make_step_time


def step_time(group: ReplicaGroup) -> StepTimeModel:
    """Return the step-time model of a group's replicas."""
    model = make_step_time(group.step_time, group.model, group.accelerator, group.parallelism,
                           group.precision, group.kv_precision,
                           role=group.step_role)
    return model if group.speculation is None else drafted_step_time(group, model)


def step_clock(group: ReplicaGroup, truth: StepTimeModel,
               noise: Callable[[], float] | None = None) -> StepClock:
    """Return the clock of a group's replica whose true step times are ``truth``."""
    if group.speculation is None:
        return StepClock(truth, noise)
    return DraftedClock({depth: at_depth(truth, depth)
                         for depth in group.speculation.depth.choices}, noise)


def true_step_time(fleet: Fleet, model: StepTimeModel, rng: np.random.Generator) -> StepTimeModel:
    """Return the true step times of one simulated device, where ``model`` estimates them."""
    return deviating(model, rng) if fleet.run.beliefs == "model" else model


def believed_of(fleet: Fleet, model: StepTimeModel, rng: np.random.Generator) -> StepTimeModel:
    """Return the step times that policies believe, where ``model`` estimates the true ones."""
    return deviating(model, rng) if fleet.run.beliefs == "uncertain" else model


def belief_factor(fleet: Fleet, group: ReplicaGroup, seed: int) -> float:
    """Return the step times that policies believe over those of the group's model.

    Policies know one model of a kind of replica, so they are off by one factor for all of them.
    """
    if fleet.run.beliefs != "uncertain":
        return 1.0
    return drawn_deviation(step_time(group), random_stream(seed, f"belief {kind_of(group)}", 0))


def believed_step_time(group: ReplicaGroup, fleet: Fleet, seed: int) -> StepTimeModel:
    """Return the step times of a group's simulated replicas as policies believe them."""
    return biased(step_time(group), belief_factor(fleet, group, seed))


def step_noise(fleet: Fleet, rng: np.random.Generator) -> Callable[[], float] | None:
    """Return a function that draws a factor on a step's duration, None without noise."""
    noise = fleet.run.step_time_noise
    if noise <= 0:
        return None
    # Mean 1, so that noise does not change a replica's mean speed.
    return lambda: float(rng.lognormal(-noise * noise / 2, noise))


def random_stream(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Return the random stream of one purpose, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence((seed, crc32(purpose.encode()), number)))


def tier_specs(fleet: Fleet, group: ReplicaGroup) -> tuple[TierSpec, ...]:
    """Return the tiers below the KV cache of one of the group's replicas, the fastest first."""
    token_bytes = group.model.kv_bytes_per_token(group.kv_precision)
    return tuple([TierSpec(tier.name, int(tier.gib * GIB / token_bytes),
                           token_bytes / (tier.read_gb_per_s * GB), tier.latency_s, tier.shared)
                  for tier in fleet.engine_of(group).kv_tiers])


def kv_cache(fleet: Fleet, group: ReplicaGroup, num_tokens: int,
             tiers: KvTiers | None = None) -> KvAllocator:
    """The empty KV cache of one of the group's replicas, for so many tokens, above ``tiers``."""
    engine = fleet.engine_of(group)
    return build_kv(fleet.schedule_of(group), num_tokens // engine.block_tokens,
                    engine.block_tokens, engine.prefix_caching, tiers)


def journal_header(fleet: Fleet, group: ReplicaGroup, replica_id: int,
                   belief: float) -> dict[str, Any]:
    """Return the header of a replica's journal, from which ``journal.replay`` can rebuild its
    scheduler. ``belief`` is the step time that the scheduler believes over that of the model."""
    engine, drafting = fleet.engine_of(group), drafting_of(group)
    drafts = {} if drafting is None else {"drafting": drafting}
    return {"replica": replica_id, "schedule": asdict(fleet.schedule_of(group)),
            "kv_tokens": kv_tokens(fleet, group), "block_tokens": engine.block_tokens,
            "prefix_caching": engine.prefix_caching, "max_in_flight": 1,
            "step_time_factor": belief, **drafts,
            **({"kv_tiers": [list(tier) for tier in tier_specs(fleet, group)]}
               if engine.kv_tiers else {}),
            **({} if group.lora is None else {"max_loras": group.lora.max_loras})}


def kind_of(group: ReplicaGroup) -> str:
    """Return the model, its precision, the accelerator and the ranks of a group's replicas."""
    return (f"{group.model.name} {group.precision} on {group.accelerator.name} "
            f"{group.parallelism.tensor}x{group.parallelism.pipeline}")


def replica_facts(fleet: Fleet,
                  believed: Callable[[ReplicaGroup], StepTimeModel]) -> list[ReplicaFacts]:
    """Return the constant facts about every replica for routers, in order of number."""
    choices = {choice.spec.name: choice for choice in fleet.models}
    facts: list[ReplicaFacts] = []
    for group in fleet.replicas:
        choice = choices[group.model.name]
        step = step_time(group)
        price = choice.price or _running_cost(fleet, group, step)
        offer = Offer(group.model.name, price, float(choice.spec.active_params), choice.quality)
        options = fleet.schedule_of(group)
        prior = LatencyPrior(believed(group), options.max_num_seqs, options.chunk_tokens)
        tiers = tier_specs(fleet, group)
        facts += [ReplicaFacts(len(facts) + i, offer, kind_of(group), prior, tiers)
                  for i in range(group.count)]
    return facts


def dispatch_of(fleet: Fleet, draw: Callable[[int], int],
                dual_price: Callable[[str], float] = free_of_charge,
                believed: Callable[[ReplicaGroup], StepTimeModel] = step_time,
                live: LiveIndex | None = None) -> Router:
    """Return the fleet's router with its admission policy. ``draw(n)`` returns a random whole
    number below n, ``dual_price`` a tenant's markup on prices, ``believed`` a group's step times
    as the router believes them. ``live`` has the blocks that replicas report."""
    route, admit = fleet.policies.route, fleet.policies.admit
    return make_dispatch((route.name, route.options), (admit.name, admit.options),
                         RouterContext(replica_facts(fleet, believed), draw, dual_price, live),
                         fleet.policies.explore)


def _running_cost(fleet: Fleet, group: ReplicaGroup, step: StepTimeModel) -> Price:
    """Return the cost of a token on the fleet's accelerators: its share of a step at the hourly
    price.

    A prompt token has 1/1,024 of a step of 1,024 prompt tokens. An output token has 1/32 of a step
    of 32 sequences with 1,024 tokens of context each, a moderate load.
    """
    hourly = fleet.pool(group.accelerator.name).price_per_hour
    per_s = hourly * group.parallelism.num_accelerators / 3600.0
    return Price(per_s * step.seconds(1024, 2.0**19, 0, 0) / 1024,
                 per_s * step.seconds(0, 0.0, 32, 32 * 1024) / 32)


def relative_speeds(fleet: Fleet, believed: Callable[[ReplicaGroup], StepTimeModel] = step_time
                    ) -> list[float]:
    """Return the believed speed of every replica at a step of 1,024 prompt tokens and 64 decodes,
    relative to the fastest replica of its model."""
    groups = [(group, 1.0 / max(1e-9, believed(group).seconds(1024, 2.0**19, 64, 2**16)))
              for group in fleet.replicas]
    fastest: dict[str, float] = {}
    for group, speed in groups:
        fastest[group.model.name] = max(speed, fastest.get(group.model.name, 0.0))
    return [speed / fastest[group.model.name] for group, speed in groups
            for _ in range(group.count)]
