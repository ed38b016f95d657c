"""Reads KV events of vLLM and SGLang, and writes them.

The payload is msgpack, ``[ts, [event...], dp_rank]``. An event is a map with a ``type`` (vLLM 0.32,
SGLang) or an array that begins with its type (older vLLM).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from penstock.core.errors import missing_extra

Hash = int | bytes
"""An engine's own name of a block."""

NO_EVENTS = bytes((0x93, 0, 0x90, 0))
"""Payload without events."""

_STORED_FIELDS = ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id",
                  "medium", "lora_name", "extra_keys", "group_idx")
_REMOVED_FIELDS = ("block_hashes", "medium", "group_idx")
_TIERS = {None: 0, "GPU": 0, "CPU": 1, "CPU_PINNED": 1, "STORAGE": 2, "DISK": 2, "EXTERNAL": 2}
_WHOLE_KINDS = ("full_attention", "mla_attention", "mla", "full")
_MOST_TOKEN = 1 << 32


class BrokenEventsError(ValueError):
    """Error for a payload that is not a batch of events."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks of ``block_tokens`` tokens that follow each other, after ``parent``, in a tier.

    ``extras`` has for each block the texts that its hash covers beside the tokens: the name of an
    adapter apart, which is ``adapter``. Any other object that the hash covers, such as an image, is
    in ``extras`` as its written form.
    """

    hashes: tuple[Hash, ...]
    parent: Hash | None
    tokens: tuple[int, ...]
    block_tokens: int
    tier: int = 0
    adapter: str = ""
    extras: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks that are no longer in a tier."""

    hashes: tuple[Hash, ...]
    tier: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """All blocks are gone."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that does not concern the index: of a type that is unknown, or of layers that keep
    only part of a prompt."""

    reason: str


Event = Stored | Removed | Cleared | Ignored


class Batch(NamedTuple):
    """Events that an engine published together at ``at_s`` (Unix seconds)."""

    at_s: float
    events: tuple[Event, ...]
    rank: int = 0


@cache
def _msgpack() -> Any:
    try:
        import msgspec.msgpack
    except ImportError as error:
        raise missing_extra("replicas[].kv_events", "kv-events", error) from error
    return msgspec.msgpack


def read_batch(payload: bytes) -> Batch:
    """Return the events of a payload. Raises BrokenEventsError."""
    try:
        document = _msgpack().decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BrokenEventsError(f"not msgpack: {error}") from None
    if not isinstance(document, list) or len(document) < 2 or not isinstance(document[1], list) \
            or not isinstance(document[0], int | float):
        raise BrokenEventsError("expected [time, events, rank]")
    rank = document[2] if len(document) > 2 else None
    return Batch(float(document[0]), tuple([_event(one) for one in document[1]]),
                 rank if isinstance(rank, int) else 0)


def _event(found: Any) -> Event:
    if isinstance(found, Mapping):
        kind, fields = found.get("type"), found
    elif isinstance(found, list) and found:
        kind = found[0]
        names = _STORED_FIELDS if kind == "BlockStored" else _REMOVED_FIELDS
        fields = dict(zip(names, found[1:], strict=False))
    else:
        raise BrokenEventsError("expected an event, as a map or an array")
    if kind == "AllBlocksCleared":
        return Cleared()
    if kind not in ("BlockStored", "BlockRemoved"):
        return Ignored("unknown")
    if not _covers_all(fields):
        return Ignored("other_layers")
    hashes = _hashes(fields.get("block_hashes"))
    if (medium := fields.get("medium")) not in _TIERS:
        return Ignored("unknown_medium")
    tier = _TIERS[medium]
    return Removed(hashes, tier) if kind == "BlockRemoved" else _stored(fields, hashes, tier)


def _covers_all(fields: Mapping[str, Any]) -> bool:
    """Whether an event is about layers that attend to the whole prompt. Of a model with several
    kinds of layers, only those are in the index."""
    kind = fields.get("kv_cache_spec_kind")
    if isinstance(kind, str):
        return any(name in kind.lower() for name in _WHOLE_KINDS) and \
            fields.get("kv_cache_spec_sliding_window") is None
    return fields.get("group_idx") in (None, 0)


def _stored(fields: Mapping[str, Any], hashes: tuple[Hash, ...], tier: int) -> Stored:
    tokens, size = fields.get("token_ids"), fields.get("block_size")
    if not isinstance(tokens, list) or not isinstance(size, int) or size < 1:
        raise BrokenEventsError("token_ids, block_size: expected a list and a number")
    if not all(type(token) is int and 0 <= token < _MOST_TOKEN for token in tokens):
        raise BrokenEventsError("token_ids: expected ids of tokens")
    if tokens and len(tokens) != size * len(hashes):
        raise BrokenEventsError(f"{len(tokens)} tokens in {len(hashes)} blocks of {size}")
    parent = fields.get("parent_block_hash")
    if parent is not None and not isinstance(parent, int | bytes):
        raise BrokenEventsError("parent_block_hash: expected a hash")
    adapter = fields.get("lora_name")
    adapter = adapter if isinstance(adapter, str) else ""
    return Stored(hashes, parent, tuple(tokens), size, tier, adapter,
                  _extras(fields, len(hashes), adapter))


def _extras(fields: Mapping[str, Any], num: int, adapter: str) -> tuple[tuple[str, ...], ...]:
    given = fields.get("extra_keys")
    found: list[tuple[str, ...]] = []
    if isinstance(given, list) and len(given) == num:
        for one in given:
            parts = [] if one is None else one if isinstance(one, list) else [one]
            found.append(tuple([part if isinstance(part, str) else repr(part) for part in parts
                                if part != adapter or not adapter]))
    elif given is not None:
        raise BrokenEventsError("extra_keys: expected one entry for each block")
    salt = fields.get("cache_salt")  # SGLang has no extra_keys
    if isinstance(salt, str) and salt and not found and fields.get("parent_block_hash") is None:
        found = [(salt,), *[()] * (num - 1)]
    return tuple(found) if any(found) else ()


def _hashes(found: Any) -> tuple[Hash, ...]:
    if not isinstance(found, list) or not all(isinstance(one, int | bytes) for one in found):
        raise BrokenEventsError("block_hashes: expected a list of hashes")
    return tuple(found)


def written(at_s: float, events: Sequence[Event], rank: int = 0) -> bytes:
    """Return a payload with events as vLLM 0.32 writes them."""
    names = {tier: medium for medium, tier in reversed(_TIERS.items()) if medium}
    found: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, Stored):
            found.append({"type": "BlockStored", "block_hashes": event.hashes,
                          "parent_block_hash": event.parent, "token_ids": event.tokens,
                          "block_size": event.block_tokens, "lora_id": None,
                          "medium": names[event.tier], "lora_name": event.adapter or None,
                          "extra_keys": [list(one) or None for one in event.extras] or None})
        elif isinstance(event, Removed):
            found.append({"type": "BlockRemoved", "block_hashes": event.hashes,
                          "medium": names[event.tier]})
        elif isinstance(event, Cleared):
            found.append({"type": "AllBlocksCleared"})
    encoded: bytes = _msgpack().encode([at_s, found, rank])
    return encoded
