"""How much traffic it takes before a target that lies far off can be missed."""

from math import ceil, floor, log10

from penstock.fleet.sources import DEFAULT_NUM_REQUESTS
from penstock.fleet.values import Fleet

# A queue that grows by a fifth of what comes in is as long as a target after five times its span.
TARGETS_LONG = 5.0


def longest_target_s(fleet: Fleet) -> float | None:
    """The longest TTFT or e2e target of any class; None where none is set."""
    targets = [target for c in fleet.service_classes for target in (c.slo.ttft_s, c.slo.e2e_s)
               if target is not None]
    return max(targets, default=None)


def fields_to_raise(fleet: Fleet, num_requests: int, rate_per_s: float) -> dict[str, float]:
    """Fields of the fleet file that keep the run short, each with the value that suffices.

    ``num_requests`` arrive now; at ``rate_per_s`` they should go on for TARGETS_LONG times the
    longest target. Values are rounded up to two digits. Empty where they do, or nothing is due.
    """
    target_s = longest_target_s(fleet)
    if target_s is None or num_requests >= TARGETS_LONG * target_s * rate_per_s:
        return {}
    factor = TARGETS_LONG * target_s * rate_per_s / num_requests
    fields: dict[str, float] = {}
    capped = fleet.run.num_requests is not None or fleet.run.duration_s is not None
    if fleet.run.num_requests is not None:
        fields["run.num_requests"] = fleet.run.num_requests * factor
    if fleet.run.duration_s is not None:
        fields["run.duration_s"] = fleet.run.duration_s * factor
    alone = len(fleet.traffic) == 1
    for place, spec in enumerate(fleet.traffic):
        entry = f"traffic[{place}]"
        if spec.duration_s is not None and spec.num_requests is None:
            fields[f"{entry}.duration_s"] = spec.duration_s * factor
        elif spec.num_requests is not None or not capped:
            # With one entry count what came, which a cap of the run may have cut.
            number = num_requests if alone else spec.num_requests or DEFAULT_NUM_REQUESTS
            fields[f"{entry}.num_requests"] = number * factor
    return {name: _round_up(value) for name, value in fields.items()}


def _round_up(value: float) -> int:
    unit = int(10 ** max(0, floor(log10(value)) - 1))
    return ceil(value / unit - 1e-9) * unit
