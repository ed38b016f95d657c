"""Reads the traffic of many clients: SET_windows_*.parquet, SET_lengths_*.parquet and
quantile_levels.json of one folder."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.workload.clients import GAMMA, WEIBULL, ClientTraffic, Quantiles, Windows
from penstock.workload.parquet import readable
from penstock.workload.workload import FloatColumn

WINDOWS, LENGTHS, LEVELS = "_windows_", "_lengths_", "quantile_levels.json"
_WINDOW_COLUMNS = ("client", "start_s", "rate_per_s", "cv", "family", "shape")
_LENGTH_COLUMNS = ("client", "from_s", "field", "quantiles")
_LEAST_SHAPE = 0.02  # below, a window's gaps are a single clump and one long pause


def read_clients(folder: Path, name: str) -> ClientTraffic:
    """Return the traffic of the set ``name`` in a folder. Times count from the first window.

    Raises InputError where files or columns are missing, or values cannot be.
    """
    windows_path, lengths_path = (_only_file(folder, name, kind) for kind in (WINDOWS, LENGTHS))
    levels = _levels(folder / LEVELS)
    rows = _columns(windows_path, _WINDOW_COLUMNS)
    starts = np.asarray(rows["start_s"], np.float64)
    if not len(starts):
        raise InputError(f"{windows_path}: has no windows")
    begin_s, window_s = float(starts.min()), _window_s(windows_path, starts)
    lengths = _columns(lengths_path, _LENGTH_COLUMNS)
    prompt, output = (dict(_quantiles(lengths_path, lengths, field, begin_s, len(levels)))
                      for field in ("input_tokens", "output_tokens"))
    span_s = float(starts.max()) - begin_s + window_s
    return ClientTraffic(dict(_windows(windows_path, rows, begin_s)), prompt, output, levels,
                         window_s, span_s, str(windows_path))


def _only_file(folder: Path, name: str, kind: str) -> Path:
    found = sorted(folder.glob(f"{name}{kind}*.parquet"))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{folder}: has {len(found)} files {name}{kind}*.parquet; expected one")
    sets = sorted({path.name.split(WINDOWS)[0] for path in folder.glob(f"*{WINDOWS}*.parquet")})
    raise InputError(f"{folder}: no file {name}{kind}*.parquet{nearest(name, sets)}")


def _columns(path: Path, names: tuple[str, ...]) -> Mapping[str, Any]:
    with readable(path) as source:
        missing = [name for name in names if name not in source.schema_arrow.names]
        if missing:
            raise InputError(f"{path}: no column {missing[0]}; expected {', '.join(names)}")
        return source.read(list(names)).to_pydict()  # type: ignore[no-any-return]


def _levels(path: Path) -> FloatColumn:
    try:
        found = np.array(json.loads(path.read_text()), np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    if found.ndim != 1 or len(found) < 2 or found[0] != 0.0 or found[-1] != 1.0 or np.any(
            np.diff(found) <= 0.0):
        raise InputError(f"{path}: expected a list of levels that rises from 0 to 1")
    return found


def _window_s(path: Path, starts: FloatColumn) -> float:
    gaps = np.diff(np.unique(starts))
    if not len(gaps):
        raise InputError(f"{path}: has windows of one time only; expected several")
    return float(gaps.min())


def _windows(path: Path, rows: Mapping[str, Any], begin_s: float) -> Iterator[tuple[str, Windows]]:
    clients = np.asarray(rows["client"])
    start_s, rate = (np.asarray(rows[name], np.float64) for name in ("start_s", "rate_per_s"))
    cv, shape = (np.array([np.nan if value is None else value for value in rows[name]], np.float64)
                 for name in ("cv", "shape"))
    bad = ~(np.isfinite(rate) & (rate >= 0.0))
    if bad.any():
        raise InputError(f"{path}: row {int(bad.argmax()) + 1}: rate_per_s is "
                         f"{rate[bad.argmax()]}; expected a number from 0")
    family = np.array([WEIBULL if name == "Weibull" else GAMMA for name in rows["family"]],
                      np.int8)
    unknown = [name for name in rows["family"] if name not in ("Gamma", "Weibull", "", None)]
    if unknown:
        raise InputError(f"{path}: family {unknown[0]!r}; expected Gamma or Weibull")
    # Without a fitted family, gaps are gamma of the measured variation, else exponential.
    fitted = np.isfinite(shape) & (shape > 0.0)
    usual = np.where(np.isfinite(cv) & (cv > 0.0), np.maximum(cv, 1e-3) ** -2.0, 1.0)
    shape = np.clip(np.where(fitted, shape, usual), _LEAST_SHAPE, 1e6)
    family[~fitted] = GAMMA
    for client in dict.fromkeys(clients.tolist()):
        own = np.flatnonzero(clients == client)
        own = own[np.argsort(start_s[own], kind="stable")]
        yield str(client), Windows(start_s[own] - begin_s, rate[own], family[own], shape[own])


def _quantiles(path: Path, rows: Mapping[str, Any], field: str, begin_s: float, num_levels: int
               ) -> Iterator[tuple[str, Quantiles]]:
    by_client: dict[str, list[tuple[float, list[float]]]] = {}
    for client, from_s, name, tokens in zip(rows["client"], rows["from_s"], rows["field"],
                                            rows["quantiles"], strict=True):
        if name == field:
            if len(tokens) != num_levels:
                raise InputError(f"{path}: client {client} has {len(tokens)} quantiles at "
                                 f"{from_s} s; expected {num_levels}")
            by_client.setdefault(str(client), []).append((float(from_s) - begin_s, tokens))
    if not by_client:
        raise InputError(f"{path}: no row has the field {field}")
    for name, found in by_client.items():
        found.sort(key=lambda one: one[0])
        yield name, Quantiles(np.array([from_s for from_s, _ in found]),
                              np.array([tokens for _, tokens in found], np.float64))
