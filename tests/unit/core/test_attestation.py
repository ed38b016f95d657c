"""The one rule of who may take a confidential request."""

import pytest

from penstock.core.attestation import (
    EXPIRED,
    NO_ATTESTATION,
    NOT_CONFIDENTIAL,
    NOT_KNOWN,
    NOT_YET,
    Attestation,
    AttestationViolation,
    Confidentiality,
    attestation_violation,
    refusal,
)

ONE, NEXT = Attestation("v", 10.0, 20.0), Attestation("v", 25.0, 30.0)


def replica(*attestations: Attestation, doubt: str = "") -> Confidentiality:
    return Confidentiality(mode_on=True, attestations=attestations, doubt=doubt)


@pytest.mark.parametrize(("now_s", "reason"), [
    (9.9, NOT_YET), (10.0, None), (19.9, None), (20.0, EXPIRED), (24.9, EXPIRED), (25.0, None),
    (30.0, EXPIRED)])
def test_it_holds_from_its_beginning_until_just_before_its_end(now_s: float,
                                                               reason: str | None) -> None:
    found = attestation_violation(replica(ONE, NEXT), now_s)
    assert (found and found.reason) == reason


def test_what_is_unknown_is_refused() -> None:
    assert attestation_violation(NOT_KNOWN, 0.0) == AttestationViolation(NOT_CONFIDENTIAL)
    assert attestation_violation(replica(), 0.0) == AttestationViolation(NO_ATTESTATION)


def test_an_attestation_of_accelerators_that_are_not_in_the_mode_is_worth_nothing() -> None:
    assert attestation_violation(Confidentiality(mode_on=False, attestations=(ONE,)), 15.0) == \
        AttestationViolation(NOT_CONFIDENTIAL)


def test_it_says_what_is_wrong_and_since_when() -> None:
    assert str(attestation_violation(replica(ONE), 32.4)) == f"{EXPIRED} (12 s ago)"
    assert str(attestation_violation(replica(ONE), 3.0)) == f"{NOT_YET} (in 7 s)"
    assert str(attestation_violation(replica(doubt="debug mode is on"), 0.0)) == \
        f"{NO_ATTESTATION} (debug mode is on)"
    assert str(attestation_violation(replica(ONE, doubt="no answer"), 21.0)) == \
        f"{EXPIRED} (1 s ago; no answer)"


def test_a_refusal_names_every_reason_once_and_no_time() -> None:
    violations = [attestation_violation(replica(ONE), 32.4),
                  attestation_violation(replica(ONE), 99.0), attestation_violation(NOT_KNOWN, 0.0)]
    said = refusal(one for one in violations if one)
    assert said.count(EXPIRED) == 1
    assert NOT_CONFIDENTIAL in said
    assert "12 s" not in said
