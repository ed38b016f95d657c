"""Answer to one request as observed by the client: times, tokens and outcome."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from penstock.metrics.definitions import FloatColumn

FINISHED = "finished"
REFUSED, OUT_OF_BUDGET, INVALID = "refused", "out_of_budget", "invalid"
FAILED, UNREACHABLE, TIMED_OUT, BROKEN = "failed", "unreachable", "timed_out", "broken"
CUT_OFF = "cut_off"

OUTCOMES = {
    FINISHED: "answered completely",
    REFUSED: "rejected for now: status 429 or 503",
    OUT_OF_BUDGET: "rejected or cut off for lack of money: status 402, or an error that says so",
    INVALID: "not accepted: any other status from 300 to 499",
    FAILED: "the server says that it failed: status 500 and above, or an error in the stream",
    UNREACHABLE: "no connection came about",
    TIMED_OUT: "gave no token, or not all, in the time that it had",
    BROKEN: "the connection ended, or carried invalid data, before the answer's end",
    CUT_OFF: "cancelled by the client while in progress",
}
"""The outcomes of a request, with their meaning."""

# Words in errors of OpenAI, LiteLLM and Penstock about an exhausted budget.
_BUDGET_WORDS = ("insufficient_quota", "budget", "billing", "insufficient_funds",
                 "insufficient_credits")


class TokenEvent(NamedTuple):
    """Text that arrived at ``at_s``. ``output_tokens`` is the engine's running total, if it reports
    one."""

    at_s: float
    text: str
    output_tokens: int | None = None


@dataclass(slots=True)
class Answer:
    """One request as observed by its client. Times are seconds on the client's clock.

    ``prompt_tokens`` and ``output_tokens`` are the server's counts (usage), None where it reports
    none. ``streamed`` is False for an answer in one piece, which is one event, so that TTFT equals
    e2e. ``reason`` is one line about why a request did not finish. ``headers`` are the answer's
    headers, with names in lower case.
    """

    sent_s: float
    ended_s: float = float("nan")
    outcome: str = FINISHED
    reason: str = ""
    status: int | None = None
    streamed: bool = True
    events: list[TokenEvent] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self.outcome == FINISHED

    @property
    def text(self) -> str:
        """The received text, including reasoning."""
        return "".join(event.text for event in self.events)

    @property
    def num_tokens(self) -> int:
        """Output tokens by the server's count; without a count, or with a count of 0, one for each
        event."""
        return self.output_tokens or len(self.events)

    def token_times_s(self) -> FloatColumn:
        """Return the arrival times of all ``num_tokens`` tokens, sorted.

        An event may carry several tokens. With a running usage, each event gets its own tokens.
        Otherwise tokens are spread evenly over the events, from the first event to the last.
        """
        moments = np.array([event.at_s for event in self.events])
        num = self.num_tokens
        if not len(moments):
            # A complete answer may have no text. Its tokens then arrive at its end.
            return np.full(num if self.finished else 0, self.ended_s)
        totals = [event.output_tokens for event in self.events]
        known = [total for total in totals if total is not None]
        if len(known) == len(totals) and known[-1] == num and known == sorted(known):
            places = np.repeat(np.arange(len(moments)), np.diff(np.array([0, *known])))
        else:
            stride = (len(moments) - 1) / max(1, num - 1)
            places = np.rint(np.arange(num) * stride).astype(np.int64)
        return np.asarray(moments[places])

    def end(self, outcome: str, reason: str) -> None:
        """Record an outcome other than success."""
        self.outcome, self.reason = outcome, " ".join(reason.split())[:300]


def refusal(status: int, document: Any) -> tuple[str, str]:
    """Return outcome and reason of an answer with a status other than 200, or of an error in a
    stream.

    ``document`` is the body's JSON, or its text where it is not JSON.
    """
    error = document.get("error", document) if isinstance(document, dict) else document
    fields: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    message = str(fields.get("message") or fields.get("detail") or "")
    said = f"{fields.get('code')} {fields.get('type')}".lower()
    reason = f"status {status}: {message}" if message else f"status {status}"
    if status == 402 or any(word in said for word in _BUDGET_WORDS):
        return OUT_OF_BUDGET, reason
    if status in (429, 503):
        return REFUSED, reason
    return (FAILED if status >= 500 else INVALID), reason
