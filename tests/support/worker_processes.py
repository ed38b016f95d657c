"""The processes that a keeper has started, as Linux shows them."""

from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    return [int(word) for word in
            Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
