"""``penstock keys``: who may ask a gateway."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import ledger_file, ledger_url, read_fleet
from penstock.cli.options import AsJson, FleetFile, LedgerUrl
from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.serving.tenants.keys import Key
    from penstock.serving.tenants.store import Store

app = App()
_LONGEST = 200


@app.callback(epilog="Example: penstock keys create gateway.yaml shop")
def _keys() -> None:
    """API keys of a gateway: make, list and revoke them.

    Keys are stored as hashes in the ledger of `penstock serve` for the same fleet file. A running
    gateway notices changes within seconds.
    """


@app.command(epilog="Example: penstock keys create gateway.yaml shop --label laptop")
def create(
    fleet_file: FleetFile,
    tenant: Annotated[str | None, typer.Argument(
        metavar="TENANT", help="Tenant of the key; without a tenant the key cannot send "
                               "inference requests.",
        show_default=False)] = None,
    admin: Annotated[bool, typer.Option(
        "--admin", help="The key gives access to metrics, status and the spending of all "
                        "tenants.")] = False,
    label: Annotated[str, typer.Option(
        "--label", metavar="TEXT", help="Description of the key in lists.")] = "",
    ledger: LedgerUrl = None, as_json: AsJson = False,
) -> int:
    """Make a key and print it once; only its hash is stored."""
    import secrets
    import time
    from dataclasses import asdict

    from penstock.cli.console import note, print_json
    from penstock.serving.tenants.keys import new_key

    known = [one.name for one in read_fleet(fleet_file).gateway.tenants]
    _check(fleet_file, tenant, known, label, admin=admin)
    text, key = new_key(tenant or "", time.time(), secrets.token_bytes, admin=admin, label=label)
    _open(fleet_file, ledger).add_key(key)
    if as_json:
        print_json({"key": text, **_redact(asdict(key))})
    else:
        typer.echo(text)
        note(f"key {key.key_id} of {tenant or 'an administrator'}: it is not shown again")
    return OK


@app.command("list", epilog="Example: penstock keys list gateway.yaml --json")
def list_keys(fleet_file: FleetFile, ledger: LedgerUrl = None, as_json: AsJson = False) -> int:
    """List the keys by their public ids, and tenants with disputed requests.

    A request is disputed where its engine counted tokens that cannot be true.
    """
    from dataclasses import asdict

    from penstock.cli.console import print_json, print_tables
    from penstock.report.model.table import table

    store = _open(fleet_file, ledger, known=True)
    keys, disputed = store.list_keys(), _disputed(store)
    if as_json:
        print_json([{**_redact(asdict(key)), **({"num_disputed": disputed[key.tenant]}
                                                if key.tenant in disputed else {})}
                    for key in keys])
        return OK
    tables = [table("keys", ("key", "tenant", "admin", "label", "created", "revoked"),
                    [_row(key) for key in keys])]
    if disputed:
        tables.append(table("disputed requests", ("tenant", "requests"),
                            [(name, str(number)) for name, number in sorted(disputed.items())]))
    print_tables(tables)
    return OK


@app.command(epilog="Example: penstock keys revoke gateway.yaml 0a1b2c3d4e5f")
def revoke(
    fleet_file: FleetFile,
    key_id: Annotated[str, typer.Argument(
        metavar="KEY", help="The key's public id, as `keys list` shows it.", show_default=False)],
    ledger: LedgerUrl = None,
) -> int:
    """Revoke a key."""
    import time

    store = _open(fleet_file, ledger, known=True)
    # Whoever pastes the whole key means the same; its secret is not repeated in errors.
    public = key_id.split("-")[1] if key_id.count("-") >= 2 else key_id
    if not store.revoke_key(public, time.time()):
        raise InputError(f"no key {public[:60]!r}{nearest(public[:60], _ids(store))}")
    return OK


def _check(fleet_file: Path, tenant: str | None, known: list[str], label: str, *,
           admin: bool) -> None:
    if tenant is None and not admin:
        raise InputError("expected a TENANT, or --admin for a key that administers"
                         + nearest("", known))
    if tenant is not None and known and tenant not in known:
        raise InputError(f"{fleet_file}: no tenant {tenant[:60]!r}{nearest(tenant[:60], known)}")
    if tenant is not None and (not 0 < len(tenant) <= _LONGEST or not tenant.isprintable()
                               or " " in tenant):
        raise InputError(f"TENANT: expected a name without spaces, of at most {_LONGEST} "
                         "characters")
    if len(label) > _LONGEST or not label.isprintable():
        raise InputError(f"--label: expected printable text of at most {_LONGEST} characters")


def _open(fleet_file: Path, url: str | None, *, known: bool = False) -> "Store":
    from penstock.serving.tenants.store import open_store
    path = ledger_file(fleet_file)
    if url is None and known and not path.exists():
        raise InputError(f"{path}: no ledger yet; penstock keys create makes one, --ledger names "
                         "another")
    return open_store(url or ledger_url(path))


def _disputed(store: "Store") -> dict[str, int]:
    """Return the number of disputed requests of each tenant that has any."""
    found: dict[str, int] = {}
    for spent in store.report(0):
        if spent.num_disputed:
            found[spent.tenant] = found.get(spent.tenant, 0) + spent.num_disputed
    return found


def _ids(store: "Store") -> list[str]:
    return [key.key_id for key in store.list_keys()]


def _row(key: "Key") -> tuple[str, ...]:
    return (key.key_id, key.tenant, "yes" if key.admin else "", key.label,
            _moment(key.created_s), "" if key.revoked_s is None else _moment(key.revoked_s))


def _redact(key: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in key.items() if name != "digest"}


def _moment(at_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
