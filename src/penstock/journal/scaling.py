"""Records of a scaler's decisions: what it saw, and what it decided.

The first line of a record has the policy. Every other line has an observation with its decision.
The lengths of recent requests are left out where they are those of the line before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from penstock.core.errors import InputError
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    ScalingDecision,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)

KIND = "scaling"


def header(policy: str, settings: Mapping[str, Any], seed: int, version: str) -> dict[str, Any]:
    """Return the first line of a record."""
    return {"record": KIND, "version": version, "policy": policy, "settings": dict(settings),
            "seed": seed}


class ScalingLines:
    """Writes observations and decisions as lines, each against the line before."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str], tuple[tuple[int, int], ...]] = {}

    def line(self, wall_s: float | None, now_s: float, seen: Observation,
             targets: Sequence[int], decision: ScalingDecision) -> dict[str, Any]:
        """Return the line of a decision at ``now_s`` of the loop, ``wall_s`` of the day.
        ``targets`` are the ordered ones, within the groups' bounds."""
        return {"at_s": now_s, "wall_s": wall_s, "observed_s": seen.observed_s,
                "groups": [_group(one) for one in seen.groups],
                "demand": None if seen.demand is None else [self._demand(one)
                                                            for one in seen.demand],
                "decided": list(decision.targets), "targets": list(targets),
                "reason": decision.reason, "terms": dict(decision.terms),
                "attainment": decision.attainment,
                "next_best": None if decision.next_best is None else asdict(decision.next_best),
                **({"learned": [asdict(one) for one in decision.learned]}
                   if decision.learned else {})}

    def _demand(self, one: SeenDemand) -> dict[str, Any]:
        document = asdict(one)
        key = (one.model, one.service_class)
        if self._recent.get(key, ()) == one.recent:
            del document["recent"]
        self._recent[key] = one.recent
        if not one.num_deferred:
            del document["num_deferred"]
        return document


class ScalingJournal:
    """Writes a record to a binary stream."""

    def __init__(self, stream: BinaryIO, first: dict[str, Any]) -> None:
        self._stream = stream
        self._lines = ScalingLines()
        self._write(first)

    def add(self, now_s: float, seen: Observation, targets: Sequence[int],
            decision: ScalingDecision) -> None:
        """Write a decision at ``now_s`` of the loop."""
        self._write(self._lines.line(None, now_s, seen, targets, decision))

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _group(one: SeenGroup) -> dict[str, Any]:
    replicas = [[r.replica_id, r.state, r.since_s, r.observed_s, r.inflight_tokens,
                 None if r.gauges is None else [r.gauges.num_running, r.gauges.num_waiting,
                                                r.gauges.kv_used_share]] for r in one.replicas]
    return {"target": one.target, "replicas": replicas,
            "totals": None if one.totals is None else asdict(one.totals)}


class Recorded:
    """One recorded decision: the observation, and what was decided on it."""

    __slots__ = ("now_s", "seen", "targets")

    def __init__(self, now_s: float, seen: Observation, targets: tuple[int, ...]) -> None:
        self.now_s = now_s
        self.seen = seen
        self.targets = targets


def read_scaling(path: Path) -> Iterator[dict[str, Any] | Recorded]:
    """Yield the headers of a file and the decisions after each, in order. A gateway that is
    started again appends another header. Raises InputError."""
    recent: dict[tuple[str, str], tuple[tuple[int, int], ...]] = {}
    number = 0
    for number, line in _lines(path):
        if line.get("record") == KIND:
            recent = {}
            yield line
        elif number == 1:
            raise InputError(f"{path}:1: expected the first line of a record of scaling decisions; "
                             "a file that was rotated goes on in the file before")
        else:
            yield _decision(line, recent, f"{path}:{number}")
    if not number:
        raise InputError(f"{path}: is empty; expected a record of scaling decisions")


def _decision(line: dict[str, Any], recent: dict[tuple[str, str], tuple[tuple[int, int], ...]],
              place: str) -> Recorded:
    try:
        seen = Observation(line["observed_s"], tuple(map(_seen_group, line["groups"])),
                           None if line["demand"] is None else tuple(
                               _seen_demand(one, recent) for one in line["demand"]))
        return Recorded(line["at_s"], seen, tuple(line["decided"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{place}: expected a recorded scaling decision") from error


def _seen_group(one: Mapping[str, Any]) -> SeenGroup:
    replicas = tuple(
        SeenReplica(number, state, since_s, None if gauges is None else Gauges(*gauges), observed_s,
                    inflight_tokens)
        for number, state, since_s, observed_s, inflight_tokens, gauges in one["replicas"])
    return SeenGroup(one["target"], replicas,
                     None if one["totals"] is None else _totals(one["totals"]))


def _totals(one: Mapping[str, Any]) -> Totals:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                              for name, value in one.items()}
    return Totals(**values)


def _seen_demand(one: dict[str, Any], recent: dict[tuple[str, str], tuple[tuple[int, int], ...]]
                 ) -> SeenDemand:
    key = (one["model"], one["service_class"])
    if "recent" in one:
        recent[key] = tuple((prompt, output) for prompt, output in one["recent"])
    return SeenDemand(**{**one, "recent": recent.get(key, ())})


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                found = orjson.loads(text)
                if not isinstance(found, dict):
                    raise InputError(f"{path}:{number}: expected a JSON object")
                yield number, found
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}:{number}: not JSON") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
