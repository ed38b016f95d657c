"""Idempotency keys in the ledger: which request was the first with its key, and its charge."""

from collections.abc import Container, Iterable, Mapping

from sqlalchemy import Connection, delete, insert, select, update

from penstock.serving.tenants.claims import KEPT_S, Claim, Earlier
from penstock.serving.tenants.records import Settlement
from penstock.serving.tenants.tables import CHARGES, REPEATS

_NO_GATEWAY = "-"
"""Holder of the key of a request that a dead gateway left without a charge. The next request with
the key gets it; until then the gateway, if it was only stopped, may still charge its request."""


def claim(connection: Connection, one: Claim, gateway: str, active: Container[str],
          now_s: float) -> Earlier | None:
    """Make a request the first with its key, or return the earlier one. ``active`` has this
    gateway's requests in progress. Raises IntegrityError where another gateway is faster."""
    row = connection.execute(select(REPEATS).where(REPEATS.c.digest == one.digest)).first()
    if row is not None:
        is_old = row.charged_nanos is not None and row.at_s < now_s - KEPT_S
        is_free = row.charged_nanos is None and (row.gateway == _NO_GATEWAY or (
            row.gateway == gateway and row.decision_id not in active))
        if not is_old and not is_free:
            return Earlier(row.body_digest, row.decision_id, row.charged_nanos)
        connection.execute(delete(REPEATS).where(REPEATS.c.digest == one.digest,
                                                 REPEATS.c.decision_id == row.decision_id))
    connection.execute(insert(REPEATS), {
        "digest": one.digest, "body_digest": one.body_digest, "decision_id": one.decision_id,
        # the moment of a confidential request is not recorded
        "gateway": gateway, "at_s": now_s - now_s % 3600.0, "charged_nanos": None})
    return None


def release(connection: Connection, decision_id: str) -> None:
    """Free the key of a request that ended without a charge."""
    connection.execute(delete(REPEATS).where(REPEATS.c.decision_id == decision_id,
                                             REPEATS.c.charged_nanos.is_(None)))


def settle(connection: Connection, settlements: Mapping[str, Settlement]) -> dict[str, Settlement]:
    """Record the charges of requests with keys. Returns the settlements to write.

    A request may have lost its key: its gateway was taken for dead, and another request got the
    key. Such a request is not charged, since the other one is.
    """
    found = dict(settlements)
    for name, one in settlements.items():
        if not one.keyed:
            continue
        if not one.delivered:
            release(connection, name)
            continue
        done = connection.execute(update(REPEATS).where(REPEATS.c.decision_id == name).values(
            charged_nanos=one.charged_nanos))
        if done.rowcount == 0:
            found[name] = one._replace(prompt_tokens=0, output_tokens=0, charged_nanos=0,
                                       disputed=False)
    return found


def resolve(connection: Connection, gateway: str) -> None:
    """Settle the keys of a dead gateway by the charges of its requests."""
    names = connection.execute(select(REPEATS.c.decision_id).where(
        REPEATS.c.gateway == gateway, REPEATS.c.charged_nanos.is_(None))).scalars().all()
    for name in names:
        charge = connection.execute(select(CHARGES).where(CHARGES.c.decision_id == name)).first()
        if charge is None or not (charge.prompt_tokens or charge.output_tokens):
            change = {"gateway": _NO_GATEWAY}
        else:
            change = {"charged_nanos": charge.charged_nanos}
        connection.execute(update(REPEATS).where(
            REPEATS.c.decision_id == name, REPEATS.c.charged_nanos.is_(None)).values(change))


def gateways(connection: Connection) -> Iterable[str]:
    """Return the gateways that hold keys of requests in progress."""
    return connection.execute(select(REPEATS.c.gateway).where(
        REPEATS.c.charged_nanos.is_(None), REPEATS.c.gateway != _NO_GATEWAY).distinct()
        ).scalars().all()


def prune(connection: Connection, now_s: float) -> None:
    """Forget keys that are older than they are remembered."""
    connection.execute(delete(REPEATS).where(
        REPEATS.c.at_s < now_s - KEPT_S,
        REPEATS.c.charged_nanos.is_not(None) | (REPEATS.c.gateway == _NO_GATEWAY)))
