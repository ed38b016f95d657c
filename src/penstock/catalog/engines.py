"""Stock engines: what each does by default, by version and accelerator."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.core.units import GIB

Batching = Literal["mixed", "alone", "whole"]
Admission = Literal["chunk", "prompt_fits", "prompt", "max_tokens"]
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class EngineDefaults:
    """Behaviour of a stock engine on an accelerator unless told otherwise.

    ``batching`` says how prompts and decodes share steps: ``mixed`` fills a step with prompts, the
    last in part; ``alone`` runs prompts without decodes; ``whole`` lets only whole prompts join.
    ``admission`` says which KV cache a request must find free: for its first ``chunk``, for its
    prompt, of which each chunk takes its own (``prompt_fits``), for its ``prompt``, which it takes,
    or for its whole answer (``max_tokens``).
    ``overlaps`` says whether the host plans a step while the step before runs. ``step_tokens`` and
    ``max_num_seqs`` bound a step.
    """

    engine: str
    version: str
    batching: Batching
    admission: Admission
    overlaps: bool
    block_tokens: int
    memory_fraction: float
    prefix_caching: bool
    step_tokens: int
    max_num_seqs: int
    source: str

    @property
    def reserves_max_tokens(self) -> bool:
        """Whether a request must find KV cache for its whole answer."""
        return self.admission == "max_tokens"


def engine_names() -> tuple[str, ...]:
    """Return the names of the described engines."""
    return tuple(_table())


class EngineFacts(NamedTuple):
    """Defaults of an engine's version that are the same on all accelerators. ``drains_adapters``
    says whether its scheduler can make an adapter leave the batch for one that waits."""

    version: str
    block_tokens: int
    memory_fraction: float
    prefix_caching: bool
    drains_adapters: bool = False


def engine_facts(engine: str, version: str | None = None) -> EngineFacts:
    """Return what an engine's version does on every accelerator. Raises as ``engine_defaults``."""
    merged = _merged(engine, version)
    return EngineFacts(version or str(_table()[engine]["newest"]), merged["block_tokens"],
                       merged["memory_fraction"], merged["prefix_caching"],
                       merged.get("drains_adapters", False))


def engine_defaults(engine: str, accelerator: Accelerator,
                    version: str | None = None) -> EngineDefaults:
    """Return the defaults of an engine's version, None for the newest.

    A version between two described ones does as the older. Raises InputError for an unknown engine,
    with the nearest name, and for a version that is no number or older than the first described.
    """
    merged = _merged(engine, version)
    facts, budget = engine_facts(engine, version), _budget(merged["budgets"], accelerator)
    return EngineDefaults(
        engine, facts.version, merged["batching"], merged["admission"],
        merged["overlap"], facts.block_tokens, facts.memory_fraction, facts.prefix_caching,
        budget["step_tokens"], budget["max_num_seqs"], _table()[engine]["source"])


def _merged(engine: str, version: str | None) -> Mapping[str, Any]:
    """Return the entries of a version, later ones over earlier ones."""
    table = _table()
    if engine not in table:
        raise InputError(f"engine: {engine[:60]!r} is not described{nearest(engine, table)}")
    facts = table[engine]
    version = version or str(facts["newest"])
    wanted = _numbers(version)
    if wanted is None:
        raise InputError(f"version: found {version[:60]!r}; expected a version of {engine}, such "
                         f"as {facts['newest']}")
    merged: dict[str, Any] = {}
    for entry in facts["versions"]:
        since = _numbers(entry["from"])
        if since is not None and since <= wanted:
            merged |= entry
    if not merged:
        raise InputError(f"version: {engine} {version} is older than {facts['versions'][0]['from']}"
                         ", the first that is described")
    return merged


def oldest_version(engine: str) -> str:
    """Return the first version of an engine that is described."""
    return str(_table()[engine]["versions"][0]["from"])


def since(version: str, first: str) -> bool:
    """Whether a version is ``first`` or later. Neither may be anything but a version."""
    ours, theirs = _numbers(version), _numbers(first)
    assert ours is not None, "a checked version"
    assert theirs is not None, "a constant"
    return ours >= theirs


def _budget(budgets: list[Mapping[str, Any]], accelerator: Accelerator) -> Mapping[str, Any]:
    for budget in budgets:
        excepted = any(word in accelerator.name for word in budget.get("except", ()))
        if accelerator.memory_bytes >= budget["memory_gib"] * GIB and not excepted:
            return budget
    return budgets[-1]


def _numbers(version: str) -> tuple[int, int, int] | None:
    found = _VERSION.search(version)
    if found is None:
        return None
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


@cache
def _table() -> Mapping[str, Any]:
    text = resources.files("penstock.catalog").joinpath("data/engines.yaml").read_text("utf-8")
    loaded = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    table: Mapping[str, Any] = loaded["engines"]
    return table
