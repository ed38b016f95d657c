"""The ledger's tables (SQLAlchemy). Money is in nanos, days are counted from 1970 in UTC."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    false,
)

METADATA = MetaData()
_ID, _NAME = String(64), String(200)

KEYS = Table(
    "penstock_keys", METADATA,
    Column("key_id", _ID, primary_key=True), Column("digest", _ID, nullable=False),
    Column("tenant", _NAME, nullable=False), Column("admin", Boolean, nullable=False),
    Column("label", _NAME, nullable=False), Column("created_s", Float(53), nullable=False),
    Column("revoked_s", Float(53)), Column("scopes", _NAME), Column("expires_s", Float(53)))

# Open requests, with the charge that applies if their gateway dies.
OPEN = Table(
    "penstock_open", METADATA,
    Column("decision_id", _ID, primary_key=True), Column("gateway", _ID, nullable=False),
    Column("tenant", _NAME, nullable=False), Column("model", _NAME, nullable=False),
    Column("opened_s", Float(53), nullable=False),
    Column("reserved_nanos", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("charged_nanos", BigInteger, nullable=False))

# Ended requests: one row each, for audits, until they are pruned. ``resolved`` marks those whose
# gateway died before it could settle them, ``disputed`` those whose engine counted tokens that
# cannot be true. ``gateway`` settled the request.
CHARGES = Table(
    "penstock_charges", METADATA,
    Column("decision_id", _ID, primary_key=True), Column("tenant", _NAME, nullable=False),
    Column("model", _NAME, nullable=False), Column("day", Integer, nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("charged_nanos", BigInteger, nullable=False),
    Column("resolved", Boolean, nullable=False),
    Column("disputed", Boolean, nullable=False, server_default=false()),
    Column("gateway", _ID, nullable=False, server_default=""),
    Index("penstock_charges_day", "day"))

# Sums of charges, kept forever and updated in the same transaction.
SPEND = Table(
    "penstock_spend", METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("model", _NAME, primary_key=True),
    Column("num_requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("charged_nanos", BigInteger, nullable=False),
    Column("num_disputed", BigInteger, nullable=False, server_default="0"))

# The first request with each idempotency key. There are only digests of keys and bodies;
# ``charged_nanos`` is null while the request is in progress.
REPEATS = Table(
    "penstock_repeats", METADATA,
    Column("digest", _ID, primary_key=True), Column("body_digest", _ID, nullable=False),
    Column("decision_id", _ID, nullable=False), Column("gateway", _ID, nullable=False),
    Column("at_s", Float(53), nullable=False), Column("charged_nanos", BigInteger),
    Index("penstock_repeats_decision", "decision_id"), Index("penstock_repeats_at", "at_s"))

# Facts about the ledger itself: its version, and the key of its digests.
FACTS = Table(
    "penstock_facts", METADATA,
    Column("name", _ID, primary_key=True), Column("value", _NAME, nullable=False))

# Administration: who did what, in order.
AUDIT = Table(
    "penstock_audit", METADATA,
    Column("number", Integer, primary_key=True), Column("at_s", Float(53), nullable=False),
    Column("key_id", _ID, nullable=False), Column("action", _NAME, nullable=False),
    Column("target", _NAME, nullable=False), Column("outcome", _NAME, nullable=False),
    Column("peer", _NAME, nullable=False))

GATEWAYS = Table(
    "penstock_gateways", METADATA,
    Column("gateway", _ID, primary_key=True), Column("host", _NAME, nullable=False),
    Column("pid", Integer, nullable=False), Column("seen_s", Float(53), nullable=False))

# Limits of tenants that gateways share: the amount of a rate that no slice has. A row is locked
# while slices of its limit change.
POOLS = Table(
    "penstock_pools", METADATA,
    Column("tenant", _NAME, primary_key=True), Column("resource", String(16), primary_key=True),
    Column("level", Float(53), nullable=False), Column("at_s", Float(53), nullable=False))

# Slices of these limits, which gateways hold until ``expires_s`` of the database's clock.
SLICES = Table(
    "penstock_slices", METADATA,
    Column("tenant", _NAME, primary_key=True), Column("resource", String(16), primary_key=True),
    Column("gateway", _ID, primary_key=True), Column("amount", BigInteger, nullable=False),
    Column("in_use", BigInteger, nullable=False), Column("wanted", BigInteger, nullable=False),
    Column("expires_s", Float(53), nullable=False))
