import pytest

from penstock.policy.kv.counting import CountingKv


def test_books_whole_blocks_and_returns_them() -> None:
    kv = CountingKv(10, 16)
    assert kv.allocate(1, 17, 17, (), 0, 0) == 0
    assert kv.free_blocks == 8
    assert kv.grow(3)
    assert kv.free_blocks == 5
    kv.check_integrity(5)
    kv.free(1, 5)
    assert kv.free_blocks == 10


def test_refusal_changes_nothing() -> None:
    kv = CountingKv(4, 16)
    assert kv.allocate(1, 65, 65, (), 0, 0) is None
    assert kv.allocate(1, 64, 64, (), 0, 1) is None
    assert not kv.grow(5)
    assert kv.free_blocks == 4


def test_spare_blocks_must_stay_free_but_are_not_booked() -> None:
    kv = CountingKv(4, 16)
    assert kv.allocate(1, 48, 48, (), 0, 1) == 0
    assert kv.free_blocks == 1


def test_room_beyond_the_prompt_is_booked() -> None:
    kv = CountingKv(10, 16)
    kv.allocate(1, 16, 64, (), 0, 0)
    assert kv.used_blocks == 4


def test_integrity_check_sees_a_leak() -> None:
    kv = CountingKv(10, 16)
    kv.allocate(1, 32, 32, (), 0, 0)
    with pytest.raises(AssertionError):
        kv.check_integrity(3)


def test_nothing_is_shared() -> None:
    kv = CountingKv(10, 16)
    kv.allocate(1, 32, 32, (7, 8), 16, 0)
    kv.computed(1, 32)
    assert kv.shared_blocks(1) == 0
    assert kv.allocate(2, 32, 32, (7, 8), 16, 0) == 0
    assert kv.used_blocks == 4
