"""When requests may be sent that wait for others."""

import numpy as np

from penstock.core.units import to_ps
from penstock.workload.workload import Links


class Turns:
    """Keeps for each of ``num`` requests what the request still waits for.

    Times are whole picoseconds of one clock, simulated or real. The delays are hidden from every
    policy: a request shows only once it is sent.
    """

    def __init__(self, links: Links, num: int) -> None:
        self._num_missing: list[int] = np.bincount(links.row, minlength=num).tolist()
        self._due_ps: dict[int, int] = {}
        self._on_sent: dict[int, list[tuple[int, int]]] = {}
        self._on_ended: dict[int, list[tuple[int, int]]] = {}
        for row, after, delay_s, on_dispatch in zip(
                links.row.tolist(), links.after.tolist(), links.delay_s.tolist(),
                links.on_dispatch.tolist(), strict=True):
            of_kind = self._on_sent if on_dispatch else self._on_ended
            of_kind.setdefault(after, []).append((row, to_ps(delay_s)))

    def waits(self, number: int) -> bool:
        """Whether a request waits for others."""
        return self._num_missing[number] > 0

    def following(self, number: int) -> list[int]:
        """Return the requests that wait for this one, among others."""
        return [row for kind in (self._on_sent, self._on_ended) for row, _ in kind.get(number, ())]

    def sent(self, number: int, now_ps: int) -> list[tuple[int, int]]:
        """Take note that a request was sent. Returns the requests that wait for nothing but time
        now: pairs of due time and number."""
        return self._happened(self._on_sent.pop(number, ()), now_ps)

    def ended(self, number: int, now_ps: int) -> list[tuple[int, int]]:
        """Take note that a request was answered, refused or shed. Returns as ``sent`` does."""
        return self._happened(self._on_ended.pop(number, ()), now_ps)

    def _happened(self, following: "list[tuple[int, int]] | tuple[()]", now_ps: int
                  ) -> list[tuple[int, int]]:
        found = []
        for row, delay_ps in following:
            due_ps = max(self._due_ps.get(row, 0), now_ps + delay_ps)
            self._due_ps[row] = due_ps
            self._num_missing[row] -= 1
            if not self._num_missing[row]:
                found.append((due_ps, row))
                del self._due_ps[row]
        return found
