"""A fleet file drafted from a few answers: a model, accelerators, traffic and its targets.

A question without an answer gets a default value, and the draft reports it: each ``Assumption``
names the value and the option that states another.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from penstock.catalog import Catalog, is_config_path, model_from_hf_config
from penstock.catalog.engines import engine_facts
from penstock.core.errors import InputError, nearest, suggested
from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.core.prices import OWNERSHIP, HourlyPrice, price_fields
from penstock.fleet.stock import INSIDE, base_engine, simulated_engines
from penstock.fleet.values import Fleet
from penstock.workload.length_tables import length_table

USUAL_CLASSES: Mapping[str, tuple[int, Mapping[str, float]]] = {
    "chat": (1, {"ttft_s": 1.0, "itl_s": 0.05}),
    "interactive": (1, {"ttft_s": 1.0, "itl_s": 0.05}),
    "code": (2, {"ttft_s": 5.0, "itl_s": 0.1}),
    "batch": (3, {"e2e_s": 300.0}),
}
"""Service classes with default targets: their priority and targets."""

_USUAL_ENGINE = "vllm"
_USUAL_LENGTHS = ("azure-2023-conv", "sharegpt-8k", "azure-2023-code")
# Counts as people write them: 4, 4xH100, "4 H100", H100x4.
_COUNTED = re.compile(r"([0-9]+)(?:\s*[x*]?\s*([a-zA-Z].*))?|(.*\S)\s*[x*]\s*([0-9]+)")
_FEWEST_REQUESTS, _MOST_REQUESTS = 1000, 20_000


class Assumption(NamedTuple):
    """An assumed value, and the option that states another."""

    what: str
    value: str
    option: str


@dataclass(frozen=True, slots=True)
class GpuAnswer:
    """Accelerators of one kind. Without a count, any number may be rented."""

    name: str
    count: int | None = None
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """A service class. ``lengths`` is part of a traffic entry: ``trace`` or ``lengths``."""

    name: str
    share: float | None = None
    rate_per_s: float | None = None
    priority: int | None = None
    slo: Mapping[str, Any] = field(default_factory=dict)
    lengths: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers from which a fleet is drafted. Only ``model`` and ``gpus`` are required.

    A ``model`` that is a path becomes ``config`` in the file, relative to the file's folder.
    """

    model: str
    gpus: tuple[GpuAnswer, ...]
    rate_per_s: float | None = None
    slo: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[ClassAnswer, ...] = ()
    lengths: Mapping[str, Any] = field(default_factory=dict)
    engine: str | None = None
    precisions: tuple[str, ...] = ()
    max_context_tokens: int | None = None
    num_requests: int | None = None
    catalog: str | None = None
    config: str | None = None
    price_basis: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The data of a fleet file, and its assumed values."""

    data: dict[str, Any]
    assumed: tuple[Assumption, ...]


def drafted(answers: Answers, catalog: Catalog) -> Draft:
    """Draft the fleet file of these answers. Raises InputError for an unknown name, and for a
    missing rate, target or length without a default."""
    assumed: list[Assumption] = []
    if answers.price_basis is not None:
        catalog = _named(catalog.on_basis, answers.price_basis, "--price-basis")
    accelerators = [named_gpu(catalog, gpu.name) for gpu in answers.gpus]
    model, entry = _model(answers, catalog)
    if not answers.precisions:
        assumed.append(Assumption("weights", "bf16", "--precisions"))
    classes = [_service_class(c, answers, assumed) for c in answers.classes or _usual(answers)]
    traffic = _traffic(answers, model, assumed)
    data: dict[str, Any] = {
        "name": entry["name"],
        **({"catalog": answers.catalog} if answers.catalog else {}),
        "accelerators": [_pool(gpu, found, assumed)
                         for gpu, found in zip(answers.gpus, accelerators, strict=True)],
        "models": [entry], "service_classes": classes, "traffic": traffic,
        "engine": engine_section(answers.engine, assumed)}
    number = answers.num_requests or _num_requests(classes, traffic)
    if number is not None:
        data["run"] = {"num_requests": number}
        if answers.num_requests is None:
            assumed.append(Assumption("requests", f"{number:,} in all", "--requests"))
    order = ("engine", "price", "count", "weights")
    assumed.sort(key=lambda found: (*order, found.what).index(found.what))
    return Draft(data, tuple(assumed))


def named_gpu(catalog: Catalog, name: str) -> Accelerator:
    """The accelerator of this name. Raises InputError that says how a count is written."""
    try:
        return catalog.accelerator(name)
    except InputError as error:
        counted = _COUNTED.fullmatch(name)
        if counted:
            number, chip, chip_2, number_2 = counted.groups()
            raise InputError(f"--gpu {name[:60]!r}: expected NAME:COUNT, such as "
                             f"{(chip or chip_2 or 'h100-80gb')[:60]}:{number or number_2}"
                             ) from None
        raise InputError(f"--gpu: {error}") from None


def _named(lookup: Any, name: str, option: str) -> Any:
    try:
        return lookup(name)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def _model(answers: Answers, catalog: Catalog) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the model and its entry in the file. A path to a config.json defines a new model."""
    entry: dict[str, Any] = {}
    if is_config_path(answers.model):
        path = Path(answers.model).expanduser()
        spec = _named(model_from_hf_config, str(path), "--model")
        folder = path.parent if path.suffix == ".json" else path
        entry |= {"name": "-".join(folder.resolve().name.split()) or "model",
                  "config": answers.config or answers.model}
    else:
        spec = _named(catalog.listed_model, answers.model, "--model")
        entry["name"] = spec.name
    if answers.precisions:
        entry["precisions"] = list(answers.precisions)
    if answers.max_context_tokens:
        entry["max_context_tokens"] = answers.max_context_tokens
    return spec, entry


