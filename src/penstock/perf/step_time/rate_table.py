"""Rates of engines on accelerators: effects that were fitted on measurements, by what they are of.

The logarithm of a rate is a prior from the chip's kernels plus one effect for each group of a
deployment: of all, of its chip, of its engine, of the chip with the engine, and so on. An unknown
chip or engine has no effect of its own, and keeps the rate of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.perf.step_time.efficiency import fastest_kernels
from penstock.perf.step_time.terms import Rates

VERSION = 2
"""Version of files of rates: their effects come on top of ``prior_rates``."""

_LEAST_ELEMENTWISE = 0.5
"""Fused kernels save up to half of the element-wise traffic."""

_USUAL = Rates(
    weights=1.12, dense_flops=1.45, experts=1.4, expert_flops=2.15, decode_attention=1.3,
    prompt_attention=1.3, elementwise=2.0, link=1.7, layer_s=15e-6, prompt_layer_s=20e-6,
    expert_layer_s=15e-6, linear_layer_s=20e-6, reduction_s=6e-6, step_s=500e-6,
    prompt_step_s=1e-3, sequence_s=10e-6)
"""Usual rates, in multiples of the least where there is one, and usual times of launches."""

GROUPS: Mapping[str, float] = {
    "all": 1.0, "chip": 0.35, "engine": 0.35, "format": 0.3, "attention": 0.3, "chip+engine": 0.2,
    "engine+format": 0.2, "chip+format": 0.2, "model": 0.2, "engine+version": 0.2,
    "engine+ranks": 0.2, "engine+experts": 0.2}
"""Standard deviations of the effects of each group, in logarithms, before any measurement."""

SIDE_GROUPS: Mapping[str, float] = {
    "role": 0.5, "role+engine": 0.5, "role+chip+engine": 0.35, "role+engine+format": 0.25,
    "role+engine+version": 0.25, "role+engine+ranks": 0.3, "role+engine+experts": 0.25}
"""The same of replicas that compute only prompts or only answers, beside those of ``GROUPS``:
engines plan, capture and overlap the steps of either otherwise than mixed steps."""


class Deployment(NamedTuple):
    """Facts on which a deployment's rates depend, as texts."""

    chip: str
    engine: str
    version: str
    format: str
    attention: str
    model: str
    ranks: str
    experts: str
    role: str = ""

    def key(self, group: str) -> str:
        """Return the deployment's key in a group of ``GROUPS``."""
        if group == "all":
            return "all"
        return "|".join(getattr(self, part) for part in group.split("+"))


def deployment(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism,
               precision: str, engine: str, version: str = "", role: str = "") -> Deployment:
    """Return the facts of a replica. ``version`` may be empty, which no effect is of, and so may
    ``role``, of replicas that compute both prompts and answers."""
    attention = ("latent" if model.kv_latent_size else "linear" if model.linear_layers
                 else "window" if model.window_layers else "full")
    num_ranks = parallelism.tensor * parallelism.data
    ranks = f"{num_ranks}" + ("d" if parallelism.data > 1 else "") + (
        "n" if num_ranks > accelerator.max_per_node > 1 else "")
    experts = "whole" if parallelism.expert > 1 else "split"
    return Deployment(_chip(accelerator), engine, ".".join(version.split(".")[:2]),
                      _format(model, accelerator, precision), attention, model.name, ranks,
                      experts, role)


@cache
def least_rates(chip: str, number_format: str) -> Rates:
    """Return the rates below which none of a chip is: a whole engine does not read or multiply
    faster than nearly all large kernels that were timed alone. Switches send less than a ring, and
    launches may overlap, so other rates have no such bound. Tokens choose experts unevenly, so that
    a step reads fewer of them than in expectation: they may seem to be read at the peak."""
    fastest = fastest_kernels(chip, number_format)
    return Rates(1.0 / fastest.weights, 1.0 / fastest.products, 1.0, 1.0 / fastest.products,
                 1.0 / fastest.context, 1.0 / fastest.prompts, _LEAST_ELEMENTWISE,
                 *(0.0,) * (len(Rates._fields) - 7))


