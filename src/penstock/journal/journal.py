"""A record of all calls of a scheduler and of all its decisions."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields as fields_of
from pathlib import Path
from typing import IO, Any

import orjson

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import Chunk, Drafted, StepFeatures, StepPlan, StepResult
from penstock.core.value import plain_fields
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.store import step_time_document

VERSION = 1
_TARGETS = tuple(one.name for one in fields_of(Slo))
_OF_THE_ROUTER = ("needs", "forecasts")  # a scheduler does not use these


class Journal:
    """Writes one replica's calls as JSON lines: add, abort, plan, commit, returned, in the order
    made.

    Inside a real engine there are two more: amend, where the engine deviated from a plan, and
    believe, where the step-time model was fitted again.

    A plan that changed nothing (None) is not written, since a replay without it has the same plans.
    """

    def __init__(self, stream: IO[bytes], header: dict[str, Any]) -> None:
        self._stream = stream
        self._planned_s: dict[int, float] = {}
        self._last_commit_s = 0.0
        self._write({"kind": "header", "version": VERSION, **header})

    def _write(self, record: dict[str, Any]) -> None:
        self._stream.write(orjson.dumps(record, default=plain_fields,
                                        option=orjson.OPT_APPEND_NEWLINE))

    def add(self, request: Request, now_s: float) -> None:
        """A request was added."""
        fields = request._asdict()
        for name in _OF_THE_ROUTER:
            del fields[name]
        if not request.session:
            del fields["session"]
        if not request.adapter:
            del fields["adapter"]
        service_class = request.service_class
        slo = service_class.slo
        fields["service_class"] = {
            "name": service_class.name, "priority": service_class.priority,
            "weight": service_class.weight,
            "slo": {name: getattr(slo, name) for name in _TARGETS}}
        self._write({"kind": "add", "now_s": now_s, "request": fields})

    def abort(self, request_id: int, now_s: float) -> None:
        """A request was aborted."""
        self._write({"kind": "abort", "now_s": now_s, "request_id": request_id})

    def returned(self, request_id: int, now_s: float) -> None:
        """Another replica has the KV cache that a request lent."""
        self._write({"kind": "returned", "now_s": now_s, "request_id": request_id})

    def plan(self, plan: StepPlan, now_s: float) -> None:
        """A step was planned."""
        self._planned_s[plan.step] = now_s
        fields = plan.as_dict()
        if plan.drafted is None:
            del fields["drafted"]
        self._write({"kind": "plan", "now_s": now_s, "plan": fields})

    def amend(self, plan: StepPlan, ran: Mapping[int, tuple[int, int]],
              lost: Iterable[int]) -> None:
        """The engine deviated from the latest plan. The arguments are those of the scheduler's
        ``amend``."""
        rows = [(request_id, tokens, past) for request_id, (tokens, past) in ran.items()]
        self._write({"kind": "amend", "step": plan.step, "ran": rows, "lost": sorted(lost)})

    def believe(self, step_time: StepTimeModel) -> None:
        """The scheduler was given another step-time model."""
        self._write({"kind": "believe", "step_time": step_time_document(step_time)})

    def flush(self) -> None:
        """Flush to the operating system."""
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def commit(self, plan: StepPlan, result: StepResult, now_s: float) -> None:
        """A planned step has run."""
        started_s = max(self._planned_s.pop(plan.step, now_s), self._last_commit_s)
        self._last_commit_s = now_s
        # The duration of a run of several steps says nothing about a single step.
        duration_s = now_s - started_s if result.num_steps == 1 and plan.num_tokens else None
        self._write({"kind": "commit", "now_s": now_s, "duration_s": duration_s, "step": plan.step,
                     "features": plan.features, "finished": result.finished,
                     "num_steps": result.num_steps})


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal file, the header first.

    Raises InputError with the line number for anything that is not a journal of this version.
    """
    try:
        with path.open("rb") as stream:
            yield from _records(stream, path)
    except OSError as error:
        raise InputError(f"{path}: cannot read the journal: {error.strerror}") from error


def _records(lines: Iterable[bytes], path: Path) -> Iterator[dict[str, Any]]:
    kinds = {"header", "add", "abort", "plan", "commit", "amend", "believe", "returned"}
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not a JSON record: {error}") from error
        if not isinstance(record, dict) or record.get("kind") not in kinds:
            raise InputError(f"{path}:{number}: expected a record of kind {sorted(kinds)}")
        if (number == 1) != (record["kind"] == "header"):
            raise InputError(f"{path}:{number}: expected the header on the first line only")
        if number == 1 and record.get("version") != VERSION:
            raise InputError(f"{path}:1: journal version {record.get('version')!r}, "
                             f"expected {VERSION}")
        yield record
    if not number:
        raise InputError(f"{path}: the journal is empty")


def read_plan(fields: dict[str, Any]) -> StepPlan:
    """Read a plan from its journal form."""
    return StepPlan(
        step=fields["step"], chunks=tuple(Chunk(*chunk) for chunk in fields["chunks"]),
        decode_ids=tuple(fields["decode_ids"]), features=StepFeatures(*fields["features"]),
        groups=tuple(fields["groups"]), joined=tuple((i, g) for i, g in fields["joined"]),
        left=tuple(fields["left"]), preempted=tuple(fields["preempted"]),
        relegated=tuple(fields["relegated"]), restored=tuple(fields["restored"]),
        shed=tuple((i, reason) for i, reason in fields["shed"]),
        drafted=Drafted(*fields["drafted"]) if "drafted" in fields else None)


def read_request(fields: dict[str, Any]) -> Request:
    """Read a request from its journal form."""
    service_class = dict(fields["service_class"])
    slo = Slo(**service_class.pop("slo"))
    values = {**fields, "service_class": ServiceClass(slo=slo, **service_class),
              "prefix_hashes": tuple(fields["prefix_hashes"])}
    return Request(**values)
