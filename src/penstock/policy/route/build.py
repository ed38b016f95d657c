"""Factories of routers: each takes the settings that the registry declares for it, and the
context."""

from collections.abc import Callable, Mapping
from typing import Any

from penstock.policy.route.consistent import ConsistentHash
from penstock.policy.route.context import RouterContext
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.joint.router import JointRouter
from penstock.policy.route.models.content import (
    BestQuality,
    DualPool,
    QualityFloorDual,
    StrongShare,
    VirtualQueues,
    WeightedRank,
)
from penstock.policy.route.models.fixed import FixedMix, FixedModel
from penstock.policy.route.models.protocol import ModelRouter
from penstock.policy.route.predictive import Predictive
from penstock.policy.route.prefix import PrefixAware
from penstock.policy.route.protocol import Router
from penstock.policy.route.reuse import LeastAddedTime
from penstock.policy.route.simple import (
    FewestWaiting,
    FreeKv,
    LeastLoaded,
    Random,
    RoundRobin,
    ShortestQueue,
    TwoChoices,
)
from penstock.policy.route.two_stage import TwoStage

Factory = Callable[[Mapping[str, Any], RouterContext], Router]
ModelFactory = Callable[[Mapping[str, Any], RouterContext], ModelRouter]
_FINE = 1 << 30


def _predictive(settings: Mapping[str, Any], context: RouterContext) -> Router:
    facts = {fact.replica_id: fact for fact in context.facts}
    return Predictive(facts, context.usual(), **settings)


def joint_options(given: Mapping[str, Any]) -> JointOptions:
    """Return the options of joint routing with these settings."""
    options: dict[str, Any] = {key: tuple(value) if key == "relax" else value
                               for key, value in given.items()}
    return JointOptions(**options)


def joint(settings: Mapping[str, Any], context: RouterContext) -> Router:
    """Return the router that chooses model and replica together."""
    return JointRouter(context.facts, joint_options(settings), context.usual(), context.dual_price,
                       context.memory())


def _model_first(make: ModelFactory) -> Factory:
    """Return a factory of a model router followed by the dispatcher that the settings name."""

    def factory(settings: Mapping[str, Any], context: RouterContext) -> Router:
        own = {key: value for key, value in settings.items() if key != "dispatcher"}
        dispatcher = PLAIN[settings.get("dispatcher", "round_robin")]({}, context)
        offers = {fact.offer.model: fact.offer for fact in context.facts}
        return TwoStage(make(own, context), dispatcher, offers)

    return factory


PLAIN: Mapping[str, Factory] = {
    "least_loaded": lambda _settings, _context: LeastLoaded(),
    "round_robin": lambda _settings, _context: RoundRobin(),
    "random": lambda _settings, context: Random(context.draw),
    "shortest_queue": lambda _settings, _context: ShortestQueue(),
    "fewest_waiting": lambda _settings, _context: FewestWaiting(),
    "two_choices": lambda _settings, context: TwoChoices(context.draw),
    "free_kv": lambda _settings, _context: FreeKv(),
    "prefix_aware": lambda settings, context: PrefixAware(context.memory(), **settings),
    "least_added_time": lambda settings, context: LeastAddedTime(
        {fact.replica_id: fact for fact in context.facts}, live=context.live, **settings),
    "consistent_hash": lambda settings, _context: ConsistentHash(**settings),
    "predictive": _predictive,
}
"""Routers that choose a replica, independent of the model."""
_MODEL_ROUTERS: Mapping[str, ModelFactory] = {
    "fixed_model": lambda settings, _context: FixedModel(settings.get("model", "largest")),
    "fixed_mix": lambda settings, context: FixedMix(settings.get("shares", {}),
                                                    lambda: context.draw(_FINE) / _FINE),
    "best_route": lambda _settings, _context: BestQuality(),
    "routellm": lambda settings, _context: StrongShare(settings.get("share", 0.5),
                                                       settings.get("threshold")),
    "avengers": lambda settings, _context: WeightedRank(**settings),
    "omnirouter": lambda settings, _context: QualityFloorDual(settings.get("floor", 0.5),
                                                             settings.get("step", 1.0)),
    "dual_pool": lambda _settings, _context: DualPool(),
    "qlm": lambda _settings, _context: VirtualQueues(),
}
MODEL_FIRST: Mapping[str, Factory] = {name: _model_first(make)
                                      for name, make in _MODEL_ROUTERS.items()}
"""Routers that choose the model first, then a replica by ``dispatcher``."""
READERS_OF_EVENTS = ("prefix_aware", "least_added_time", "joint")
"""Routers that read the index of the blocks that replicas report."""
