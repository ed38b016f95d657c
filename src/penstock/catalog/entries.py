"""Catalog entries: check of fields, merging of files, conversion to values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.catalog.checks import Field, checked_model, is_text, number, quote, whole
from penstock.catalog.prices import DATE, PRICE, listed_prices, merged, stated_price
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.core.model import BYTES_PER_VALUE, ModelSpec
from penstock.core.units import GB, GIB

# The upper bounds catch a wrong unit: bytes where GiB are expected, FLOPs where TFLOPs are.
_RATE = number(0, 1e6, "GB/s", above=True)
_TFLOPS = number(0, 1e6, "TFLOP/s", above=True)
_SIZE = whole(1, 10_000_000, required=True)
_SIZE_OR_ZERO = whole(0, 10_000_000)
_TEXT = Field("text", is_text)
_FLAG = Field("true or false", lambda value: isinstance(value, bool))
_COMMON = {
    "source": _TEXT,
    "aliases": Field("a list of names",
                     lambda value: isinstance(value, list) and all(map(is_text, value))),
}

ACCELERATOR_FIELDS: Mapping[str, Field] = {
    "vendor": _TEXT,
    "memory_gib": number(0, 100_000, "GiB", above=True, required=True),
    "bandwidth_gb_per_s": number(0, 1e6, "GB/s", above=True, required=True),
    "peak_tflops": Field("a mapping from precisions to dense TFLOP/s",
                         lambda value: isinstance(value, dict) and bool(value), required=True),
    "power_w": number(0, 100_000, "watts", above=True, required=True),
    "idle_w": number(0, 100_000, "watts"),
    "mid_w": number(0, 100_000, "watts"),
    "mid_utilization": number(0, 1, "a share", above=True),
    "link_gb_per_s": _RATE,
    "pcie_gb_per_s": number(0, 1e6, "GB/s", above=True, required=True),
    "price_per_hour": PRICE,
    "price_basis": _TEXT,
    "price_date": DATE,
    "prices": Field("a list of prices", lambda value: isinstance(value, list)),
    "max_per_node": whole(1, 10_000),
    "confidential": _FLAG,
    "sources": Field("a mapping from fields to texts",
                     lambda value: isinstance(value, dict) and all(map(is_text, value.values()))),
    **_COMMON,
}

MODEL_FIELDS: Mapping[str, Field] = {
    **dict.fromkeys(("num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim",
                     "intermediate_size", "vocab_size"), _SIZE),
    "max_context_tokens": whole(1, 1_000_000_000, required=True),
    **dict.fromkeys(("tied_embeddings", "gated_mlp", "gated_attention"), _FLAG),
    **dict.fromkeys(("num_experts", "experts_per_token", "expert_intermediate_size",
                     "shared_intermediate_size", "num_dense_layers", "kv_latent_size",
                     "q_latent_size", "rope_head_dim", "v_head_dim", "kv_layers",
                     "window_layers", "window_tokens", "sparse_tokens", "linear_key_heads",
                     "linear_value_heads", "linear_head_dim"), _SIZE_OR_ZERO),
    **_COMMON,
}

# Key in a file -> field of core.hardware.Accelerator, and the value of one unit of the key.
_UNITS = {
    "memory_gib": ("memory_bytes", GIB),
    "bandwidth_gb_per_s": ("bandwidth_bytes_per_s", GB),
    "link_gb_per_s": ("link_bytes_per_s", GB),
    "pcie_gb_per_s": ("pcie_bytes_per_s", GB),
    "peak_tflops": ("peak_flops", 1_000 * GB),
}
_OF_CURVE = ("idle_w", "mid_w", "mid_utilization")
_NOT_FACTS = ("aliases", "source", "sources")
_OF_PRICES = ("prices", "price_per_hour", "price_basis", "price_date")  # each has its own source


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as its files state it. ``sources`` has a text for every key of ``values``."""

    name: str
    where: str
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    aliases: tuple[str, ...]

    def overridden(self, by: "Entry") -> "Entry":
        """Return the entry with the fields of ``by``, from a later file, replaced."""
        values = dict(self.values)
        if "price_per_hour" in by.values:  # the old date and basis belong to the old price
            values.pop("price_date", None)
            values.pop("price_basis", None)
        values.update(by.values)
        if "prices" in values:
            values["prices"] = merged(by.values.get("prices", ()), self.values.get("prices", ()))
        sources = {key: text for key, text in {**self.sources, **by.sources}.items()
                   if key in values}
        return Entry(self.name, by.where, values, sources, (*self.aliases, *by.aliases))


