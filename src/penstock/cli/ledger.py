"""``penstock ledger``: whether the books of gateways are right."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.serving.tenants.store import Store

app = App()
_SQLITE = b"SQLite format 3\x00"
_TIMEOUT_S = 10.0


@app.callback(epilog="Example: penstock ledger check gateway.yaml")
def _ledger() -> None:
    """The ledger of a gateway: every charge, and sums by tenant, model and day."""


@app.command(epilog="Example: penstock ledger check gateway.yaml --decisions decisions.jsonl")
def check(
    place: Annotated[str, typer.Argument(
        metavar="FLEET_OR_LEDGER", show_default=False,
        help="Fleet file of the gateway, SQLite file of the ledger, or its SQLAlchemy URL.")],
    decisions: Annotated[list[Path] | None, typer.Option(
        "--decisions", metavar="LOG", show_default=False,
        help="Log of `penstock serve --decisions`, with its rotated files; repeat for several "
             "gateways.")] = None,
    metrics: Annotated[list[str] | None, typer.Option(
        "--metrics", metavar="URL_OR_FILE", show_default=False,
        help="A gateway, or a file of its /metrics; repeat for several. The admin key of a "
             "gateway is in PENSTOCK_API_KEY.")] = None,
    as_json: AsJson = False,
) -> int:
    """Check that every request is charged once and every token counted once.

    Joins the ledger, decision logs and metrics, and prints each difference in one line. Exit
    status: 0 consistent, 1 not, 2 bad input. While requests are in progress, their last moments
    may differ.
    """
    import time

    from penstock.cli.console import print_json
    from penstock.serving.tenants.reconcile import reconcile
    from penstock.serving.tenants.store import StoreError

    store = _opened(place)
    try:
        found = reconcile(store, time.time(), decisions or (),
                          [_text(one) for one in metrics or ()])
    except StoreError as error:
        raise InputError(f"{store.name}: {error}") from None
    finally:
        store.close()
    if as_json:
        print_json({"consistent": not found.differences, **found._asdict()})
    else:
        for line in found.differences:
            typer.echo(line)
        logged = f" and {found.num_decisions} decisions" if decisions else ""
        typer.echo(f"{found.num_charges} charges{logged}: "
                   f"{len(found.differences) or 'no'} differences")
    return MISSED if found.differences else OK


def _opened(place: str) -> "Store":
    """Return the ledger at a URL, in a file, or of a fleet file. Raises InputError."""
    from penstock.cli.fleets import ledger_file, ledger_url
    from penstock.serving.tenants.store import open_store

    if "://" in place:
        return open_store(place)
    path = Path(place)
    try:
        with path.open("rb") as file:
            is_ledger = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror or error})") from error
    path = path if is_ledger else ledger_file(path)
    if not path.exists():
        raise InputError(f"{path}: no ledger yet; expected a fleet file with a ledger beside it, "
                         "the ledger's file, or its URL")
    return open_store(ledger_url(path.resolve()))


def _text(place: str) -> str:
    """Return a gateway's metrics. Raises InputError."""
    if not place.startswith(("http://", "https://")):
        try:
            return Path(place).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--metrics {place}: cannot be read") from error
    import os
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    from penstock.engines.client.address import base_url
    from penstock.engines.tls import client_context

    key = os.environ.get("PENSTOCK_API_KEY")
    url = f"{base_url(place.removesuffix('/metrics'))}/metrics"
    try:
        with urlopen(Request(url, headers={"Authorization": f"Bearer {key}"} if key else {}),
                     timeout=_TIMEOUT_S, context=client_context(os.environ)) as answer:
            return str(answer.read().decode())
    except (URLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"--metrics {url}: {getattr(error, 'reason', error)}") from None
