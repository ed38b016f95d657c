"""``rows.parquet``: one row per prompt and model, and what predictors are trained on of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest, one_of
from penstock.predict.learned.features import STATE
from penstock.predict.learned.protocol import LATENCY_TARGETS, MEMORY_TARGETS
from penstock.predict.learned.training import CollectedRows
from penstock.predict.prompts.rows import PromptRows

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("prompt", "model", "replica", "outcome", "reason", "finish_reason", "answer", "reference",
         "quality_source")
WHOLE = ("prompt_id", "prompt_tokens", "max_tokens", "output_tokens")
NUMBERS = ("asked_at_s", "predicted_output_tokens", *LATENCY_TARGETS, *MEMORY_TARGETS, "quality",
           *STATE)
_MAX_ROWS = 50_000_000


def write_rows(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows of these names as Parquet; what a row lacks is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = list(rows)
    kinds = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(WHOLE, pa.int64()),
             **dict.fromkeys(NUMBERS, pa.float64())}
    table = pa.table({name: pa.array([row.get(name) for row in held], kind)
                      for name, kind in kinds.items()})
    pq.write_table(table, path, compression="zstd")


def read_table(path: Path, needed: Sequence[str]) -> "pa.Table":
    """A Parquet file with at least the columns ``needed``. Raises InputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        path = path / "rows.parquet"
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in needed if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}"
                                 f"{nearest(missing[0], file.schema_arrow.names)}")
            if file.metadata.num_rows > _MAX_ROWS:
                raise InputError(f"{path}: {file.metadata.num_rows} rows; at most {_MAX_ROWS}")
            return file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or str(error)[:80]})") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: is not Parquet ({' '.join(str(error).split())[:80]})") from error


def read_collected(path: Path, model: str | None = None) -> CollectedRows:
    """Return the rows that latency and memory models learn from: finished requests, in order of
    time.

    Of one model, because each has its own pace; ``model`` names it where rows are of several.
    Columns that are nowhere filled are left out, so that nothing is learnt of noughts. The true
    output length is not among them. Raises InputError.
    """
    table = read_table(path, ("asked_at_s", "replica", "prompt_tokens", "predicted_output_tokens"))
    names = [name for name in ("prompt_tokens", *NUMBERS) if name in table.column_names
             and name not in ("asked_at_s", "quality")]
    moments = _numbers(table, "asked_at_s", path)
    order = np.argsort(moments, kind="stable")
    order = order[_of_model(table, model, path)[order]]
    if "outcome" in table.column_names:
        finished = np.array([outcome in (None, "finished")
                             for outcome in table["outcome"].to_pylist()], bool)
        order = order[finished[order]]
    columns = {name: _numbers(table, name, path)[order] for name in names}
    replicas = table["replica"].to_pylist()
    known = {name: values for name, values in columns.items() if not np.isnan(values).all()}
    return CollectedRows(known, tuple(str(replicas[place]) for place in order))


def _of_model(table: "pa.Table", model: str | None, path: Path) -> NDArray[np.bool_]:
    names = [str(name) for name in table["model"].to_pylist()] \
        if "model" in table.column_names else [model or ""] * len(table)
    known = sorted(set(names))
    if model is None and len(known) > 1:
        raise InputError(f"{path}: rows of {len(known)} models; name one with --model"
                         f"{one_of(known)}")
    if model is not None and model not in known:
        raise InputError(f"{path}: no rows of model {model!r}{nearest(model, known)}")
    return np.array([model is None or name == model for name in names], bool)


def read_prompt_rows(path: Path) -> PromptRows:
    """Return the rows that forecasters learn from: each prompt's output tokens and quality by
    model.

    Answers that did not finish have neither. A prompt asked twice of a model counts as two.
    """
    table = read_table(path, ("prompt", "model", "output_tokens"))
    tokens = _numbers(table, "output_tokens", path)
    quality = _numbers(table, "quality", path) if "quality" in table.column_names \
        else np.full(len(tokens), np.nan)
    if ((quality < 0) | (quality > 1)).any():
        raise InputError(f"{path}: quality {quality[(quality < 0) | (quality > 1)][0]:g}; expected "
                         "0 to 1")
    if (tokens < 0).any():
        raise InputError(f"{path}: output_tokens {tokens[tokens < 0][0]:g}; expected 0 or more")
    outcomes = table["outcome"].to_pylist() if "outcome" in table.column_names \
        else [None] * len(tokens)
    models = tuple(sorted({str(model) for model in table["model"].to_pylist()}))
    keys = table["prompt_id"].to_pylist() if "prompt_id" in table.column_names \
        else table["prompt"].to_pylist()
    places: dict[Any, int] = {}
    prompts: list[str] = []
    cells: dict[tuple[int, int], int] = {}
    for row, (key, prompt, model) in enumerate(zip(
            keys, table["prompt"].to_pylist(), table["model"].to_pylist(), strict=True)):
        column = models.index(str(model))
        place = places.get(key)
        if place is None or (place, column) in cells:
            place = places[key] = len(prompts)
            prompts.append(str(prompt or ""))
        cells[place, column] = row
    found = np.full((2, len(prompts), len(models)), np.nan)
    for (place, column), row in cells.items():
        if outcomes[row] in (None, "finished"):
            found[:, place, column] = tokens[row], quality[row]
    return PromptRows(tuple(prompts), models, found[0], found[1])


def _numbers(table: "pa.Table", name: str, path: Path) -> NDArray[np.float64]:
    import pyarrow as pa

    try:
        column = table[name].cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError(f"{path}: column {name!r} is {table[name].type}; expected numbers"
                         ) from None
    found = column.combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
    if np.isinf(found).any():
        raise InputError(f"{path}: column {name!r} holds an infinite number")
    return found
