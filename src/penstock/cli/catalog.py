"""``penstock catalog``: accelerators and models that Penstock knows."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.catalog_explain import explain
from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson, OwnCatalog

if TYPE_CHECKING:
    from penstock.catalog import Catalog


app = App()


@app.callback(epilog="Example: penstock catalog show a100-80gb")
def _catalog() -> None:
    """Show known accelerators, models, policies and engines."""


@app.command("list", epilog="Example: penstock catalog list --json")
def list_entries(extra: OwnCatalog = None, as_json: AsJson = False) -> int:
    """List every accelerator and model by name."""
    from penstock.catalog import load_catalog
    from penstock.cli.console import print_json, print_tables

    catalog = load_catalog(extra)
    if as_json:
        print_json({"accelerators": list(catalog.accelerators), "models": list(catalog.models)})
    else:
        print_tables(_tables(catalog))
    return OK


@app.command("show", epilog="Example: penstock catalog show llama-3-8b")
def show(name: Annotated[str, typer.Argument(
        metavar="NAME", show_default=False,
        help="An accelerator, a model, or a Hugging Face config.json.")],
        extra: OwnCatalog = None, as_json: AsJson = False) -> int:
    """Show one accelerator or model, with the source of each number."""
    from dataclasses import asdict

    from penstock.catalog import load_catalog
    from penstock.cli.console import print_json, print_tables
    from penstock.report.model.table import Column, table

    kind, entry = _find(load_catalog(extra), name)
    values = asdict(entry)
    if as_json:
        print_json({"kind": kind, **values, **_derived(entry)})
        return OK
    sources, prices = values.pop("sources", {}), values.pop("prices", ())
    rows = [(field, _format_value(value), sources.get(field, ""))
            for field, value in {**values, **_derived(entry)}.items() if field != "name"]
    rows += [(f"price, {price['basis']}", f"{price['per_hour']:,.6g} {price['date']}".strip(),
              price["source"]) for price in prices]
    print_tables([table(f"{kind} {entry.name}", (
        "field", Column("value", prose=True), Column("source", prose=True)), rows)])
    return OK


app.command("explain", epilog="Example: penstock catalog explain llama-3-8b --gpu h100-80gb "
            "--prefill 512 --decodes 64 --context 2000")(explain)


@app.command("choices", epilog="Example: penstock catalog choices --json")
def choices(as_json: AsJson = False) -> int:
    """List every policy, engine and format that can be chosen by name, and mark plug-ins."""
    from penstock.cli.console import print_json, print_tables
    from penstock.registry.listing import listed
    from penstock.report.model.table import Column, table

    found = list(listed())
    if as_json:
        print_json([{**one._asdict(), "settings": list(one.settings)} for one in found])
        return OK
    rows = [(one.axis, one.name, ", ".join(one.settings), one.problem or one.plug_in)
            for one in found]
    print_tables([table("Names that can be chosen", (
        "kind", "name", Column("settings", prose=True), Column("plug-in", prose=True)), rows)])
    return OK


def _find(catalog: "Catalog", name: str) -> tuple[str, Any]:
    """Return the entry of that name. Raises InputError with the nearest name of either kind."""
    from penstock.core.errors import InputError, nearest

    try:
        return "accelerator", catalog.accelerator(name)
    except InputError:
        pass
    known = {*catalog.models, *catalog.model_aliases}
    if name.lower() in {other.lower() for other in known} or "/" in name or "." in name:
        return "model", catalog.model(name)
    raise InputError(f"the catalog has no {name[:60]!r}"
                     f"{nearest(name[:60], [*catalog.accelerators, *catalog.models])}")


def _derived(entry: Any) -> dict[str, Any]:
    """Return the derived figures of a model's architecture."""
    if not hasattr(entry, "num_layers"):
        return {}
    return {"num_params": entry.num_params, "active_params": entry.active_params,
            "kv_bytes_per_token_bf16": entry.kv_bytes_per_token("bf16")}


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_format_value(inner)}" for key, inner in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _tables(catalog: "Catalog") -> list[Any]:
    from penstock.core.units import GIB
    from penstock.report.model.table import Column, table

    accelerators = [(a.name, f"{a.memory_bytes / GIB:.0f} GiB",
                     f"{a.bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
                     f"{a.flops('bf16') / 1e12:,.0f} TFLOP/s",
                     "-" if a.price_per_hour is None else f"${a.price_per_hour:.2f}",
                     f"{a.price_basis} {a.price_date}".strip() or "none: state yours")
                    for a in catalog.accelerators.values()]
    models = [(m.name, f"{m.num_params / 1e9:,.1f} B", f"{m.active_params / 1e9:,.1f} B",
               f"{m.max_context_tokens:,}", f"{m.kv_bytes_per_token('bf16') / 1024:,.0f} KiB")
              for m in catalog.models.values()]
    return [table("Accelerators", ("name", "memory", "bandwidth", "dense bf16",
                                   "per hour", Column("price basis, date", prose=True)),
                  accelerators),
            table("Models", ("name", "parameters", "active", "context tokens",
                             "KV per token (bf16)"), models)]
