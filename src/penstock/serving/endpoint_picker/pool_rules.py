"""Rules of a pool from objects of a cluster: priorities of objectives, and rewrites of models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from penstock.serving.kubernetes.objects import (
    InferenceObjective,
    ModelRewrite,
    RewriteRule,
    Target,
)


@dataclass(frozen=True, slots=True)
class PoolRules:
    """Priorities by the objective's name, targets by the client's model name, and the targets of
    every other model."""

    priorities: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    other_targets: tuple[Target, ...] = ()

    def rewritten(self, model: str, request_id: str) -> str:
        """Return the model name for a request. Of several targets each gets its weight's share of
        the requests, and the same request the same target again, which matters to retries."""
        targets = self.targets.get(model, self.other_targets)
        if not targets:
            return model
        digest = blake2b(f"{model}\0{request_id}".encode(errors="replace"), digest_size=8).digest()
        left = int.from_bytes(digest, "big") % sum(one.weight for one in targets)
        for one in targets:
            left -= one.weight
            if left < 0:
                return one.model
        raise AssertionError("the rest is less than the sum of the weights")


NO_RULES = PoolRules()


def rules_of(pool: str, objectives: Iterable[InferenceObjective],
             rewrites: Iterable[ModelRewrite]) -> PoolRules:
    """Return the rules of the objects that refer to a pool. A rule that names the model comes
    before one for every model; then the rule of the oldest object counts, then the first."""
    targets: dict[str, tuple[Target, ...]] = {}
    others: list[tuple[Target, ...]] = []
    for rule in _in_order(pool, rewrites):
        for model in rule.models:
            targets.setdefault(model, rule.targets)
        if not rule.models:
            others.append(rule.targets)
    return PoolRules({one.ref.name: one.priority for one in objectives if one.pool == pool},
                     targets, others[0] if others else ())


def _in_order(pool: str, rewrites: Iterable[ModelRewrite]) -> Iterable[RewriteRule]:
    own = sorted((one for one in rewrites if one.pool == pool),
                 key=lambda one: (one.created, one.ref.name))
    return (rule for one in own for rule in one.rules)
