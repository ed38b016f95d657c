"""Payloads of engines: both forms of events, and what is not a batch."""

import pytest

pytest.importorskip("msgspec", reason="the extra 'kv-events' is not installed")

import msgspec

from penstock.engines.kv_events.decode import (
    NO_EVENTS,
    Batch,
    BrokenEventsError,
    Cleared,
    Ignored,
    Removed,
    Stored,
    read_batch,
    written,
)

STORED = {"type": "BlockStored", "block_hashes": [7, 8], "parent_block_hash": 3,
          "token_ids": [1, 2, 3, 4], "block_size": 2, "lora_id": None, "medium": "GPU",
          "lora_name": None, "extra_keys": None, "group_idx": 0, "locality": "LOCAL"}


def payload(*events, rank=0):
    return msgspec.msgpack.encode([12.5, list(events), rank])


def test_a_map_and_an_array_are_the_same_event():
    as_map = read_batch(payload(STORED))
    as_array = read_batch(payload(["BlockStored", [7, 8], 3, [1, 2, 3, 4], 2, None, "GPU", None]))
    expected = Batch(12.5, (Stored((7, 8), 3, (1, 2, 3, 4), 2),))
    assert as_map == as_array == expected


def test_removals_and_media():
    batch = read_batch(payload(
        {"type": "BlockRemoved", "block_hashes": [b"\x01\x02"], "medium": "CPU_PINNED"},
        ["BlockRemoved", [5], "DISK"], ["BlockRemoved", [6]], ["AllBlocksCleared"],
        {"type": "AllBlocksCleared"}, rank=2))
    assert batch.events == (Removed((b"\x01\x02",), 1), Removed((5,), 2), Removed((6,)), Cleared(),
                            Cleared())
    assert batch.rank == 2


@pytest.mark.parametrize(("event", "reason"), [
    ({"type": "BlockTouched", "block_hashes": [1]}, "unknown"), (["Later", 1], "unknown"),
    ({**STORED, "group_idx": 1}, "other_layers"),
    ({**STORED, "kv_cache_spec_kind": "sliding_window"}, "other_layers"),
    ({**STORED, "medium": "TAPE"}, "unknown_medium")])
def test_other_events_are_ignored_for_a_reason(event, reason):
    assert read_batch(payload(event)).events == (Ignored(reason),)


def test_a_salt_an_adapter_and_an_image_set_blocks_apart():
    (vllm,) = read_batch(payload({**STORED, "lora_name": "sql", "extra_keys": [
        ["sql", "pepper"], [["image", 4]]]})).events
    assert vllm.adapter == "sql"
    assert vllm.extras == (("pepper",), ("['image', 4]",))
    (sglang,) = read_batch(payload({**STORED, "parent_block_hash": None, "extra_keys": None,
                                    "cache_salt": "pepper"})).events
    assert sglang.extras == (("pepper",), ())


@pytest.mark.parametrize("content", [
    b"", b"\xc1", b"\x93", b"\x01" * 40, msgspec.msgpack.encode({"ts": 1}),
    msgspec.msgpack.encode([1.0]), msgspec.msgpack.encode(["x", []]),
    payload(3), payload([]), payload({**STORED, "block_hashes": 7}),
    payload({**STORED, "block_hashes": [None]}), payload({**STORED, "token_ids": [1, 2, 3]}),
    payload({**STORED, "token_ids": [1, 2, 3, "4"]}), payload({**STORED, "token_ids": [-1] * 4}),
    payload({**STORED, "block_size": 0}), payload({**STORED, "parent_block_hash": "x"}),
    payload({**STORED, "extra_keys": [["a"]]})])
def test_garbage_is_one_kind_of_error(content):
    with pytest.raises(BrokenEventsError):
        read_batch(content)


def test_what_is_written_is_read():
    events = (Stored((7, 8), None, (1, 2, 3, 4), 2, 1, "sql", (("pepper",), ())),
              Removed((b"x",), 2), Cleared())
    assert read_batch(written(3.0, events, 1)) == Batch(3.0, events, 1)
    assert read_batch(NO_EVENTS) == Batch(0.0, ())
