"""The real engines that a fleet file names."""

from penstock.engines.client.state import EngineFacts, EvidencePlace
from penstock.fleet.disaggregation import least_tokens
from penstock.fleet.replica_factory import relative_speeds
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.fleet.values_attestation import EvidenceSource
from penstock.fleet.values_disaggregation import BOOTSTRAP_PORT
from penstock.fleet.values_speculation import Speculation


def facts_of(fleet: Fleet) -> list[EngineFacts]:
    """Return the engines of a fleet that have an endpoint, numbered like the fleet's replicas."""
    found: list[EngineFacts] = []
    speeds = iter(relative_speeds(fleet))
    replica_id = 0
    for group in fleet.replicas:
        for number in range(group.count):
            speed = next(speeds)
            if group.endpoints:
                classes = group.service_classes
                found.append(EngineFacts(
                    replica_id, group.endpoints[number], group.model.name,
                    None if classes is None else frozenset(classes), kv_tokens(fleet, group),
                    speed, group.engine, group.served_as, group.accelerator.confidential,
                    _evidence(group.attestation, number), _of(group.kv_events, number),
                    _of(group.kv_replay, number), group.lora, group.role,
                    group.bootstrap_ports[number] if group.bootstrap_ports else BOOTSTRAP_PORT,
                    _drafted_tokens(group.speculation), least_tokens(fleet, group)))
            replica_id += 1
    return found


def _drafted_tokens(speculation: Speculation | None) -> float | None:
    """Return the tokens of a turn by the stated acceptance, that of other classes."""
    if speculation is None:
        return None
    return speculation.acceptance_of("").tokens_per_turn(speculation.depth.tokens)


def _of(addresses: tuple[str, ...], number: int) -> str | None:
    """Return a replica's address. One address may stand for all replicas."""
    if not addresses:
        return None
    return addresses[0] if len(addresses) == 1 else addresses[number]


def _evidence(source: EvidenceSource, number: int) -> EvidencePlace | None:
    if not source.evidence:
        return None
    return EvidencePlace(source.evidence[number], source.nonce, source.devices[number])
