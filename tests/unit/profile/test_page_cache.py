"""The page cache, told and asked."""

from pathlib import Path

import pytest

from penstock.profile.page_cache import cached_share, evict, state, total_bytes, warm


@pytest.mark.parametrize(("share", "word"), [
    (None, "unknown"), (0.0, "cold"), (0.05, "cold"), (0.3, "partly"), (0.96, "warm"),
    (1.0, "warm")])
def test_states(share: float | None, word: str) -> None:
    assert state(share) == word


def test_a_file_that_was_read_is_cached_and_one_that_was_dropped_less(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 << 20))
    warm([path])
    full = cached_share([path])
    if full is None:
        pytest.skip("this system does not say what its page cache holds")
    assert full > 0.95
    evict([path])
    left = cached_share([path])
    assert left is not None
    assert left <= full  # some file systems never let go


def test_sizes_and_files_of_no_bytes(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.write_bytes(b"")
    full.write_bytes(bytes(5000))
    assert total_bytes([empty, full]) == 5000
    assert cached_share([empty]) is None
    assert cached_share([]) is None
    evict([empty, full])
    warm([empty, full])
