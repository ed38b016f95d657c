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
    from penstock.serving.tenants.audit_entry import AuditEntry
    from penstock.serving.tenants.keys import Key
    from penstock.serving.tenants.store import Store

app = App()
_LONGEST = 200

KeyId = Annotated[str, typer.Argument(
    metavar="KEY", help="The key's public id, as `keys list` shows it.", show_default=False)]
Expires = Annotated[str | None, typer.Option(
    "--expires", metavar="WHEN", show_default=False,
    help="When the key expires: a length of time such as 30d or 12h, or a date in UTC.")]


@app.callback(epilog="Example: penstock keys create gateway.yaml shop")
def _keys() -> None:
    """API keys of a gateway: make, list, rotate and revoke them.

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
    scope: Annotated[list[str] | None, typer.Option(
        "--scope", metavar="SCOPE", show_default=False,
        help="Right of the key, repeatable: ask, spend, metrics, status, drain, deploy, plan or "
             "admin; default: ask and spend for a tenant.")] = None,
    expires: Expires = None,
    ledger: LedgerUrl = None, as_json: AsJson = False,
) -> int:
    """Make a key and print it once; only its hash is stored."""
    import secrets
    import time

    from penstock.cli.moments import read_moment_s
    from penstock.serving.tenants.administration import create_key
    from penstock.serving.tenants.keys import new_key

    known = [one.name for one in read_fleet(fleet_file).gateway.tenants]
    scopes = _scopes(scope or [], tenant, admin=admin)
    _check(fleet_file, tenant, known, label, admin=admin or bool(scopes))
    now_s = time.time()
    expires_s = None if expires is None else read_moment_s("--expires", expires, now_s)
    text, key = new_key(tenant or "", now_s, secrets.token_bytes, admin=admin, label=label,
                        scopes=scopes, expires_s=expires_s)
    entry = _entry(now_s, "create a key", key)
    _open(fleet_file, ledger).transact(lambda connection: create_key(connection, key, entry))
    return _show(text, key, as_json=as_json)


@app.command(epilog="Example: penstock keys rotate gateway.yaml 0a1b2c3d4e5f --overlap 24h")
def rotate(
    fleet_file: FleetFile, key_id: KeyId,
    overlap: Annotated[str, typer.Option(
        "--overlap", metavar="TIME",
        help="How long the old key stays valid, such as 24h or 15m.")] = "24h",
    expires: Expires = None, ledger: LedgerUrl = None, as_json: AsJson = False,
) -> int:
    """Replace a key by a new one, which is printed once.

    The new key has the same tenant, scopes and label, and the same lifetime unless --expires is
    given.
    """
    import secrets
    import time

    from penstock.cli.moments import read_duration_s, read_moment_s
    from penstock.serving.tenants.administration import rotate_key
    from penstock.serving.tenants.keys import successor

    store, now_s = _open(fleet_file, ledger, known=True), time.time()
    old = _find(store, key_id)
    if old.revoked_s is not None or old.is_expired(now_s):
        raise InputError(f"key {old.key_id} is revoked or has expired; penstock keys create makes "
                         "a new one")
    ends_s = now_s + read_duration_s("--overlap", overlap)
    text, key = successor(old, now_s, secrets.token_bytes, None if expires is None else
                          read_moment_s("--expires", expires, now_s))
    if old.expires_s is not None:
        ends_s = min(ends_s, old.expires_s)
    entry = _entry(now_s, f"rotate key {old.key_id}", key)
    store.transact(lambda connection: rotate_key(connection, old.key_id, ends_s, key, entry))
    return _show(text, key, as_json=as_json)


@app.command("list", epilog="Example: penstock keys list gateway.yaml --json")
def list_keys(fleet_file: FleetFile, ledger: LedgerUrl = None, as_json: AsJson = False) -> int:
    """List the keys by their public ids, and tenants with disputed requests.

    A request is disputed where its engine counted tokens that cannot be true.
    """
    from penstock.cli.console import print_json, print_tables
    from penstock.report.model.table import table

    store = _open(fleet_file, ledger, known=True)
    keys, disputed = store.list_keys(), _disputed(store)
    if as_json:
        print_json([{**_redact(key), **({"num_disputed": disputed[key.tenant]}
                                                if key.tenant in disputed else {})}
                    for key in keys])
        return OK
    tables = [table("keys", ("key", "tenant", "admin", "label", "created", "revoked", "expires",
                             "scopes"), [_row(key) for key in keys])]
    if disputed:
        tables.append(table("disputed requests", ("tenant", "requests"),
                            [(name, str(number)) for name, number in sorted(disputed.items())]))
    print_tables(tables)
    return OK


@app.command(epilog="Example: penstock keys revoke gateway.yaml 0a1b2c3d4e5f")
def revoke(
    fleet_file: FleetFile, key_id: KeyId, ledger: LedgerUrl = None,
) -> int:
    """Revoke a key."""
    import time

    from penstock.serving.tenants.administration import revoke_key

    store = _open(fleet_file, ledger, known=True)
    key = _find(store, key_id)
    entry = _entry(time.time(), "revoke a key", key)
    store.transact(lambda connection: revoke_key(connection, key.key_id, entry))
    return OK


@app.command(epilog="Example: penstock keys audit gateway.yaml --since 7d")
def audit(
    fleet_file: FleetFile,
    since: Annotated[str | None, typer.Option(
        "--since", metavar="TIME", show_default=False,
        help="Only entries of the last 7d, 24h or 15m; default: all.")] = None,
    ledger: LedgerUrl = None, as_json: AsJson = False,
) -> int:
    """List who administered: keys, drains, deployments, reloads and readers of all spending."""
    import time

    from penstock.cli.console import print_json, print_tables
    from penstock.cli.moments import read_duration_s, show_moment
    from penstock.report.model.table import table
    from penstock.serving.tenants.administration import list_entries

    since_s = 0.0 if since is None else time.time() - read_duration_s("--since", since)
    entries = _open(fleet_file, ledger, known=True).transact(
        lambda connection: list_entries(connection, since_s))
    if as_json:
        print_json([entry._asdict() for entry in entries])
    else:
        print_tables([table("audit", ("time", "key", "action", "target", "outcome", "peer"), [
            (show_moment(entry.at_s), *entry[1:]) for entry in entries])])
    return OK


def _entry(now_s: float, action: str, key: "Key") -> "AuditEntry":
    """Return the entry of an act of this command, by the user of this machine."""
    import getpass

    from penstock.serving.tenants.audit_entry import audit_entry

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # this user has no name
        user = "?"
    target = f"key {key.key_id} of {key.tenant or 'an administrator'}"
    return audit_entry(now_s, "", action, target, "done", f"user {user}")


def _scopes(given: list[str], tenant: str | None, *, admin: bool) -> tuple[str, ...]:
    """Return the scopes of a key in their usual order, empty for the default."""
    from penstock.serving.tenants.keys import SCOPES

    for name in given:
        if name not in SCOPES:
            raise InputError(f"--scope: unknown scope {name[:40]!r}{nearest(name[:40], SCOPES)}")
    if tenant is None and "ask" in given:
        raise InputError("--scope ask: needs a TENANT, whose requests the key may send")
    return tuple(name for name in SCOPES if name in given or (admin and given and name == "admin"))


def _check(fleet_file: Path, tenant: str | None, known: list[str], label: str, *,
           admin: bool) -> None:
    if tenant is None and not admin:
        raise InputError("expected a TENANT, or --admin (or --scope) for a key that administers"
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


def _find(store: "Store", key_id: str) -> "Key":
    # A user who pastes the whole key means the same; its secret is not repeated in errors.
    public = key_id.split("-")[1] if key_id.count("-") >= 2 else key_id
    known = {key.key_id: key for key in store.list_keys()}
    if public not in known:
        raise InputError(f"no key {public[:60]!r}{nearest(public[:60], known)}")
    return known[public]


def _show(text: str, key: "Key", *, as_json: bool) -> int:
    from penstock.cli.console import note, print_json
    from penstock.cli.moments import show_moment

    if as_json:
        print_json({"key": text, **_redact(key)})
        return OK
    typer.echo(text)
    until = f", valid until {show_moment(key.expires_s)}" if key.expires_s is not None else ""
    note(f"key {key.key_id} of {key.tenant or 'an administrator'}{until}: it is not shown again")
    return OK


def _row(key: "Key") -> tuple[str, ...]:
    from penstock.cli.moments import show_moment

    return (key.key_id, key.tenant, "yes" if key.admin else "", key.label,
            show_moment(key.created_s), show_moment(key.revoked_s), show_moment(key.expires_s),
            " ".join(key.all_scopes))


def _redact(key: "Key") -> dict[str, object]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(key).items() if name != "digest"} | {
        "scopes": list(key.all_scopes)}
