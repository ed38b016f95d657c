"""MaverIQ's end-to-end records: what was asked, where it ran, how long it took."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.estimate.configurations import KV_PRECISIONS, PRECISIONS
from penstock.metrics.definitions import FloatColumn

NUM_DEVICES = 8
DEVICE_GIB = 47.99
_IDLE_GIB = 0.47  # what a device of theirs holds when nothing is deployed


class Cell(NamedTuple):
    """A list of models under a trace at a scale: what every system is judged on."""

    model_set: str
    trace: str
    scale: str

    @property
    def name(self) -> str:
        """For tables: ``large, code 0.4``."""
        return f"{self.model_set}, {self.trace} {self.scale}"


class RunKey(NamedTuple):
    """Key of a run: the system, its intent, and the cell; ``slo`` is the factor of its target."""

    system: str
    policy: str
    cell: Cell
    slo: str = "0"

    @property
    def name(self) -> str:
        """For tables: ``MaverIQ min_lat``."""
        return self.system if self.policy == "None" else f"{self.system} {self.policy}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model as a system deployed it. ``devices`` is None where no record tells them; ``repaired``
    says that they were not in the log but follow from what memory was taken. ``device_gib`` is how
    much was taken on the device where it was most, None without a record."""

    model: str
    configuration: Configuration
    devices: frozenset[int] | None
    repaired: bool = False
    device_gib: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Requests that were served, in order of arrival. ``client`` is the place of a request's
    deployment in the list of models, from 0; ``arrival_s`` is NaN throughout where the log of the
    run is lost. ``deployments`` has those whose configuration was recorded."""

    key: RunKey
    arrival_s: FloatColumn
    e2e_s: FloatColumn
    service_s: FloatColumn
    client: NDArray[np.int64]
    models: Mapping[int, str]
    deployments: Mapping[int, Deployment]
    num_devices: Mapping[int, int]

    @property
    def replayable(self) -> bool:
        """Whether arrivals and all devices are known."""
        return bool(np.isfinite(self.arrival_s).all()) and all(
            client in self.deployments and self.deployments[client].devices is not None
            for client in self.models)

    @property
    def gpu_s(self) -> FloatColumn | None:
        """Service time by devices, per request; None where their number is not known."""
        if any(client not in self.num_devices for client in self.models):
            return None
        by_client = np.array([self.num_devices.get(client, 0)
                              for client in range(max(self.models) + 1)], dtype=np.float64)
        return np.asarray(self.service_s * by_client[self.client])


class Records:
    """The runs of a folder with ``e2e_per_request.parquet`` and ``e2e_deployments.csv``."""

    def __init__(self, folder: Path) -> None:
        self._table = _Columns(folder / "e2e_per_request.parquet")
        self._chosen = _chosen(folder / "e2e_deployments.csv")
        self._memory, self._counts = _memory(folder / "gpu_memory_and_gpu_counts.json")
        self.keys = self._table.keys

    def run(self, key: RunKey) -> Run:
        """One run. Raises InputError for one that was not recorded."""
        rows = self._table.rows(key)
        client, arrival_s = self._table.numbers("client_id", rows), self._table.numbers(
            "arrival_s", rows)
        request = self._table.numbers("req_id", rows)
        order = np.lexsort((request, arrival_s))
        rows, client, arrival_s = rows[order], client[order], arrival_s[order]
        _, first, place = np.unique(client, return_index=True, return_inverse=True)
        models = dict(enumerate(self._table.words("model", rows[first])))
        deployments = {at: one for at, one in self._deployments(key).items()
                       if models.get(at) == one.model}
        counted = self._counts.get(_memory_name(key), ())
        counts = dict(enumerate(counted)) | {
            at: one.configuration.parallelism.num_accelerators for at, one in deployments.items()}
        return Run(key, arrival_s, self._table.numbers("e2e_s", rows),
                   self._table.numbers("service_s", rows),
                   place.astype(np.int64), models, deployments, counts)

    def _deployments(self, key: RunKey) -> dict[int, Deployment]:
        memory = self._memory.get(_memory_name(key), ())
        return {order - 1: _deployment(row, order - 1, memory)
                for order, row in self._chosen.get(key, {}).items()}


class _Columns:
    """The table of requests; words are kept as codes."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table: Any = pq.read_table(path)
            self._words = {name: _codes(table.column(name)) for name in (
                "system", "model_set", "policy", "trace", "scale", "slo", "model")}
            self._numbers: dict[str, FloatColumn] = {
                name: table.column(name).cast(pa.float64()).to_numpy()
                for name in ("client_id", "req_id", "arrival_s", "e2e_s", "service_s")}
        except (OSError, KeyError, pa.ArrowException) as error:
            raise InputError(f"{path}: cannot be read as end-to-end records: "
                             f"{str(error).splitlines()[0]}") from error
        codes = np.zeros(table.num_rows, dtype=np.int64)
        for name in _KEY_COLUMNS:
            codes = codes * len(self._words[name][1]) + self._words[name][0]
        order = np.argsort(codes, kind="stable")
        _, starts = np.unique(codes[order], return_index=True)
        self._rows = dict(zip((self._key_at(row) for row in order[starts].tolist()),
                              np.split(order, starts[1:]), strict=True))
        self.keys = sorted(self._rows)

    def rows(self, key: RunKey) -> NDArray[np.int64]:
        if key not in self._rows:
            raise InputError(f"end-to-end records: hold no run {key.name} on {key.cell.name}")
        return self._rows[key]

    def _key_at(self, row: int) -> RunKey:
        return _key({name: self._words[name][1][self._words[name][0][row]]
                     for name in _KEY_COLUMNS})

    def numbers(self, name: str, rows: NDArray[np.int64]) -> FloatColumn:
        return self._numbers[name][rows]

    def words(self, name: str, rows: NDArray[np.int64]) -> list[str]:
        codes, words = self._words[name]
        return [words[code] for code in codes[rows]]


