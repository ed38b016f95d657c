"""Confidential fleets: problems of their sections, and conversion to values and back."""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.attest.values import Rules
from penstock.catalog import Catalog
from penstock.core.errors import InputError
from penstock.core.request import AUTO
from penstock.fleet.files import FileFinder
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError, Problem
from penstock.fleet.values_attestation import NO_EVIDENCE, EvidenceSource, PoolEvidence, Window

if TYPE_CHECKING:
    from penstock.fleet.document import FleetDocument, ReplicaSection
    from penstock.fleet.document_accelerators import AcceleratorSection
    from penstock.fleet.document_attestation import (
        AttestationSection,
        EvidenceSection,
        PoolEvidenceSection,
        WindowSection,
    )

_WEB = ("http://", "https://")
_OF_FILES = "is for files; a URL is sent a new one each time"


def confidential_models(document: "FleetDocument",
                        classes: Collection[str] | None = None) -> set[str]:
    """Return the models, as the file spells them, with confidential traffic in these classes (None:
    any)."""
    own_classes = {one.name for one in document.service_classes if one.confidential
                   and (classes is None or one.name in classes)}
    tenants = {one.name for one in document.gateway.tenants if one.confidential} \
        if document.gateway else set()
    every = [model.name for model in document.models]
    found: set[str] = set()
    for entry in document.traffic:
        asked = set(entry.mix or [one.name for one in document.service_classes])
        barred = tenants & set(entry.tenants or ()) and (
            classes is None or asked & set(classes))
        if asked & own_classes or barred:
            found.update(every if entry.model == AUTO else [entry.model or every[0]])
    return found


def attestation_problems(document: "FleetDocument", catalog: Catalog) -> Iterator[Problem]:
    """Yield modes that an accelerator does not have, traffic that no replica may ever take, and
    evidence that does not belong to its replicas."""
    for i, section in enumerate(document.accelerators):
        if section.attestation is not None:
            yield from _pool_problems(("accelerators", i, "attestation"), section.attestation,
                                      judged=document.attestation is not None)
        if not section.confidential:
            continue
        try:
            capable = catalog.accelerator(section.name).confidential
        except InputError:
            continue  # reported elsewhere
        if not capable:
            yield Problem(("accelerators", i, "confidential"),
                          f"{section.name} has no confidential-computing mode, by the catalog")
    in_mode = {one.name for one in document.accelerators if one.confidential}
    if not in_mode and (models := confidential_models(document)):
        yield Problem(("accelerators",), f"none is in confidential mode, which traffic of "
                                         f"{min(models)} demands; expected confidential: true")
    for i, replica in enumerate(document.replicas or ()):
        yield from _evidence_problems(("replicas", i, "attestation"), document, replica, in_mode)


def _evidence_problems(path: Path, document: "FleetDocument", replica: "ReplicaSection",
                       in_mode: Collection[str]) -> Iterator[Problem]:
    section = replica.attestation
    if section is None:
        return
    if replica.accelerator is not None and replica.accelerator not in in_mode:
        yield Problem(path, f"{replica.accelerator} is not in confidential mode "
                            "(accelerators[].confidential)")
    for key in ("evidence", "devices"):
        found = getattr(section, key)
        if found is not None and len(found) != replica.count:
            yield Problem((*path, key), f"{len(found)} for {replica.count} replicas; expected one "
                                        "for each")
    if section.evidence is not None:
        if document.attestation is None:
            yield Problem((*path, "evidence"), "no rules to verify it; expected a section "
                                               "attestation")
        if section.devices is None:
            yield Problem(path, "no devices; evidence must say which accelerators it is of")
        files = [one for one in section.evidence if not one.startswith(_WEB)]
        if files and section.nonce is None:
            yield Problem(path, "no nonce; a file cannot answer a challenge, so say with which "
                                "one it was made")
        if not files and section.nonce is not None:
            yield Problem((*path, "nonce"), _OF_FILES)
    yield from _window_problems(path, section.simulated)


