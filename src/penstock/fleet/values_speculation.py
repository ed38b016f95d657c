"""Speculative decoding of a group's replicas."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.draft_depth import DraftDepth
from penstock.core.model import ModelSpec
from penstock.perf.speculation.acceptance import Acceptance
from penstock.perf.speculation.draft import Method

SGLANG_DRAFTED_SEQS = 48
"""SGLang's ``--max-running-requests`` with drafts, unless stated (its page on DeepSeek)."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """How replicas draft, and which drafts are accepted.

    ``acceptance`` is by service class; the empty name has that of all other classes. ``draft`` is
    the draft model of the method ``draft_model``, whose weights are in ``draft_precision``.
    """

    method: Method
    depth: DraftDepth
    acceptance: Mapping[str, Acceptance] = field(default_factory=dict)
    draft: ModelSpec | None = None
    draft_precision: str = "bf16"

    def acceptance_of(self, service_class: str) -> Acceptance:
        """Return the acceptance of a service class."""
        found = self.acceptance.get(service_class)
        return self.acceptance[""] if found is None else found


def drafted_seqs(speculation: Speculation | None, engine: str) -> int | None:
    """Return the most sequences that an engine runs by default where it drafts, None where drafts
    change nothing."""
    return SGLANG_DRAFTED_SEQS if speculation is not None and engine == "sglang" else None