_KEY_COLUMNS = ("system", "policy", "model_set", "trace", "scale", "slo")


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    encoded = column.combine_chunks()
    if not hasattr(encoded, "dictionary"):
        encoded = encoded.dictionary_encode()
    return (encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
            [str(word) for word in encoded.dictionary.to_pylist()])


def _key(row: Mapping[str, str]) -> RunKey:
    return RunKey(row["system"], row["policy"], Cell(row["model_set"], row["trace"], row["scale"]),
                  row["slo"])


def _chosen(path: Path) -> dict[RunKey, dict[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found: dict[RunKey, dict[int, dict[str, str]]] = {}
        for row in rows:
            found.setdefault(_key(row), {})[int(row["order"])] = row
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as deployments: {error}") from None
    return found


def _memory(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """GiB by device after each deployment, and devices by deployment, both by run."""
    try:
        document = orjson.loads(path.read_bytes())
        return document["Memory_Dataset_large"], document["GPUs_usage_large"]
    except (OSError, KeyError, orjson.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as memory by run: {error}") from None


def _memory_name(key: RunKey) -> str:
    """Return the run's name in the file of memory, which has the model set ``large`` only."""
    if key.cell.model_set != "large":
        return ""
    if key.system == "Accelerate":
        return key.system
    policy = "" if key.policy == "None" else f"_{key.policy}"
    return f"{key.system}{policy}_{key.cell.trace}_{key.cell.scale}"


def _deployment(row: Mapping[str, str], place: int,
                memory: Sequence[Mapping[str, float]]) -> Deployment:
    spread = Parallelism(int(row["tp"]), int(row["pp"]))
    configuration = Configuration(spread, PRECISIONS[row["dtype"].strip("'")],
                                  KV_PRECISIONS[row["int8_kv"].lower()])
    devices = _as_logged(row["gpus"], spread.num_accelerators)
    repaired = devices is None
    if devices is None:
        devices = grown_devices(memory, place, spread.num_accelerators)
    growth = _growth(memory, place)
    taken = [growth[device] for device in devices or () if device in growth]
    return Deployment(row["model"], configuration, devices, repaired and devices is not None,
                      max(taken, default=None))


def _as_logged(text: str, num_devices: int) -> frozenset[int] | None:
    """The devices as the log has them; None where other lines got in between."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) < NUM_DEVICES for word in words):
        return None
    found = frozenset(map(int, words))
    return found if len(found) == len(words) == num_devices else None


def grown_devices(memory: Sequence[Mapping[str, float]], place: int,
                  num_devices: int) -> frozenset[int] | None:
    """The devices on which a deployment's memory was taken: those that grew most from the one
    before. None where there is no record of it, or no clear line between those and the others."""
    growth = _growth(memory, place)
    ranked = sorted(growth, key=lambda device: (-growth[device], device))
    chosen, others = ranked[:num_devices], ranked[num_devices:]
    if not chosen or (others and growth[chosen[-1]] < 2.0 * max(growth[others[0]], 0.05)):
        return None
    return frozenset(chosen)


def _growth(memory: Sequence[Mapping[str, float]], place: int) -> dict[int, float]:
    """GiB by device from one deployment to the next; empty without records of both."""
    if not isinstance(memory, Sequence) or place >= len(memory) or (
            place and len(memory[place - 1]) != len(memory[place])):
        return {}
    before = memory[place - 1] if place else {}
    return {int(device): gib - before.get(device, _IDLE_GIB)
            for device, gib in memory[place].items()}
