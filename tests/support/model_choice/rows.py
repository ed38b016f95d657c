"""Prompts with the measured correctness of a weak and a strong model."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError

_COLUMNS = ("prompt", "weak_correct", "strong_correct", "subset")


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceRows:
    """``weak`` and ``strong`` are qualities from 0 to 1; ``subsets`` name each prompt's topic."""

    prompts: tuple[str, ...]
    weak: NDArray[np.float64]
    strong: NDArray[np.float64]
    subsets: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> "ChoiceRows":
        """The rows at these places."""
        return ChoiceRows(tuple(self.prompts[place] for place in places), self.weak[places],
                          self.strong[places], self.subsets[places])


def read_choice_rows(path: Path) -> ChoiceRows:
    """A CSV file (gzipped if its name ends in .gz) with columns prompt, weak_correct,
    strong_correct and subset; others are ignored. Raises InputError for anything else."""
    try:
        with (gzip.open(path, "rt", encoding="utf-8", newline="") if path.suffix == ".gz"
              else path.open(encoding="utf-8", newline="")) as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}; expected "
                                 f"{', '.join(_COLUMNS)}")
            rows = [(row["prompt"], _quality(row, "weak_correct", number, path),
                     _quality(row, "strong_correct", number, path), row["subset"])
                    for number, row in enumerate(reader, 2)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error, EOFError) as error:
        raise InputError(f"{path}: is not CSV text ({str(error)[:80]})") from error
    if not rows:
        raise InputError(f"{path}: no rows")
    prompts, weak, strong, subsets = zip(*rows, strict=True)
    return ChoiceRows(prompts, np.array(weak), np.array(strong), np.array(subsets))


def _quality(row: dict[str, str], column: str, number: int, path: Path) -> float:
    try:
        quality = float(row[column])
    except (TypeError, ValueError):
        quality = -1.0
    if not 0.0 <= quality <= 1.0:
        raise InputError(f"{path}: row {number}: {column} {row[column]!r}; expected 0 to 1")
    return quality
