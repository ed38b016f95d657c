"""The choice of each demand: the kinds of replicas that may serve it, and why others may not."""

from dataclasses import dataclass

from penstock.fleet.values import Fleet
from penstock.plan.demands import Demand, part_of
from penstock.plan.estimate import Candidate, estimate
from penstock.plan.propose import Choice, current_groups
from penstock.plan.variants import LeftOut, Variant, variant_name, variants_of


@dataclass(frozen=True, slots=True)
class Dropped:
    """A variant that a plan does not consider for a demand, and why."""

    demand: str
    variant: str
    reason: str


def choices_of(fleet: Fleet, demand: Demand) -> list[tuple[Choice, list[Dropped]]]:
    """Return the choice for a demand.

    Where no variant can serve all of its classes, classes that no variant can serve even alone
    become demands of their own, so that the others are planned without them.
    """
    whole = choice_of(fleet, demand)
    if whole[0].candidates or len(demand.classes) == 1:
        return [whole]
    alone = {c.name: choice_of(fleet, part_of(demand, (c,))) for c in demand.classes}
    able = tuple(c for c in demand.classes if alone[c.name][0].candidates)
    if not able:
        return [whole]
    rest = choice_of(fleet, part_of(demand, able))
    if not rest[0].candidates:  # each class can be served, but not all by the same replicas
        return list(alone.values())
    return [rest, *(alone[c.name] for c in demand.classes if c not in able)]


def choice_of(fleet: Fleet, demand: Demand) -> tuple[Choice, list[Dropped]]:
    """Return the candidates of a demand, in order of name, and the variants that are none."""
    variants, impossible = allowed_variants(fleet, demand)
    estimates = [estimate(fleet, demand, variant) for variant in variants]
    able = [e for e in estimates if isinstance(e, Candidate)]
    impossible += [e for e in estimates if isinstance(e, LeftOut)]
    return (Choice(demand, tuple(sorted(able, key=lambda c: c.variant.name))),
            [Dropped(demand.name, left.name, left.reason) for left in impossible])


def allowed_variants(fleet: Fleet, demand: Demand) -> tuple[list[Variant], list[LeftOut]]:
    """Return the variants that the plan's options allow, and why others are left out."""
    groups_now = current_groups(fleet, demand)
    running = {variant_name(group) for group in groups_now}
    variants, impossible = variants_of(fleet, demand.model, demand.longest_tokens, groups_now,
                                       confidential=demand.confidential)
    if fleet.plan.keep_accelerators and running:
        kept = {group.accelerator.name for group in groups_now}
        impossible += [LeftOut(v.name, "keep_accelerators is set")
                       for v in variants if v.group.accelerator.name not in kept]
        variants = [v for v in variants if v.group.accelerator.name in kept]
    return variants, impossible
