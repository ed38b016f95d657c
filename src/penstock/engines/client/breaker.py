"""Circuit breaker of a failing engine."""

from dataclasses import dataclass

FAILURES_TO_OPEN = 3
"""Consecutive failures after which an engine gets no requests for a while."""

FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 30.0


@dataclass(slots=True)
class Breaker:
    """Closed while requests succeed; open for a pause after consecutive failures; then half open:
    one request probes, and the others wait for its outcome.

    Each pause is twice as long as the one before. Times are seconds on the caller's clock, which
    must be monotonic.
    """

    failures: int = 0
    closed_until_s: float = float("-inf")
    probe: int | None = None

    def reason(self, now_s: float) -> str | None:
        """Return why no request may go now, None if one may."""
        if self.failures < FAILURES_TO_OPEN:
            return None
        if now_s < self.closed_until_s:
            return f"failed {self.failures} times in a row"
        return None if self.probe is None else "is being tried with one request"

    def begin(self, request_id: int) -> None:
        """A request is sent. After a pause it is the probe."""
        if self.failures >= FAILURES_TO_OPEN and self.probe is None:
            self.probe = request_id

    def end(self, request_id: int) -> None:
        """A request has ended: it succeeded, failed or was cancelled."""
        if self.probe == request_id:
            self.probe = None

    def succeeded(self) -> bool:
        """A request succeeded. Returns whether that closes the breaker."""
        recovered, self.failures = self.failures >= FAILURES_TO_OPEN, 0
        return recovered

    def failed(self, now_s: float) -> None:
        """A request failed through a fault of the engine."""
        self.failures += 1
        if self.failures >= FAILURES_TO_OPEN:
            # the exponent is capped first: a power beyond the range of floats is an error
            doublings = min(self.failures - FAILURES_TO_OPEN, 10)
            self.closed_until_s = now_s + min(FIRST_PAUSE_S * 2.0**doublings, MOST_PAUSE_S)
