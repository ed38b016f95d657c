"""Builds a router from its name and settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.facts import ReplicaFacts
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
from penstock.policy.route.routebalance.router import RouteBalance
from penstock.policy.route.routebalance.score import PRESETS
from penstock.policy.route.settings import MODEL_FIRST, ROUTERS, joint_options
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
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.length import HistoryLengths

Draw = Callable[[int], int]
_FINE = 1 << 30


def free_of_charge(_: str) -> float:
    """No tenant has a budget, so nobody's prices are marked up."""
    return 0.0


def make_router(name: str, settings: Mapping[str, Any], facts: Sequence[ReplicaFacts], draw: Draw,
                dual_price: Callable[[str], float] = free_of_charge) -> Router:
    """The named router over those replicas.

    ``draw(n)`` gives a random whole number below n; ``dual_price`` a tenant's markup on prices.
    Raises InputError for an unknown name; settings are known to be right (``settings.ROUTERS``).
    """
    if name not in ROUTERS:
        raise InputError(f"unknown routing policy {name!r}{nearest(name, ROUTERS)}")
    if name == "joint":
        return JointRouter(facts, joint_options(settings), _usual(facts), dual_price)
    if name == "routebalance":
        return _routebalance(settings, facts)
    if name in MODEL_FIRST:
        rest = {key: value for key, value in settings.items() if key != "dispatcher"}
        dispatcher = _plain(settings.get("dispatcher", "round_robin"), {}, facts, draw)
        offers = {fact.offer.model: fact.offer for fact in facts}
        return TwoStage(_model_router(name, rest, draw), dispatcher, offers)
    return _plain(name, settings, facts, draw)


def _plain(name: str, settings: Mapping[str, Any], facts: Sequence[ReplicaFacts],
           draw: Draw) -> Router:
    if name == "predictive":
        return Predictive({f.replica_id: f for f in facts}, _usual(facts), **settings)
    if name == "prefix_aware":
        return PrefixAware(PrefixMemory(), **settings)
    if name in ("two_choices", "random"):
        return TwoChoices(draw) if name == "two_choices" else Random(draw)
    kinds: Mapping[str, Callable[[], Router]] = {
        "round_robin": RoundRobin, "least_loaded": LeastLoaded, "shortest_queue": ShortestQueue,
        "fewest_waiting": FewestWaiting, "free_kv": FreeKv}
    return kinds[name]()


def _model_router(name: str, settings: Mapping[str, Any], draw: Draw) -> ModelRouter:
    if name == "fixed_model":
        return FixedModel(settings.get("model", "largest"))
    if name == "fixed_mix":
        return FixedMix(settings.get("shares", {}), lambda: draw(_FINE) / _FINE)
    if name == "routellm":
        return StrongShare(settings.get("share", 0.5), settings.get("threshold"))
    if name == "avengers":
        return WeightedRank(**settings)
    if name == "omnirouter":
        return QualityFloorDual(settings.get("floor", 0.5), settings.get("step", 1.0))
    plain: Mapping[str, Callable[[], ModelRouter]] = {
        "best_route": BestQuality, "dual_pool": DualPool, "qlm": VirtualQueues}
    return plain[name]()


def _routebalance(settings: Mapping[str, Any], facts: Sequence[ReplicaFacts]) -> Router:
    weights = PRESETS[settings.get("preset", "balance")]
    own = {key: float(settings[key]) for key in weights._fields if key in settings}
    return RouteBalance({f.replica_id: f for f in facts}, weights._replace(**own), _usual(facts),
                        settings.get("norm", "minmax"), settings.get("filter", "none"))


def _usual(facts: Sequence[ReplicaFacts]) -> UsualForecasts:
    return UsualForecasts(facts, HistoryLengths())
