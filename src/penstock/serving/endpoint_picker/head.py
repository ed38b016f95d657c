"""Headers of a request, as far as the endpoint picker reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.core.errors import quote
from penstock.core.slo import Slo
from penstock.serving.errors import ServiceError

DESTINATION = "x-gateway-destination-endpoint"
"""Header and metadata key of the chosen endpoints."""
SUBSET = f"{DESTINATION}-subset"
SERVED = f"{DESTINATION}-served"
DROPPED = "x-llm-d-request-dropped-reason"
REQUEST_ID = "x-request-id"

SELECTION = "test-epp-endpoint-selection"
"""Header by which a conformance test names the endpoints to choose from."""

DEFAULT_FLOW = "default-flow"
_OBJECTIVE = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
_FAIRNESS = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
_REWRITE = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
_TTFT_MS = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
_TPOT_MS = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
_OWN = "x-penstock-"
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Head:
    """The headers of a request, with names in lower case.

    ``subset`` are the endpoints that the gateway admits, None where it admits the whole pool. Of a
    header with several names the current name counts before the deprecated one.
    """

    headers: Mapping[str, str]
    subset: frozenset[str] | None = None

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.headers.get(":path", "").partition("?")[0]

    @property
    def objective(self) -> str | None:
        """The name of the InferenceObjective that the client asks for."""
        return self._first(_OBJECTIVE)

    @property
    def fairness_id(self) -> str:
        """The flow that the request belongs to."""
        return (self._first(_FAIRNESS) or DEFAULT_FLOW)[:_LONGEST_NAME]

    @property
    def model_rewrite(self) -> str | None:
        """The model name in the place of the body's."""
        return self._first(_REWRITE)

    @property
    def selection(self) -> tuple[str, ...]:
        """The endpoints that a conformance test names, as ``ip`` or ``ip:port``."""
        return listed(self.headers.get(SELECTION, ""))

    @property
    def content_bytes(self) -> int | None:
        """The length of the body that the client states."""
        stated = self.headers.get("content-length", "")
        return int(stated) if stated.isdecimal() else None

    def own_options(self) -> dict[str, str]:
        """Return the options that the request states for Penstock."""
        return {name: value for name, value in self.headers.items() if name.startswith(_OWN)}

    def slo(self, usual: Slo) -> Slo:
        """Return the targets of the class, with those of the request's headers in their place.
        Raises ServiceError for a value that is no time."""
        ttft_s, tpot_s = self._seconds(_TTFT_MS), self._seconds(_TPOT_MS)
        if ttft_s is None and tpot_s is None:
            return usual
        found = usual if ttft_s is None else replace(usual, ttft_s=ttft_s)
        # Time per output token is a mean over a request's tokens.
        return found if tpot_s is None else replace(found, itl_s=tpot_s, itl="mean")

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((value for name in names if (value := self.headers.get(name))), None)

    def _seconds(self, names: tuple[str, ...]) -> float | None:
        name = next((one for one in names if self.headers.get(one)), None)
        if name is None:
            return None
        try:
            found = float(self.headers[name])
        except ValueError:
            found = 0.0
        if not 0.0 < found < 1e9:
            raise ServiceError(400, f"{name}: expected milliseconds above 0, found "
                                    f"{quote(self.headers[name])}", "invalid_value", name)
        return found / 1000.0


def listed(text: str) -> tuple[str, ...]:
    """Return the entries of a comma-separated list."""
    return tuple(part for one in text.split(",") if (part := one.strip()))
