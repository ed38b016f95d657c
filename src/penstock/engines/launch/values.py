"""Values by which a replica starts: its settings, and the command line of an engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism

PLAIN_FORMATS: Mapping[str, str] = MappingProxyType({
    "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"})
"""Engines' names of the number formats that are not quantised."""

Key = Literal["served_name", "host", "port", "metrics", "precision", "kv_precision", "tensor",
              "pipeline", "data", "expert", "context_tokens", "max_num_seqs", "step_tokens",
              "chunked", "mixed", "prefix_caching", "memory_fraction", "block_tokens", "eager",
              "scheduler", "role", "connector", "side_host", "side_port", "drafts", "adapters",
              "adapter_wait_s"]
"""``role`` is prefill or decode. ``connector`` names the software that moves KV caches, and
``side_host`` and ``side_port`` are where it, or SGLang's bootstrap, is reached."""


class Setting(NamedTuple):
    """A value, and the reason why it is stated."""

    value: Any
    reason: str


class Drafts(NamedTuple):
    """Speculative decoding: the method, tokens of a draft, the repository of a draft model, and
    (from, to, tokens) by the number of sequences."""

    method: str
    tokens: int
    model: str | None
    by_batch: tuple[tuple[int, int, int], ...] = ()


class AdapterRoom(NamedTuple):
    """Room for adapters (LoRA) of up to ``max_rank``: so many in one batch, and loaded."""

    max_loras: int
    most_loaded: int
    max_rank: int


class Nodes(NamedTuple):
    """The machine of a replica that spans several ``machines``: its ``rank``, and the address of
    the ``leader``, the first. Both may be texts that are replaced where the command runs.
    ``answers`` says whether the machine takes requests."""

    machines: int
    rank: str
    leader: str
    answers: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Launch:
    """One replica's start in no engine's words.

    ``settings`` has what is to be stated, and nothing else: what is left out is as the engine's
    ``version`` has it. ``own_weights`` says that ``model`` was stated for this replica, so its
    weights may have any format. ``place`` names the replica in errors. ``options_file`` is the path
    of a file of options, where the engine needs one.
    """

    place: str
    version: str
    model: Setting
    parallelism: Parallelism
    settings: Mapping[Key, Setting]
    own_weights: bool = False
    nodes: Nodes | None = None
    options_file: str = "options.yaml"


class Argument(NamedTuple):
    """A flag with its value, None for a flag alone; a ``flag`` of "" is a positional argument."""

    flag: str
    value: str | None
    reason: str

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the command line."""
        return tuple(word for word in (self.flag, self.value) if word)


class Option(NamedTuple):
    """An entry of a file of options: the keys that lead to it, and its value."""

    keys: tuple[str, ...]
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line: the program, its arguments, and the entries of its file of options."""

    program: tuple[str, ...]
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...] = ()
    environment: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        """Words of the whole command line."""
        return [*self.program, *(word for one in self.arguments for word in one.words)]

    def options_document(self) -> dict[str, Any]:
        """Return the content of the file of options."""
        document: dict[str, Any] = {}
        for option in self.options:
            inner = document
            for key in option.keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[option.keys[-1]] = option.value
        return document


def plain_format(precision: str | None) -> str:
    """Return the format in which a model with such weights computes."""
    return precision if precision is not None and precision in PLAIN_FORMATS else "bf16"


def follows_weights(kv: str, precision: str | None) -> bool:
    """Whether an engine left to itself has a KV cache of that format. A cache of 16 bits has the
    format in which the model computes, if that has 16 bits, too. A checkpoint in a format that
    engines do not make when they load weights may ask for another."""
    computed = plain_format(precision)
    return precision in (None, "fp8", *PLAIN_FORMATS) and (
        kv == computed or {kv, computed} == {"bf16", "fp16"})


def stated(launch: Launch, flags: Mapping[Key, str]) -> list[Argument]:
    """Return the flags of those settings that are stated, each with its value."""
    return [Argument(flag, _text(launch.settings[key].value), launch.settings[key].reason)
            for key, flag in flags.items() if key in launch.settings]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def refused(engine: str, launch: Launch, what: str, expected: str) -> InputError:
    """Return the error of a setting that the engine's version does not know."""
    return InputError(f"{launch.place}: {engine} {launch.version} has no {what}; expected "
                      f"{expected}")


def check_connector(engine: str, launch: Launch, known: tuple[str, ...]) -> str:
    """Return the stated connector. Raises InputError for one with which Penstock does not pair
    engines of this kind."""
    found = str(launch.settings["connector"].value)
    if found not in known:
        raise InputError(f"{launch.place}: penstock pairs {engine} by {' or '.join(known)}; found "
                         f"disaggregation.connector {found}")
    return found


def check_weights(engine: str, launch: Launch, quantises: tuple[str, ...]) -> str | None:
    """Return the format of the weights where it is stated. Raises InputError for a quantised format
    that neither the engine makes when it loads weights nor the stated weights may have."""
    precision = launch.settings.get("precision")
    if precision is None:
        return None
    found = str(precision.value)
    if found not in (*PLAIN_FORMATS, *quantises) and not launch.own_weights:
        made = f"makes only {' and '.join(quantises)}" if quantises else "quantises nothing"
        raise InputError(
            f"{launch.place}: {engine} {launch.version} {made} of {launch.model.value} when it "
            f"loads the weights; for {found}, state served_as: a repository or folder whose "
            f"weights are {found}")
    return found
