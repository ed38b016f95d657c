"""The decision log beside the ledger: every request once, with the tokens of its charge."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from penstock.core.errors import InputError
from penstock.core.units import SECONDS_PER_HOUR


class Line(NamedTuple):
    """One decision of the log. ``amounts`` are tenant, prompt and output tokens, charged nanos and
    whether the usage is disputed."""

    gateway: str
    settled_at_s: float
    outcome: str
    amounts: tuple[str, int, int, int, bool]

    @property
    def delivered(self) -> bool:
        """Whether anything was delivered."""
        return any(self.amounts[1:4])


@dataclass(slots=True)
class Log:
    """Decisions by id, the differences found while reading, the first moment of each gateway, and
    its requests by outcome."""

    lines: dict[str, Line] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    since_s: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_log(paths: Sequence[Path]) -> Log:
    """Read files of decisions, each with the older files of its rotation. Raises InputError."""
    log = Log()
    for path in paths:
        older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), reverse=True)
        for file in (*older, path):
            try:
                with file.open("rb") as lines:
                    for number, line in enumerate(lines, 1):
                        _add(log, line, f"{file}:{number}")
            except OSError as error:
                raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    return log


def _add(log: Log, text: bytes, place: str) -> None:
    try:
        document = orjson.loads(text)
        name, outcome = str(document["decision_id"]), document["outcome"]
        if "charged_nanos" not in outcome:
            return  # a release that did not log charges
        line = Line(document["gateway"] or "", float(document["settled_at_s"]),
                    str(outcome["outcome"]), (
                        str(document["tenant"]), int(outcome["prompt_tokens"]),
                        int(outcome["output_tokens"]), int(outcome["charged_nanos"]),
                        outcome["dispute"] is not None))
    except (ValueError, KeyError, TypeError, AttributeError):
        log.differences.append(f"{place}: is no whole decision")
        return
    if name in log.lines:
        log.differences.append(f"decision {name}: stands in the log twice, again at {place}")
        return
    log.lines[name] = line
    log.outcomes[line.gateway, line.outcome] += 1
    log.since_s[line.gateway] = min(line.settled_at_s,
                                    log.since_s.get(line.gateway, line.settled_at_s))


class LogJoin:
    """Joins charges with the log. Charges from before ``kept_since_s`` may be pruned."""

    def __init__(self, log: Log, kept_since_s: float) -> None:
        self._log = log
        self._kept_since_s = kept_since_s
        self._seen: set[str] = set()
        self._found: list[str] = []

    def add(self, charge: Any) -> None:
        """Compare one charge, a row of the ledger."""
        name, line = charge.decision_id, self._log.lines.get(charge.decision_id)
        amounts = (charge.tenant, charge.prompt_tokens, charge.output_tokens, charge.charged_nanos,
                   bool(charge.disputed))
        if line is None:
            since_s = self._log.since_s.get(charge.gateway)
            # Decisions about confidential requests, whose hour alone is recorded, are not logged,
            # nor are those whose gateway died before it could.
            if since_s is not None and charge.at_s >= since_s and not charge.resolved \
                    and not is_confidential(charge):
                self._found.append(f"decision {name}: is charged and not in the log")
            return
        self._seen.add(name)
        if charge.resolved and all(
                of_charge <= of_log
                for of_charge, of_log in zip(amounts[1:4], line.amounts[1:4], strict=True)):
            return  # as last recorded before the gateway died
        if amounts != line.amounts:
            self._found.append(f"decision {name}: the ledger has {_told(amounts)}, the log "
                               f"{_told(line.amounts)}")

    def differences(self) -> Iterator[str]:
        """Return all differences, after the last charge."""
        yield from self._log.differences
        yield from sorted(self._found)
        for name, line in sorted(self._log.lines.items()):
            if line.delivered and name not in self._seen and line.gateway \
                    and line.settled_at_s >= self._kept_since_s:
                yield f"decision {name}: the log has {_told(line.amounts)}, the ledger no charge"


def is_confidential(charge: Any) -> bool:
    """Whether a charge is of a confidential request: only its hour is recorded."""
    return bool(charge.at_s % SECONDS_PER_HOUR == 0)


def _told(amounts: tuple[str, int, int, int, bool]) -> str:
    tenant, prompt, output, nanos, disputed = amounts
    return (f"{tenant}, {prompt} + {output} tokens, {nanos} nanos"
            f"{', disputed' if disputed else ''}")
