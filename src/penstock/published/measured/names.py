"""Catalog entries and formats that measured points name in their own ways."""

import re
from functools import cache

from penstock.catalog import Catalog, load_catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.published.measured.rows import Measured

_PRECISIONS = {"fp8": "fp8", "bf16": "bf16", "fp16": "fp16", "nvfp4": "fp4", "mxfp4": "fp4",
               "int4": "int4", "int4 (awq/gptq)": "int4"}
# A repository's name is a model's name with a format, a tuning or a date at its end.
_SUFFIXES = re.compile(
    r"-(fp8|nvfp4|mxfp4|fp4|awq|gptq|int4|kv|instruct|chat|hf|dynamic|0528|2507|v0\.\d)$")


class NotExpressedError(Exception):
    """A point that the simulator cannot express. The message says why."""


@cache
def catalog() -> Catalog:
    """Return the catalog in which models and accelerators are looked up."""
    return load_catalog()


def model_of(name: str) -> ModelSpec:
    """Return the model of a repository's name, whatever format or tuning the name adds."""
    short = name.lower().rpartition("/")[2]
    while True:
        for candidate in (name, short):
            try:
                return catalog().listed_model(candidate)
            except InputError:
                continue
        name, shorter = "", _SUFFIXES.sub("", short)
        if shorter == short:
            raise NotExpressedError(f"model {name or short} is not in the catalog")
        short = shorter


def accelerator_of(name: str) -> Accelerator:
    """Return the accelerator of a name. Raises NotExpressedError."""
    try:
        return catalog().accelerator(name)
    except InputError:
        raise NotExpressedError(f"accelerator {name} is not in the catalog") from None


def precision_of(row: Measured) -> str:
    """Return the format of a row's weights. Raises NotExpressedError."""
    if row.precision in _PRECISIONS:
        return _PRECISIONS[row.precision]
    if row.precision:
        raise NotExpressedError(f"weights in {row.precision}")
    for name in ("fp8", "nvfp4", "mxfp4"):
        if name in row.model.lower():
            return _PRECISIONS[name]
    return "fp8" if "deepseek" in row.model.lower() else "bf16"  # as DeepSeek publishes them