def checked_entry(name: Any, data: Any, fields: Mapping[str, Field], section: str,
                  source: str) -> Entry:
    """Check one entry of a file's section. Raises InputError with file, entry, field and expected
    value.

    A field without its own source has the entry's ``source``, or the file's name.
    """
    where = f"{source}: {section}: {quote(name) if not is_text(name) else name}"
    if not is_text(name) or name != name.strip():
        raise InputError(f"{where}: found {quote(name)} as a name; expected text")
    if not isinstance(data, dict):
        raise InputError(f"{where}: found {quote(data)}; expected a mapping of fields")
    for key, value in data.items():
        if key not in fields:
            raise InputError(f"{where}: unknown key {quote(key)}{nearest(str(key), fields)}")
        _check(f"{where}: {key}", value, fields[key])
    stated = data.get("sources", {})
    for key in stated:
        if key not in fields or key in _NOT_FACTS:
            raise InputError(f"{where}: sources: unknown key {quote(key)}"
                             f"{nearest(str(key), set(fields) - set(_NOT_FACTS))}")
    values = {key: value for key, value in data.items() if key not in _NOT_FACTS}
    _check_peaks(where, values.get("peak_tflops", {}))
    usual = data.get("source", source)
    sources = {key: stated.get(key, usual) for key in values}
    if "prices" in values:
        values["prices"] = listed_prices(where, values["prices"], sources["prices"])
    return Entry(name, where, values, sources, tuple(data.get("aliases", ())))


def _check(where: str, value: Any, field: Field) -> None:
    if not field.accepts(value):
        raise InputError(f"{where}: found {quote(value)}; expected {field.expected}")


def _check_peaks(where: str, peaks: Mapping[Any, Any]) -> None:
    for precision, value in peaks.items():
        if precision not in BYTES_PER_VALUE:
            raise InputError(f"{where}: peak_tflops: unknown precision {quote(precision)}"
                             f"{nearest(str(precision), BYTES_PER_VALUE)}")
        _check(f"{where}: peak_tflops: {precision}", value, _TFLOPS)
    if peaks and not {"fp16", "fp32"} & set(peaks):
        raise InputError(f"{where}: peak_tflops: found {', '.join(peaks)} only; expected fp16 or "
                         "fp32 among them")


def _require(entry: Entry, fields: Mapping[str, Field]) -> None:
    for key, field in fields.items():
        if field.required and key not in entry.values:
            raise InputError(f"{entry.where}: {key} is missing; expected {field.expected}")


def accelerator_from(entry: Entry) -> Accelerator:
    """Build the accelerator, without a choice among its ``prices``. Without ``link_gb_per_s``,
    accelerators communicate over PCIe."""
    _require(entry, ACCELERATOR_FIELDS)
    values, sources = dict(entry.values), dict(entry.sources)
    if "link_gb_per_s" not in values:
        values["link_gb_per_s"] = values["pcie_gb_per_s"]
        sources["link_gb_per_s"] = f"no direct link, so PCIe: {sources['pcie_gb_per_s']}"
    units = {key: factor for key, (_, factor) in _UNITS.items()}
    scaled = {_field(key): _scaled(value, units[key]) if key in units else value
              for key, value in values.items()}
    scaled["memory_bytes"] = round(scaled["memory_bytes"])
    scaled["prices"] = merged(stated_price(values, sources), values.get("prices", ()))
    for key in ("price_date", "price_basis"):
        scaled.pop(key, None)
    scaled["price_per_hour"] = None
    for key in ("power_w", *_OF_CURVE):
        if key in scaled:
            scaled[key] = float(scaled[key])
    scaled.setdefault("vendor", "")
    found = Accelerator(name=entry.name, **scaled,
                        sources={_field(key): text for key, text in sources.items()
                                 if key not in _OF_PRICES})
    _check_power(entry, found)
    return found


def _check_power(entry: Entry, found: Accelerator) -> None:
    """Raises InputError where the entry's power curve is incomplete or falls."""
    if found.idle_w is None and (found.mid_w, found.mid_utilization) != (None, None):
        raise InputError(f"{entry.where}: idle_w is missing; expected "
                         f"{ACCELERATOR_FIELDS['idle_w'].expected}, beside mid_w and "
                         "mid_utilization")
    try:
        _ = found.power
    except InputError as error:
        raise InputError(f"{entry.where}: {error}") from None


def _field(key: str) -> str:
    return _UNITS[key][0] if key in _UNITS else key


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, dict):
        return {precision: peak * float(factor) for precision, peak in value.items()}
    return value * float(factor)


def model_from(entry: Entry) -> ModelSpec:
    """Build the model. Its ``source`` names every file that states one of its fields."""
    _require(entry, MODEL_FIELDS)
    source = "; ".join(dict.fromkeys(entry.sources.values()))
    return checked_model(ModelSpec(name=entry.name, **entry.values, source=source), entry.where)
