"""The two sides of a measured point whose prompts and answers were computed apart."""

import re
from dataclasses import replace
from typing import NamedTuple

from penstock.published.measured.rows import Measured

GB_PER_S_OF_A_GPU = 40.0
"""Assumed rate of one accelerator's share of the network: 80 % of a card of 400 Gbit/s."""

_SLASHES = re.compile(r"prefill workers/tp/pp/dp (\d+)/(\d+)/(\d+)/(\d+), "
                      r"decode (\d+)/(\d+)/(\d+)/(\d+)")
_RATIO = re.compile(r"prefill:decode workers (\d+):(\d+), TP(\d+) each")
_TIMES = re.compile(r"prefill ([1-9]\d*)x tp(\d+) ep(\d+), decode ([1-9]\d*)x tp(\d+) ep(\d+)")
_ATTENTION_DATA_PARALLEL = "attention data parallel"


class Side(NamedTuple):
    """Workers of one role, and the degrees of each. Where attention is data-parallel, each rank
    holds other experts: the source states no degree for them."""

    workers: int
    tp: int
    pp: int = 1
    dp: int = 1
    ep: int = 1

    def row(self, whole: Measured) -> Measured:
        """Return the point as if all its accelerators were those of this side."""
        ranks = self.tp * self.pp * (1 if self.dp == self.tp else self.dp)
        return replace(whole, disaggregated=False, num_gpus=float(self.workers * ranks),
                       tp=float(self.tp), pp=float(self.pp), dp=float(self.dp),
                       ep=float(self.ep))


def sides(row: Measured) -> tuple[Side, Side] | None:
    """Return the prefill and the decode side, as the notes of the row state them; None where they
    do not state the number of workers."""
    if found := _SLASHES.search(row.notes):
        number = [int(one) for one in found.groups()]
        first, second = (Side(workers, tensor, pipeline, data, data)
                         for workers, tensor, pipeline, data in (number[:4], number[4:]))
        return first, second
    if found := _RATIO.search(row.notes):
        num_prefill, num_decode, tensor = (int(one) for one in found.groups())
        return Side(num_prefill, tensor), Side(num_decode, tensor)
    if found := _TIMES.search(row.notes):
        number = [int(one) for one in found.groups()]
        parallel = _ATTENTION_DATA_PARALLEL in row.notes
        prefill, decode = (Side(workers, tensor, 1, tensor if parallel else 1, expert)
                           for workers, tensor, expert in (number[:3], number[3:]))
        return prefill, decode
    return None
