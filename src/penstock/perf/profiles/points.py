"""One measurement as a row, and the columns that a profile's table has for it."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

# What was timed: a batch of requests, a model loaded or unloaded, one request among others on a
# server, or one operation of a model.
Kind = Literal["batch", "load", "unload", "request", "op"]
Outcome = Literal["ok", "out_of_memory", "failed", "killed"]
KINDS: tuple[str, ...] = get_args(Kind)
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class ModelConfiguration:
    """How a model is run; another one means that the engine loads anew.

    ``layers_by_stage`` has the layers of each pipeline stage, nothing where nobody wrote them down.
    Precisions as in ProfiledRun.
    """

    model: str
    layers_by_stage: tuple[int, ...]
    precision: str
    kv_precision: str
    tensor: int = 1

    @property
    def pipeline(self) -> int:
        """Number of pipeline stages."""
        return max(1, len(self.layers_by_stage))

    @property
    def num_layers(self) -> int:
        """Layers of all stages together."""
        return sum(self.layers_by_stage)

    @property
    def num_accelerators(self) -> int:
        """Accelerators that it takes."""
        return self.tensor * self.pipeline

    @property
    def label(self) -> str:
        """Short text that tells configurations of one model apart."""
        layers = "+".join(map(str, self.layers_by_stage))
        return f"tp{self.tensor}-l{layers}-{self.precision}-kv_{self.kv_precision}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row: what was run, how long it took, and what it left in memory.

    ``docs/reference/profiles.md`` describes the columns. Moments and durations are in seconds,
    memory in bytes, shares from 0 to 1. None means that nobody measured it.
    """

    kind: Kind
    configuration: ModelConfiguration
    batch: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    repeat: int = 0
    warm_up: bool = False
    outcome: Outcome = "ok"
    reason: str = ""
    seconds: float | None = None
    first_token_s: float | None = None
    decode_step_s: float | None = None
    num_prefill_steps: int | None = None
    cpu_s: float | None = None
    memory_loaded_bytes: float | None = None
    memory_bytes: float | None = None
    memory_peak_bytes: float | None = None
    kv_tokens: int | None = None
    cache: str = ""
    cached_share: float | None = None
    file_bytes: float | None = None
    read_bytes: float | None = None
    gpu_utilization: float | None = None
    gpu_power_w: float | None = None
    gpu_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None
    load_average: float | None = None
    op: str = ""
    shape: str = ""
    source: str = ""
    started_s: float | None = None
    session: int = 0

    @property
    def key(self) -> str:
        """The point that this is a repeat of."""
        return point_key(self.kind, self.configuration, self.batch, self.prompt_tokens,
                         self.output_tokens, self.cache, self.op, self.shape)


def point_key(kind: str, configuration: ModelConfiguration, batch: int | None = None,
              prompt_tokens: int | None = None, output_tokens: int | None = None,
              cache: str = "", op: str = "", shape: str = "") -> str:
    """A text that is the same for all repeats of a point and for nothing else."""
    lengths = "".join(f"-{letter}{value}" for letter, value in
                      (("b", batch), ("p", prompt_tokens), ("o", output_tokens))
                      if value is not None)
    more = "".join(f"-{text}" for text in (cache, op, shape) if text)
    return f"{kind}:{configuration.model}:{configuration.label}{lengths}{more}"


# -- columns --------------------------------------------------------------------------------------

_TEXTS = ("kind", "model", "layers_by_stage", "precision", "kv_precision", "outcome", "reason",
          "cache", "op", "shape", "source")
_WHOLES = ("tensor", "batch", "prompt_tokens", "output_tokens", "repeat", "num_prefill_steps",
           "kv_tokens", "session")
_FLAGS = ("warm_up",)
_OWN = tuple(one.name for one in fields(Measurement) if one.name != "configuration")
COLUMNS = ("kind", "model", "tensor", "layers_by_stage", "precision", "kv_precision",
           *(name for name in _OWN if name != "kind"))
# Of these no row may lack a value; of the others None is the absence of a measurement.
REQUIRED = ("kind", "model", "tensor", "layers_by_stage", "precision", "kv_precision", "repeat",
            "warm_up", "outcome", "session")


def column_type(name: str) -> str:
    """``text``, ``whole``, ``flag`` or ``number``."""
    for kind, names in (("text", _TEXTS), ("whole", _WHOLES), ("flag", _FLAGS)):
        if name in names:
            return kind
    return "number"


def row_of(one: Measurement) -> dict[str, Any]:
    """The row by column name."""
    configuration = one.configuration
    row = {name: getattr(one, name) for name in _OWN}
    return {"kind": one.kind, "model": configuration.model, "tensor": configuration.tensor,
            "layers_by_stage": " ".join(map(str, configuration.layers_by_stage)),
            "precision": configuration.precision, "kv_precision": configuration.kv_precision,
            **row}


def measurement_of(row: dict[str, Any]) -> Measurement:
    """The measurement of a row that has every column. Raises ValueError for a word or number that
    cannot be."""
    for name, valid in (("kind", KINDS), ("outcome", OUTCOMES)):
        if row[name] not in valid:
            raise ValueError(f"{name}: found {row[name]!r}; expected one of: {', '.join(valid)}")
    for name in REQUIRED:
        if row[name] is None:
            raise ValueError(f"{name}: found null; expected a value")
    words = row["layers_by_stage"].split()
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"layers_by_stage: found {row['layers_by_stage']!r}; expected whole "
                         "numbers parted by spaces")
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and (
                not value >= 0 or value == float("inf")) and name != "gpu_temperature_c":
            raise ValueError(f"{name}: found {value!r}; expected a number of at least 0")
    configuration = ModelConfiguration(row["model"], tuple(map(int, words)), row["precision"],
                                  row["kv_precision"], row["tensor"])
    texts = {name: row[name] or "" for name in ("reason", "cache", "op", "shape", "source")}
    return Measurement(configuration=configuration,
                       **{name: row[name] for name in _OWN} | texts)