@cache
def prior_rates(chip: str, number_format: str) -> Rates:
    """Return the rates of a chip before any measurement of an engine on it."""
    return Rates(*(usual * (least or 1.0) for usual, least in
                   zip(_USUAL, least_rates(chip, number_format), strict=True)))


def _chip(accelerator: Accelerator) -> str:
    """Return the name without the size of the memory."""
    name = accelerator.name
    return name.rpartition("-")[0] if name.endswith("gb") else name


def _format(model: ModelSpec, accelerator: Accelerator, precision: str) -> str:
    if precision != "fp4":
        return precision
    micro_scaled = accelerator.vendor == "amd" or model.name.startswith("gpt-oss")
    return "mxfp4" if micro_scaled else "nvfp4"


@dataclass(frozen=True, slots=True)
class Errors:
    """5 % and 95 % quantiles of measured over predicted, on curves left out of the fit."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RateTable:
    """Fitted effects (logarithms) by parameter, group and key, and the errors that they leave by
    metric and family."""

    effects: Mapping[str, Mapping[str, Mapping[str, float]]]
    errors: Mapping[str, Mapping[str, Errors]]
    source: str

    def rates(self, of: Deployment) -> Rates:
        """Return the rates of a deployment."""
        return Rates(*map(max, self.unbounded(of), least_rates(of.chip, of.format)))

    def unbounded(self, of: Deployment) -> Rates:
        """Return the rates of a deployment as they were fitted, which bounds may hold back."""
        return Rates(*(
            exp(log(prior) + sum(effects.get(of.key(group), 0.0)
                                 for group, effects in self.effects.get(name, {}).items()))
            for name, prior in prior_rates(of.chip, of.format)._asdict().items()))

    def document(self) -> dict[str, Any]:
        """Return the table as files of rates have it."""
        return {"version": VERSION, "source": self.source,
                "errors": {metric: {family: [one.low, one.high] for family, one in families.items()}
                           for metric, families in self.errors.items()},
                "effects": {rate: {group: dict(keys) for group, keys in groups.items()}
                            for rate, groups in self.effects.items()}}

    def knows(self, of: Deployment, group: str) -> bool:
        """Whether any measurement was of the deployment's key in a group."""
        return of.key(group) in self.effects.get("step_s", {}).get(group, {})

    def error(self, metric: str, family: str, engine: str) -> Errors:
        """Return the errors of an engine in a family, of the family, or of all."""
        of_metric = self.errors[metric]
        names = (f"{family}, {engine}", family)
        return next((of_metric[name] for name in names if name in of_metric), of_metric["all"])


@cache
def fitted_rates() -> RateTable:
    """Return the table that ships with Penstock."""
    text = resources.files("penstock.perf").joinpath("data/engine_rates.yaml").read_text("utf-8")
    return _table(_parse(text), "engine_rates.yaml")


@cache
def load_rates(path: Path) -> RateTable:
    """Return the table of a file that ``penstock profile fit rates`` wrote. Raises InputError."""
    try:
        document = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    return _table(document, str(path))


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _table(document: Any, where: str) -> RateTable:
    try:
        errors = {metric: {family: Errors(*map(float, pair)) for family, pair in families.items()}
                  for metric, families in document["errors"].items()}
        effects = {rate: {group: {str(key): float(value) for key, value in keys.items()}
                          for group, keys in groups.items()}
                   for rate, groups in document["effects"].items()}
        found = RateTable(effects, errors, str(document["source"]))
        version = int(document.get("version", 1))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: no rates of engines ({error!r}); expected a file that "
                         "`penstock profile fit rates --out` wrote") from None
    if version != VERSION:
        raise InputError(f"{where}: version: expected {VERSION}, found {version}; rates of another "
                         "version mean something else: fit them again with `penstock profile fit "
                         "rates`")
    return found
