"""Configurations as rows of a file, and every one that a model could have."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.units import GIB
from penstock.perf.fingerprint.cuts import Cuts
from penstock.perf.fingerprint.estimator import Estimate, Estimates
from penstock.perf.fingerprint.physics import Subject
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows

COLUMNS = ("Model", "TP", "PP", "DTYPE", "INT8_KV_Cache", "Output_Lenght", "Batch_Size")
PROMPT_COLUMN = "Prompt_Tokens"
"""May be there as well: prompts of another length than the fingerprints'."""

# Words of the columns DTYPE and INT8_KV_Cache -> precisions.
PRECISIONS: Mapping[str, str] = {"float16": "fp16", "int8": "int8", "int4": "int4",
                                 "int4_gptq": "int4_gptq"}
KV_PRECISIONS: Mapping[str, str] = {"true": "int8", "false": "fp16"}

RESULTS = ("latency_s", "latency_low_s", "latency_high_s", "memory_gib", "memory_low_gib",
           "memory_high_gib")


@dataclass(frozen=True, slots=True)
class Question:
    """One row: a model in a configuration, with the length of its answers and how many at once.
    ``cells`` are the row's own words, ``where`` its file and line."""

    model: str
    configuration: Configuration
    output_tokens: int
    batch: int
    prompt_tokens: int | None = None
    cells: tuple[str, ...] = ()
    where: str = ""


def read_questions(path: Path) -> list[Question]:
    """The rows of a CSV file with MaverIQ's columns; others may be there and are passed over.
    Raises InputError with file, line and column."""
    return [_question(row) for row in csv_rows(path, COLUMNS)]


def _question(row: CsvRow) -> Question:
    spread = Parallelism(row.whole("TP"), row.whole("PP"))
    return Question(
        row.text("Model"),
        Configuration(spread, row.choice("DTYPE", PRECISIONS),
                      row.choice("INT8_KV_Cache", KV_PRECISIONS)),
        row.whole("Output_Lenght"), row.whole("Batch_Size"),
        row.whole(PROMPT_COLUMN) if row.has(PROMPT_COLUMN) else None,
        tuple(row.text(column) for column in COLUMNS), row.where)


def write_answers(path: Path, questions: list[Question], answers: list[Estimate]) -> None:
    """The questions' own columns and ``RESULTS``, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *RESULTS))
        for question, answer in zip(questions, answers, strict=True):
            seconds, num_bytes = answer.latency_s, answer.memory_bytes
            figures = (seconds.value, seconds.low, seconds.high, num_bytes.value / GIB,
                       num_bytes.low / GIB, num_bytes.high / GIB)
            writer.writerow((*question.cells, *(f"{figure:.6g}" for figure in figures)))


def possible(subject: Subject, cuts: Cuts, model: str,
             num_accelerators: int) -> Iterator[Configuration]:
    """Every configuration of a model on so many accelerators in the precisions that fingerprints
    were made in: ranks can share its layers, each stage has one."""
    precisions = dict.fromkeys((key.precision, key.kv_precision) for key in cuts.keys
                               if key.model == model)
    for precision, kv_precision in precisions:
        for tensor in range(1, num_accelerators + 1):
            if subject.model.indivisible(tensor):
                continue
            for pipeline in range(1, min(num_accelerators // tensor,
                                         subject.model.num_layers) + 1):
                yield Configuration(Parallelism(tensor, pipeline), precision, kv_precision)


def answered(estimator: Estimates, questions: list[Question]) -> list[Estimate]:
    """The estimates, in order. Raises InputError that names the row."""
    found = []
    for question in questions:
        try:
            found.append(estimator.estimate(question.model, question.configuration,
                                            question.output_tokens, question.batch,
                                            question.prompt_tokens))
        except InputError as error:
            raise InputError(f"{question.where}: {error}" if question.where
                             else str(error)) from None
    return found
