"""Questions about one replica as a queue, from their fields to the problem that a mode answers.

The command line and the planning API ask them. Errors name a field as its section does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from penstock.core.errors import InputError, fields_called
from penstock.fleet.request_queue import QueueQuestion, QueueTargets, StepTimes
from penstock.fleet.requests import read_request
from penstock.perf.queueing.mode import QueueMode, QueueProblem
from penstock.perf.queueing.parameters import (
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)
from penstock.registry.sources import QUEUE_MODES, inputs_of_other_modes

PATHS = {"rate": "rate_per_s", "optimal concurrency": "times.delta_ms",
         **{name: name for name in QueueQuestion.model_fields},
         **{name: f"times.{name}" for name in StepTimes.model_fields},
         **{name: f"targets.{name}" for name in QueueTargets.model_fields}}
"""Fields as errors of a mode begin with them, and where they stand in a question."""

AQuestion = TypeVar("AQuestion", bound=QueueQuestion)


def read_question(kind: type[AQuestion], body: Any) -> AQuestion:
    """Return the question of a body. Raises InputError, also for fields that its mode does not
    read."""
    question = read_request(kind, body, "body")
    for name, other in inputs_of_other_modes(question.mode).items():
        if _is_stated(question, PATHS[name]):
            raise InputError(f"body: {PATHS[name]}: only mode {other} has it; leave it out")
    if _is_stated(question, "times.delta_ms") and _is_stated(question, "times.max_step_tokens"):
        raise InputError("body: times.max_step_tokens: has no meaning beside times.delta_ms; "
                         "expected one of them")
    return question


def _is_stated(question: QueueQuestion, path: str) -> bool:
    *sections, name = path.split(".")
    section: Any = question
    for part in sections:
        section = getattr(section, part, None)
    return section is not None and name in section.model_fields_set


def errors_called(place: Callable[[str], str]) -> AbstractContextManager[None]:
    """Return a context in which errors about fields begin with ``place`` of their path."""
    return fields_called({name: place(path) for name, path in PATHS.items()})


def mode_of(question: QueueQuestion) -> QueueMode:
    """Return the model that answers the question."""
    mode: QueueMode = QUEUE_MODES.load(question.mode)
    return mode


def problem_of(question: QueueQuestion, targets: QueueTargets | None = None) -> QueueProblem:
    """Return the queue with its targets, for the mode to answer."""
    return QueueProblem(
        _spec(question), kv_tokens=question.kv_tokens, variability=Variability(
            question.arrivals_scv, question.prompt_scv, question.output_scv),
        **(targets.given() if targets else {}))


def _spec(question: QueueQuestion) -> QueueSpec:
    """Parameters with a delta are of the first generation, without of the second."""
    said = question.times
    times = IterationTimes(said.alpha_ms, said.beta_ms, said.gamma_ms, said.max_step_tokens) \
        if said.delta_ms is None else \
        DecodePrefillTimes(said.alpha_ms, said.beta_ms, said.gamma_ms, said.delta_ms)
    size = RequestSize(question.input_tokens, question.output_tokens)
    return QueueSpec(times, size, question.max_batch, question.max_queue)