def unstated(data: Mapping[str, Any], fleet: Fleet) -> tuple[Assumption, ...]:
    """Prices and the engine, where the ``data`` of the fleet's file state none."""
    assumed = [_catalog_price(pool.accelerator, pool.listed, "price_per_hour")
               for section, pool in zip(data["accelerators"], fleet.accelerators, strict=True)
               if section.get("price_per_hour") is None and pool.listed is not None
               and pool.price_basis != OWNERSHIP]
    if ((data.get("policies") or {}).get("schedule") is None
            and (data.get("engine") or {}).get("name") is None):
        engine = fleet.engine.name
        told = ("an ideal engine with Penstock's scheduler" if engine is None else
                f"{engine} {engine_facts(engine).version}, its own scheduler")
        assumed.append(Assumption("engine", told, "engine.name"))
    return tuple(assumed)


def _catalog_price(found: Accelerator, price: HourlyPrice, option: str) -> Assumption:
    since = ", ".join(filter(None, (f"catalog: {price.basis}", price.date)))
    amount = f"${price.per_hour:.{2 if price.per_hour >= 1 else 3}f}"
    return Assumption("price", f"{found.name} {amount} an hour each ({since})", option)


def _pool(gpu: GpuAnswer, found: Accelerator, assumed: list[Assumption]) -> dict[str, Any]:
    """Return the entry of one kind of accelerator."""
    price: dict[str, Any] = {"price_per_hour": gpu.price_per_hour}
    if gpu.price_per_hour is None:
        if found.price_per_hour is None:
            raise InputError(f"--price: no list price of {found.name} is known; expected what you "
                             "pay an hour for each")
        listed = HourlyPrice(found.price_per_hour, found.price_basis, found.price_date)
        assumed.append(_catalog_price(found, listed, "--price"))
        price = price_fields(listed)
    entry: dict[str, Any] = {"name": found.name}
    if gpu.count is None:
        assumed.append(Assumption("count", f"as many {found.name} as needed", "--gpu NAME:COUNT"))
    else:
        entry["count"] = gpu.count
    return {**entry, **price}


def _usual(answers: Answers) -> tuple[ClassAnswer, ...]:
    """Return the single class of traffic without named classes, by its targets."""
    return (ClassAnswer("batch" if {*answers.slo} - {"percentile"} == {"e2e_s"} else "chat"),)


def check_targets(answer: ClassAnswer) -> None:
    """Raises InputError for a class that states no target and has no usual ones."""
    if not {*answer.slo} - {"percentile"} and answer.name not in USUAL_CLASSES:
        hint = nearest(answer.name, USUAL_CLASSES)
        raise InputError(f"--class {answer.name}: no target; state {answer.name}:ttft=SECONDS, "
                         "itl=SECONDS, tpot=SECONDS or e2e=SECONDS after it, or --ttft, --itl, "
                         "--tpot or --e2e"
                         f"{hint if suggested(hint) else ''}")


def _service_class(answer: ClassAnswer, answers: Answers,
                   assumed: list[Assumption]) -> dict[str, Any]:
    """Return a class with its own targets, else the general targets that apply to its kind, else
    the defaults."""
    priority, usual = USUAL_CLASSES.get(answer.name, (1, {}))
    general = dict(answers.slo)
    percentile = general.pop("percentile", None)
    slo = dict(answer.slo)
    if not {*slo} - {"percentile"}:
        several = len(answers.classes) > 1
        kept = {*usual, "itl"} if "itl_s" in usual else {*usual}
        fitting = {key: value for key, value in general.items()
                   if not several or not usual or key in kept}
        if not fitting:
            check_targets(answer)
        slo |= fitting or usual
        if not fitting:
            targets = ", ".join(f"{key.partition('_')[0]} {value:g} s" for key, value in
                                usual.items())
            assumed.append(Assumption(f"targets of {answer.name}", targets,
                                      "--ttft, --itl, --tpot, --e2e"))
    if percentile is not None:
        slo.setdefault("percentile", percentile)
    if answer.priority is not None:
        priority = answer.priority
    return {"name": answer.name, "priority": priority, "slo": slo}


