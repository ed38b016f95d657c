"""Cycle logs of Inferno's control loop: what each cycle observed, knew and decided.

Source: llm-inferno/control-loop ``pkg/monitor/record.go``; one JSON object a line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from penstock.core.errors import InputError
from penstock.published.inferno.fields import Fields
from penstock.published.inferno.values import Load, Targets

State = tuple[float, float, float]
"""alpha, beta and gamma in ms."""


@dataclass(frozen=True, slots=True)
class LoggedServer:
    """One server of a cycle: the observed load and mean latencies in ms, its targets, and the
    decision. ``max_batch`` is 0 in logs of versions without it."""

    name: str
    service_class: str
    model: str
    load: Load
    ttft_ms: float
    itl_ms: float
    targets: Targets
    accelerator: str
    num_replicas: int
    max_batch: int
    cost_cents_per_hour: float


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle. ``states`` are the parameters that the optimizer got, by model and accelerator;
    ``capacity`` are the cards of the accelerators in use."""

    number: int
    servers: tuple[LoggedServer, ...]
    states: Mapping[tuple[str, str], State]
    capacity: Mapping[str, int]


def read_cycles(path: Path) -> tuple[Cycle, ...]:
    """Read a cycle log. Raises InputError with the line that is no cycle."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return tuple(_cycle(line, f"{path}:{number}")
                 for number, line in enumerate(lines, 1) if line.strip())


def _cycle(line: bytes, where: str) -> Cycle:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON") from error
    if not isinstance(found, dict):
        raise InputError(f"{where}: expected a JSON object, one control cycle")
    top = Fields(found, where)
    for part in ("servers", "internals", "capacity"):
        top.require(part)
    states = {(one.text("model"), one.text("acc")):
              (one.number("alpha"), one.number("beta"), one.number("gamma"))
              for one in top.parts("internals")}
    return Cycle(top.count("cycle"), tuple(_server(one) for one in top.parts("servers")), states,
                 {one.text("type"): one.count("available") for one in top.parts("capacity")})


def _server(one: Any) -> LoggedServer:
    load = Load(one.number("rpm"), one.count("avgInTok"), one.count("avgOutTok"),
                one.number("throughput"))
    return LoggedServer(
        one.text("name"), one.text("class"), one.text("model"), load, one.number("ttft"),
        one.number("itl"), Targets(one.number("sloTtft") or None, one.number("sloItl") or None),
        one.text("accelerator"), one.count("replicas"), one.count("maxBatch"), one.number("cost"))
