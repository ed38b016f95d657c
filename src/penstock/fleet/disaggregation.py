"""Replicas with roles: the values that the section resolves to, and the problems of roles."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from penstock.fleet.document_disaggregation import DisaggregationSection
from penstock.fleet.problems import Problem
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_disaggregation import BOOTSTRAP_PORT, DisaggregationOptions
from penstock.perf.kv_transfer import FLOOR_S, KvTransfer
from penstock.policy.route.roles import BOTH, DECODE, PREFILL, Roles

_GIGA = 1e9
_ANY = "auto"
_BY_OWN_LOAD = ("none", "static", "hpa", "keda", "kpa", "aibrix-apa", "ray")
"""Scale policies that look at the load of each group alone, not at the rate of whole requests."""
_BY_RATE = "penstock"
"""Scale policy that sizes each role by the rate of whole requests."""


def resolve_disaggregation(section: DisaggregationSection | None) -> DisaggregationOptions | None:
    """Return how prompts move between replicas, None where the file does not say."""
    if section is None:
        return None
    transfer = section.transfer
    latency_s = FLOOR_S if transfer.latency_s is None else transfer.latency_s
    return DisaggregationOptions(
        KvTransfer(transfer.gb_per_s * _GIGA, latency_s, transfer.by_layer),
        section.min_prompt_tokens, section.connector)


def disaggregation_section(options: DisaggregationOptions | None) -> dict[str, Any] | None:
    """Return the section of the fleet file that resolves to these options."""
    if options is None:
        return None
    transfer = asdict(options.transfer)
    return {"transfer": {"gb_per_s": transfer.pop("bytes_per_s") / _GIGA, **transfer},
            "min_prompt_tokens": options.min_prompt_tokens, "connector": options.connector}


def disaggregation_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield the problems of the roles of replicas."""
    with_roles = [(i, group) for i, group in enumerate(fleet.replicas) if group.role != BOTH]
    if with_roles and fleet.disaggregation is None:
        yield Problem(("replicas", with_roles[0][0], "role"),
                      f"{with_roles[0][1].role}, but the file does not say how fast prompts move "
                      "between replicas; expected disaggregation: {transfer: {gb_per_s: ...}}")
    if fleet.disaggregation is not None and fleet.replicas and not with_roles:
        yield Problem(("disaggregation",), "no replicas have a role; expected role: prefill and "
                                           "role: decode in replicas")
    if with_roles:
        yield from _scaler_problems(fleet)
    for i, group in enumerate(fleet.replicas):
        if group.min_prompt_tokens is not None and group.role != PREFILL:
            yield Problem(("replicas", i, "min_prompt_tokens"), f"stands at role: {group.role}; "
                          f"expected role: {PREFILL}")
        if drafts_in_vain(group):
            yield Problem(("replicas", i, "speculation"), f"drafts by ngram, but role: {PREFILL} "
                          f"computes no answers; expected them at role: {DECODE} alone")
    for i, group in with_roles:
        yield from _partner_problems(("replicas", i, "role"), group, fleet.replicas)
    yield from _meeting_problems(fleet.replicas)


def drafts_in_vain(group: ReplicaGroup) -> bool:
    """Whether a group drafts from the text of answers that others compute. The heads and models of
    other methods read prompts, too."""
    return group.role == PREFILL and group.speculation is not None \
        and group.speculation.method == "ngram"


def _scaler_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield why the scaler does not fit to replicas with roles."""
    scale = fleet.policies.scale.name
    if scale not in (*_BY_OWN_LOAD, _BY_RATE):
        yield Problem(("policies", "scale"), f"{scale} expects replicas that serve whole requests; "
                      f"expected one of {', '.join((_BY_RATE, *_BY_OWN_LOAD))} for replicas with a "
                      "role")
    if scale != _BY_RATE:
        return
    roles = {model: {group.role for group in fleet.replicas if group.model.name == model}
             for model in (group.model.name for group in fleet.replicas)}
    for model, found in roles.items():
        if BOTH in found and len(found) > 1:
            yield Problem(("policies", "scale"), f"{scale} expects that all replicas of {model} "
                          "have a role, or none; expected one of "
                          f"{', '.join(_BY_OWN_LOAD)} where some have")
    if fleet.scaling.calibrate:
        yield Problem(("scaling", "calibrate"), "learns the times of replicas that serve whole "
                      "requests; expected false for replicas with a role")


def _meeting_problems(groups: tuple[ReplicaGroup, ...]) -> Iterator[Problem]:
    """Yield SGLang's engines of one host that would wait for others at the same port."""
    taken: set[tuple[str | None, int]] = set()
    for i, group in enumerate(groups):
        if group.role != PREFILL or group.engine != "sglang":
            continue
        for number, url in enumerate(group.endpoints):
            port = group.bootstrap_ports[number] if group.bootstrap_ports else BOOTSTRAP_PORT
            place = urlsplit(url).hostname, port
            if place in taken:
                yield Problem(("replicas", i, "bootstrap_ports"),
                              f"{port} is the port of two engines on {place[0]}; "
                              "expected a port for each endpoint")
                return
            taken.add(place)


def _partner_problems(path: tuple[str | int, ...], group: ReplicaGroup,
                      groups: tuple[ReplicaGroup, ...]) -> Iterator[Problem]:
    wanted = DECODE if group.role == PREFILL else PREFILL
    others = [other for other in groups
              if other.role == wanted and other.model.name == group.model.name]
    if not others:
        yield Problem(path, f"{group.role}, but no replicas of {group.model.name} have role: "
                            f"{wanted}")
    if group.lora is not None and others and all(other.lora is None for other in others):
        yield Problem((*path[:-1], "lora"), f"takes adapters, but no replicas of the role {wanted} "
                                            "do; expected lora for both roles")
    engines = {other.engine for other in others}
    if engines and _ANY not in engines and group.engine not in (_ANY, *engines):
        yield Problem((*path[:-1], "engine"),
                      f"{group.engine}, but replicas of the role {wanted} have "
                      f"{', '.join(sorted(engines))}; a KV cache moves between engines of one kind")
        return
    for other in others:
        if other.kv_precision != group.kv_precision:
            yield Problem((*path[:-1], "kv_precision"),
                          f"{group.kv_precision}, but replicas of the role {wanted} have "
                          f"{other.kv_precision}; a KV cache moves as it is")
            return


def roles_of(fleet: Fleet) -> Roles | None:
    """Return the role of each replica, in order of number, None where all do everything."""
    if fleet.disaggregation is None:
        return None
    groups = [group for group in fleet.replicas for _ in range(group.count)]
    return Roles([group.role for group in groups],
                 [least_tokens(fleet, group) for group in groups])


def least_tokens(fleet: Fleet, group: ReplicaGroup) -> int:
    """Return the fewest tokens of a prompt that replicas take which compute prompts, else 0."""
    if group.role != PREFILL or fleet.disaggregation is None:
        return 0
    own = group.min_prompt_tokens
    return fleet.disaggregation.min_prompt_tokens if own is None else own
