"""Options of commands that estimate: what is allowed, and what is free."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.perf.fingerprint.estimator import Estimates
    from penstock.policy.place.values import Device


def allowed_precisions(precisions: str | None) -> frozenset[str] | None:
    """Number formats of ``--precisions``, None for any. Raises InputError for an unknown one."""
    from penstock.core.errors import InputError, nearest
    from penstock.perf.fingerprint.physics import PRECISIONS

    if precisions is None:
        return None
    allowed = frozenset(word.strip() for word in precisions.split(","))
    for word in sorted(allowed):
        if word not in PRECISIONS:
            raise InputError(f"--precisions: {word!r} is unknown{nearest(word, PRECISIONS)}")
    return allowed


def free_devices(found: "Estimates", model: str, accelerators: int,
                 used_gib: str | None) -> list["Device"]:
    """The accelerators with what is used on each. Raises InputError."""
    from penstock.core.errors import InputError, nearest
    from penstock.core.units import GIB
    from penstock.policy.place.values import Device

    if model not in found.subjects:
        raise InputError(f"model {model!r} has no fingerprints{nearest(model, found.subjects)}")
    total = found.subjects[model].accelerator.memory_bytes
    try:
        used = [float(word) for word in used_gib.split(",")] if used_gib else [0.0] * accelerators
    except ValueError:
        raise InputError(f"--used-gib: {used_gib!r}; expected numbers parted by commas") from None
    if len(used) != accelerators or not all(0.0 <= one * GIB <= total for one in used):
        raise InputError(f"--used-gib: {used_gib!r}; expected {accelerators} numbers from 0 to "
                         f"{total / GIB:g}")
    return [Device(i, "node", total, round(one * GIB)) for i, one in enumerate(used)]