def _pool_problems(path: Path, section: "PoolEvidenceSection", *,
                   judged: bool) -> Iterator[Problem]:
    stated = {key: getattr(section, key) is not None for key in ("evidence", "nonce", "devices")}
    if any(stated.values()) and not judged:
        yield Problem(path, "nothing says how to judge it; expected a section attestation")
    if section.evidence is not None and section.evidence.startswith(_WEB):
        del stated["nonce"]
        if section.nonce is not None:
            yield Problem((*path, "nonce"), _OF_FILES)
    if missing := [key for key, there in stated.items() if not there]:
        if len(missing) < len(stated):
            yield Problem((*path, missing[0]), "is missing; expected evidence and devices, and of "
                                               "a file the nonce that it was made with")
        elif section.simulated is None:
            yield Problem(path, "is empty; expected evidence and devices, or simulated")
    yield from _window_problems(path, section.simulated)


def _window_problems(path: Path, simulated: "list[WindowSection] | None") -> Iterator[Problem]:
    for i, window in enumerate(simulated or ()):
        if window.until_s is not None and window.until_s <= window.from_s:
            yield Problem((*path, "simulated", i), f"ends at {window.until_s:g} s, not after it "
                                                   f"begins, {window.from_s:g} s")


def resolve_rules(section: "AttestationSection | None",
                  files: FileFinder) -> Rules | None:
    """Return the rules for verifying evidence. Raises PlacedError where the keys are missing."""
    if section is None:
        return None
    return Rules(
        section.verifier, files.find(section.keys, ("attestation", "keys")), section.issuer,
        section.max_age_s, section.renew_s,
        {claim: tuple(values) for claim, values in section.reference.items()})


def resolve_evidence(path: Path, replica: "ReplicaSection", files: FileFinder,
                     num_accelerators: int) -> EvidenceSource:
    """Return the source of a group's evidence. Raises PlacedError."""
    section = replica.attestation
    if section is None:
        return NO_EVIDENCE
    found = tuple(one if one.startswith(_WEB) else files.find(one, (*path, "evidence", i))
                  for i, one in enumerate(section.evidence or ()))
    for i, devices in enumerate(section.devices or ()):
        if len(set(devices)) != num_accelerators:
            raise PlacedError((*path, "devices", i), f"{len(set(devices))} for a replica on "
                                                     f"{num_accelerators} accelerators")
    return EvidenceSource(
        found, section.nonce, tuple(tuple(one) for one in section.devices or ()),
        windows(section))


def windows(section: "EvidenceSection | PoolEvidenceSection | None") -> tuple[Window, ...]:
    """Return the times at which a simulation assumes the section's devices to be attested."""
    given = section.simulated if section is not None else None
    return tuple(Window(one.from_s, one.until_s) for one in given or ())


def resolve_pool_evidence(path: Path, pool: "AcceleratorSection",
                          files: FileFinder) -> PoolEvidence | None:
    """Return the source of a pool's evidence, or None. Raises PlacedError."""
    section = pool.attestation
    if section is None or section.evidence is None:
        return None
    assert section.devices is not None, "the fleet file was validated"
    if len(set(section.devices)) != pool.count:
        raise PlacedError((*path, "devices"), f"{len(set(section.devices))} for "
                                              f"{pool.count or 'no stated number of'} accelerators")
    source = section.evidence if section.evidence.startswith(_WEB) else files.find(
        section.evidence, (*path, "evidence"))
    return PoolEvidence(source, section.nonce, tuple(section.devices))


def rules_section(rules: Rules | None) -> dict[str, Any] | None:
    """Return the section of a file for these rules."""
    if rules is None:
        return None
    return asdict(rules) | {"reference": {claim: list(values)
                                          for claim, values in rules.reference.items()}}


def pool_evidence_section(source: PoolEvidence | None,
                          simulated: tuple[Window, ...]) -> dict[str, Any] | None:
    """Return the section of an accelerator's entry for this source."""
    if source is None and not simulated:
        return None
    found: dict[str, Any] = {"simulated": [asdict(window) for window in simulated] or None}
    if source is not None:
        found |= {"evidence": source.evidence, "nonce": source.nonce,
                  "devices": list(source.devices)}
    return found


def evidence_section(source: EvidenceSource) -> dict[str, Any] | None:
    """Return the section of a replica's entry for this source."""
    if source == NO_EVIDENCE:
        return None
    return {"evidence": list(source.evidence) or None, "nonce": source.nonce,
            "devices": [list(one) for one in source.devices] or None,
            "simulated": [asdict(window) for window in source.simulated] or None}
