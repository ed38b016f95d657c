"""What is known of a site's accelerators where confidential deployments are concerned."""

from collections.abc import Mapping
from pathlib import Path

from penstock.attest.make import make_verifier
from penstock.attest.tokens import MOST_BYTES
from penstock.attest.values import Challenge, EvidenceError
from penstock.control.site import Site
from penstock.core.attestation import Attestation, Confidentiality
from penstock.core.errors import InputError


def standing(site: Site, now_s: float) -> Mapping[int, Confidentiality]:
    """The standing of every accelerator by its number, by the evidence that lies in the fleet
    file's place for it now; ``now_s`` is seconds since 1970."""
    pool = site.fleet.accelerators[0]
    numbers = range(pool.count or 0)
    mode_on, source, rules = pool.accelerator.confidential, pool.attestation, site.fleet.attestation
    if not mode_on or source is None or rules is None:
        return dict.fromkeys(numbers, Confidentiality(mode_on))
    attestations: tuple[Attestation, ...] = ()
    doubt = ""
    try:
        with Path(source.evidence).open("rb") as file:
            evidence = file.read(MOST_BYTES + 1)
        attestations = (make_verifier(rules).verify(
            evidence, Challenge(source.nonce, source.devices), now_s),)
    except EvidenceError as error:
        doubt = f"its evidence {error}"
    except (OSError, InputError) as error:
        doubt = f"its evidence cannot be had: {error}"
    return dict.fromkeys(numbers, Confidentiality(mode_on, attestations, doubt))
