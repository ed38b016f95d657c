"""Option texts to the answers that a fleet is drafted from."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.fleet.draft import Answers, ClassAnswer, Draft, GpuAnswer
    from penstock.fleet.values import Fleet

# Key of --class -> field of the fleet file that reads its value.
_TARGETS = {"ttft": "ttft_s", "itl": "itl_s", "tpot": "itl_s", "e2e": "e2e_s",
            "percentile": "percentile"}
_CLASS_FIELDS = {"rate": "traffic.rate_per_s", "priority": "service_classes.priority",
                 **{key: f"service_classes.slo.{name}" for key, name in _TARGETS.items()}}
_LENGTHS = ("trace", "prompt", "output")
_FIXED = "traffic.lengths.prompt.fixed"
_QUANTILE = re.compile(r"p(5[1-9]|[6-9][0-9])(\.[0-9]+)?")
_CLASS_KEYS = ("share", *_CLASS_FIELDS, *_LENGTHS)


def answered(given: Mapping[str, Any], base: Path | None = None) -> "Answers":
    """The answers in a command's options by parameter name. Paths are made relative to ``base``
    where it is given. Raises InputError, with the option's name, for what cannot be read."""
    from penstock.fleet.draft import Answers

    slo = slo_of(given, "--itl and --tpot")
    traced = _traced(given.get("columns"), given.get("clock"))
    lengths = _lengths({"trace": given.get("trace"), "prompt": given.get("prompt_tokens"),
                        "output": given.get("output_tokens")},
                       {"trace": "--trace", "prompt": "--prompt-tokens",
                        "output": "--output-tokens"}, base, traced)
    classes = _classes(given.get("classes") or [], base, traced)
    if traced and not any(isinstance(one.get("trace"), Mapping)
                          for one in (lengths, *(c.lengths for c in classes))):
        raise InputError(f"{'--map' if 'columns' in traced else '--clock'}: stands beside no trace "
                         "file; expected --trace FILE")
    precisions, catalog = given.get("precisions"), given.get("catalog")
    return Answers(
        model=given["model"], config=_relative(given["model"], base),
        gpus=_gpus(given["gpu"], given.get("price") or []),
        rate_per_s=given.get("rate"), slo=slo, lengths=lengths, engine=given.get("engine"),
        classes=classes,
        precisions=() if precisions is None else tuple(
            part.strip() for part in precisions.split(",")),
        max_context_tokens=given.get("max_context"), num_requests=given.get("requests"),
        price_basis=given.get("price_basis"),
        catalog=None if catalog is None else _relative(str(catalog), base, always=True))


def draft_of(given: Mapping[str, Any], base: Path | None = None) -> "Draft":
    """The fleet file that the options describe. Raises InputError."""
    from penstock.catalog import load_catalog
    from penstock.fleet.draft import drafted

    return drafted(answered(given, base), load_catalog(given.get("catalog")))


def fleet_of(draft: "Draft", overrides: Mapping[str, Any], base: Path | None = None,
             data_dir: Path | None = None) -> "Fleet":
    """The draft's fleet, to be planned. Raises InputError in the words of the command line."""
    from penstock.cli.trace_columns import note_clocks
    from penstock.fleet.load import parse_fleet
    from penstock.report.draft_text import draft_text

    try:
        fleet = parse_fleet(draft_text(draft.data, ()), "the options", overrides, data_dir,
                            base=base or ".", to_plan=True)
        note_clocks(fleet)
        return fleet
    except InputError as error:
        place, colon, rest = str(error).partition(": ")
        raise InputError(rest if colon and place.startswith("the options:") else str(error)
                         ) from None


def _relative(path: str, base: Path | None, *, always: bool = False) -> str:
    """A path as a file in ``base`` must write it; a name of the catalog stays."""
    from penstock.catalog import is_config_path

    if base is None or Path(path).is_absolute() or not (always or is_config_path(path)):
        return path
    return os.path.relpath(Path(path).expanduser(), base.resolve())


def _gpus(texts: list[str], prices: list[str]) -> "tuple[GpuAnswer, ...]":
    from penstock.fleet.declared import field_value
    from penstock.fleet.draft import GpuAnswer

    stated = {}
    for text in prices:
        name, _, amount = text.rpartition("=")
        stated[name] = _value("--price", "accelerators.price_per_hour", amount)
    gpus = []
    for text in texts:
        name, colon, count = text.partition(":")
        if not name:
            raise InputError(f"--gpu {text[:60]!r}: expected NAME or NAME:COUNT")
        try:
            number = field_value("accelerators.count", count) if colon else None
        except InputError as error:
            raise InputError(f"--gpu {text[:60]!r}: expected NAME:COUNT; the count: {error}"
                             ) from None
        gpus.append(GpuAnswer(name, number, stated.pop(name, stated.get(""))))
    stated.pop("", None)
    for name in stated:
        raise InputError(f"--price {name[:60]}: no --gpu of this name"
                         f"{nearest(name[:60], [gpu.name for gpu in gpus])}")
    return tuple(gpus)


def _traced(columns: str | None, clock: str | None) -> dict[str, Any]:
    """Keys of a trace file's section that --map and --clock state. Raises InputError."""
    from penstock.cli.trace_columns import column_map_of, named_columns

    if columns is None and clock is None:
        return {}
    column_map_of(columns, clock)
    stated = {"columns": named_columns(columns) or None, "clock": clock}
    return {key: value for key, value in stated.items() if value is not None}


