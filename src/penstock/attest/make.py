"""The verifier that a fleet file names."""

from penstock.attest.nvidia import NvidiaVerifier
from penstock.attest.signed import SignedVerifier
from penstock.attest.values import Rules, Verifier


def make_verifier(rules: Rules) -> Verifier:
    """Return the verifier of these rules."""
    return NvidiaVerifier(rules) if rules.verifier == "nvidia" else SignedVerifier(rules)
