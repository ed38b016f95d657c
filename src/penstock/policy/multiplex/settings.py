"""Which settings each residency policy takes by name, and what they make."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.policy.multiplex.build import NAMES, ORDERS, PENSTOCK, ResidencySettings
from penstock.policy.multiplex.options import ResidencyOptions
from penstock.policy.multiplex.sincere import LoadRow, SincereSettings
from penstock.policy.multiplex.values import HostedModel
from penstock.policy.route.settings import Flag, Number, Setting, Word

_ANY = 1e9
_SINCERE: Mapping[str, Setting] = {
    "sla_s": Number(0, _ANY), "deviations": Number(0, 100), "overwrite": Flag(),
    "charge_resident": Flag(), "select_by": Word(("room", "sla")), "completion_s": Number(0, _ANY),
    "least_timer_s": Number(0, _ANY), "poll_s": Number(0.001, _ANY), "stay_s": Number(0, _ANY),
    "max_batch": Number(1, _ANY, whole=True)}
_OWN: Mapping[str, Mapping[str, Setting]] = {
    PENSTOCK: {"max_batches": Number(1, 1000, whole=True), "horizon_s": Number(0, _ANY),
               "margin": Number(0, 100), "shed": Flag(), "prefetch": Flag()},
    **{name: {"shed": Flag(), "cost_aware": Flag()} for name in ORDERS},
    "round-robin": {"shed": Flag(), "cost_aware": Flag(), "quantum_s": Number(0, _ANY)}}

RESIDENCIES: Mapping[str, Mapping[str, Setting]] = {name: _OWN.get(name, _SINCERE)
                                                    for name in NAMES}
"""Policies by name, with the settings that each takes."""


def residency_settings(name: str, given: Mapping[str, Any], models: Sequence[HostedModel],
                       load_s: Sequence[float], sla_s: float) -> ResidencySettings:
    """The settings of a policy with what was given (see ``RESIDENCIES``).

    SINCERE's strategies take each model's largest batch for the best one, ``load_s`` without
    deviation for the table of loads, and nothing is overwritten unless that is asked for.
    """
    if name == PENSTOCK:
        return ResidencySettings(penstock=ResidencyOptions(**given))
    if name in ORDERS:
        return ResidencySettings(**given)
    return ResidencySettings(sincere=SincereSettings(**{
        "sla_s": sla_s, "overwrite": False, "best_batch": [model.max_batch for model in models],
        "load_table": [LoadRow(seconds, 0.0, 0.0, 0.0) for seconds in load_s], **given}))