def _classes(texts: list[str], base: Path | None,
             traced: Mapping[str, Any]) -> "tuple[ClassAnswer, ...]":
    from penstock.fleet.draft import ClassAnswer

    found = []
    for text in texts:
        name, *settings = text.split(":")
        values: dict[str, str] = {}
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise InputError(f"--class {text[:60]!r}: found {setting[:60]!r}; expected "
                                 "KEY=VALUE after ':'")
            if key not in _CLASS_KEYS:
                raise InputError(f"--class {name[:60]}: unknown key {key[:60]!r}"
                                 f"{nearest(key[:60], _CLASS_KEYS)}")
            if key in values:
                raise InputError(f"--class {name[:60]}: {key} appears twice")
            values[key] = value
        if not name:
            raise InputError(f"--class {text[:60]!r}: expected NAME or NAME:KEY=VALUE")
        if "share" in values and "rate" in values:
            raise InputError(f"--class {name[:60]}: both of share and rate; expected one of them")
        read = {key: _value(f"--class {name[:60]}:{key}", _CLASS_FIELDS[key], value)
                for key, value in values.items() if key in _CLASS_FIELDS}
        lengths = _lengths({key: values.get(key) for key in _LENGTHS},
                           {key: f"--class {name[:60]}:{key}" for key in _LENGTHS}, base,
                           traced)
        found.append(ClassAnswer(
            name, _share(name, values.get("share")), read.get("rate"), read.get("priority"),
            slo_of(read, f"--class {name[:60]}: both of itl and tpot"), lengths))
    return tuple(found)


def slo_of(given: Mapping[str, Any], both: str) -> dict[str, Any]:
    """An objective of the targets that are given; ``both`` names the two that exclude each
    other."""
    slo = {name: given[key] for key, name in _TARGETS.items() if given.get(key) is not None}
    if given.get("tpot") is not None:
        if given.get("itl") is not None:
            raise InputError(f"{both}: expected one of them")
        slo["itl"] = "mean"
    return slo


def _share(name: str, text: str | None) -> float | None:
    """A share of the traffic, within the bounds that the file's mix has."""
    try:
        share = None if text is None else float(text)
    except ValueError:
        share = math.nan
    if share is not None and not 0 < share <= 1:
        raise InputError(f"--class {name[:60]}:share: found {str(text)[:60]!r}; expected more than "
                         "0, at most 1")
    return share


def _lengths(texts: Mapping[str, str | None], options: Mapping[str, str],
             base: Path | None, traced: Mapping[str, Any]) -> dict[str, Any]:
    """Part of a traffic entry, from a trace or from both lengths; empty without either. ``traced``
    are further keys of a trace file's section."""
    trace, prompt, output = (texts[key] for key in _LENGTHS)
    if trace is not None:
        if prompt is not None or output is not None:
            raise InputError(f"{options['trace']}: states lengths too; leave it out, or "
                             f"{options['prompt']} and {options['output']}")
        if "." in trace or "/" in trace or Path(trace).is_file():
            if not Path(trace).expanduser().is_file():
                raise InputError(f"{options['trace']}: no file {trace[:200]!r}")
            return {"trace": {"file": _relative(trace, base, always=True), **traced}}
        from penstock.workload.length_tables import length_table_names

        if trace not in length_table_names():
            raise InputError(f"{options['trace']}: unknown lengths {trace[:60]!r}"
                             f"{nearest(trace[:60], length_table_names())}")
        return {"trace": trace}
    if prompt is None and output is None:
        return {}
    for key, text in (("prompt", prompt), ("output", output)):
        if text is None:
            raise InputError(f"{options[key]}: missing; both lengths are needed")
    return {"lengths": {"prompt": _tokens(options["prompt"], str(prompt)),
                        "output": _tokens(options["output"], str(output))}}


def _tokens(option: str, text: str) -> dict[str, Any]:
    """One length: a number, or the lognormal through the median and one more quantile, which is
    cut at ``max``, or else at its 99.99th percentile."""
    if "=" not in text:
        return {"fixed": _value(option, _FIXED, text)}
    from statistics import NormalDist

    tokens = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name in tokens:
            raise InputError(f"{option} {text[:60]!r}: {name} appears twice")
        tokens[name] = _value(f"{option} {part[:60]!r}", _FIXED, value)
    most = tokens.pop("max", None)
    median, others, normal = tokens.pop("p50", None), [*tokens.items()], NormalDist()
    if median is None or len(others) != 1 or not _QUANTILE.fullmatch(others[0][0]) \
            or others[0][1] <= median:
        raise InputError(f"{option} {text[:60]!r}: expected the median, one larger quantile and, "
                         "if need be, where to cut, such as p50=400,p99=6000,max=8000")
    (name, high), = others
    share = float(name[1:]) / 100
    sigma = math.log(high / median) / normal.inv_cdf(share)
    if most is None:
        most = math.ceil(median * math.exp(sigma * normal.inv_cdf(0.9999)))
    return {"weights": [1.0], "mus": [round(math.log(median), 6)], "sigmas": [round(sigma, 6)],
            "max_tokens": most}


def _value(option: str, path: str, text: str) -> Any:
    from penstock.fleet.declared import field_value

    try:
        return field_value(path, text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