def _traffic(answers: Answers, model: ModelSpec, assumed: list[Assumption]) -> list[dict[str, Any]]:
    """Return one entry with a mix of the classes, or one for each class where a class has lengths
    or a rate."""
    classes = answers.classes or _usual(answers)
    apart = any(c.lengths or c.rate_per_s is not None for c in classes)
    lengths = answers.lengths
    if not lengths and not all(c.lengths for c in classes):
        context = answers.max_context_tokens or model.max_context_tokens
        lengths = {"trace": _usual_table(context)}
        assumed.append(Assumption("prompts and outputs", f"as in {lengths['trace']}",
                                  "--trace or --prompt-tokens and --output-tokens"))
    own_rate = isinstance(lengths.get("trace"), Mapping) and not apart
    if answers.rate_per_s is None and not own_rate and not all(
            c.rate_per_s is not None for c in classes):
        raise InputError("no --rate; expected the mean number of requests per second")
    if not apart:
        entry = {**lengths, **({} if answers.rate_per_s is None
                               else {"rate_per_s": answers.rate_per_s})}
        stated = len(classes) == 1 or not own_rate or any(c.share is not None for c in classes)
        return [{**({"mix": _shares(classes, assumed)} if stated else {}), **entry}]
    sharing = [c for c in classes if c.rate_per_s is None]
    own = math.fsum(c.rate_per_s or 0.0 for c in classes)
    if not sharing and answers.rate_per_s is not None and not math.isclose(own, answers.rate_per_s):
        raise InputError(f"--rate {answers.rate_per_s:g}: the classes state rates of their own, "
                         f"{own:g} in all; leave --rate out")
    shares = _shares(sharing, assumed) if sharing else {}
    return [{"name": c.name, "mix": {c.name: 1}, **(c.lengths or lengths),
             "rate_per_s": c.rate_per_s if c.rate_per_s is not None
             else float(f"{(answers.rate_per_s or 0.0) * shares[c.name]:.6g}")} for c in classes]


def _usual_table(context_tokens: int) -> str:
    """Return the first table of lengths whose longest prompt fits the model's context."""
    for name in _USUAL_LENGTHS:
        prompt: Any = length_table(name).prompt
        if prompt.tokens[-1] <= context_tokens:
            return name
    raise InputError(f"no table of lengths fits a context of {context_tokens:,} tokens; state "
                     "--prompt-tokens and --output-tokens, such as --prompt-tokens "
                     f"{max(1, context_tokens // 4)} --output-tokens {max(1, context_tokens // 8)}")


def _shares(classes: Sequence[ClassAnswer], assumed: list[Assumption]) -> dict[str, float]:
    """Return the share of every class. Classes without a stated share divide the rest equally."""
    stated = {c.name: c.share for c in classes if c.share is not None}
    silent = [c.name for c in classes if c.share is None]
    rest = 1.0 - math.fsum(stated.values())
    if silent and rest <= 0:
        raise InputError(f"--class: shares of {', '.join(stated)} sum to {1 - rest:g}; nothing is "
                         f"left for {', '.join(silent)}")
    if silent and len(classes) > 1:
        assumed.append(Assumption("shares", ", ".join(
            f"{name} {100 * rest / len(silent):.3g} %" for name in silent),
            "--class NAME:share=0.5"))
    return {c.name: round(rest / len(silent), 6) if c.share is None else c.share for c in classes}


def engine_section(engine: str | None, assumed: list[Assumption]) -> dict[str, Any]:
    """Return the section of an engine, a name and a version after a colon. Raises InputError."""
    name, _, version = (engine or _USUAL_ENGINE).partition(":")
    if name == "penstock":
        name = INSIDE + _USUAL_ENGINE
    if name not in simulated_engines():
        raise InputError(f"--engine {name[:60]!r}{nearest(name, simulated_engines())}")
    try:
        facts = engine_facts(base_engine(name), version or None)
    except InputError as error:
        raise InputError(f"--engine: {error}") from None
    if engine is None:
        assumed.append(Assumption("engine", f"{_USUAL_ENGINE} {facts.version}, its own scheduler",
                                  "--engine NAME:VERSION"))
    return {"name": name, "version": facts.version}


def _num_requests(classes: Sequence[Mapping[str, Any]],
                  traffic: Sequence[Mapping[str, Any]]) -> int | None:
    """Return enough requests that arrivals outlast the longest target, None for trace files."""
    if any(isinstance(entry.get("trace"), Mapping) for entry in traffic):
        return None
    longest_s: float = max(value for c in classes for key, value in c["slo"].items()
                           if key.endswith("_s"))
    rate = math.fsum(entry["rate_per_s"] for entry in traffic)
    number = min(max(1.5 * longest_s * rate, _FEWEST_REQUESTS), _MOST_REQUESTS)
    return math.ceil(number / 100) * 100

