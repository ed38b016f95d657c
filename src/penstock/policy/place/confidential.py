"""Devices that a confidential model may be placed on."""

from collections.abc import Mapping, Sequence

from penstock.core.attestation import NOT_KNOWN, Confidentiality, attestation_violation
from penstock.policy.place.values import Device, Infeasible


def attested(devices: Sequence[Device], known: Mapping[int, Confidentiality],
             now_s: float) -> list[Device] | Infeasible:
    """Return the devices that may hold a confidential model, or the reason why there are none. A
    device that is not in ``known`` may not."""
    found, reasons = [], set()
    for device in devices:
        why = attestation_violation(known.get(device.device_id, NOT_KNOWN), now_s)
        if why is None:
            found.append(device)
        else:
            reasons.add(str(why))
    if found:
        return found
    return Infeasible("no accelerator may hold a confidential model: every one "
                      + " or ".join(sorted(reasons)) if reasons else "there is no accelerator")
