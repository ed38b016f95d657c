"""Attention of prompts by (tokens, pairs), and of decodes by (sequences, context tokens).

The tables count a batch of equal sequences; a step is described by totals. P prompt tokens with W
(query, key) pairs are taken as P^2 / 2W prompts of 2W / P tokens each, D decodes that read K tokens
as D sequences of K / D. A chunk behind earlier tokens has more pairs than any fresh prompt of its
size: it takes as long as one fresh prompt with as many pairs, for the tables have no such rows.
"""

import math
from bisect import bisect_right

import numpy as np

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.model import BYTES_PER_VALUE
from penstock.perf.kernels.curves import Curve, Plane
from penstock.perf.kernels.dense import best_share, dtype_of
from penstock.perf.kernels.shapes import (
    Floats,
    Times,
    clamped_shape,
    monotone_grid,
    times_of_shape,
)
from penstock.perf.kernels.tables import KernelTable, KernelTables

# Seconds by length, for every batch size that was measured, ascending.
Lines = dict[float, Curve]
_MANY_SEQUENCES = 64


def prefill_plane(tables: KernelTables, heads: int, kv_heads: int, head_dim: int,
                  kv_precision: str, accelerator: Accelerator) -> tuple[Plane, tuple[str, ...]]:
    """Seconds of one layer's prompt attention by (prompt tokens, pairs), and notes.

    Bound: four operations per pair, head and value of a head, at the 16-bit peak rate.
    """
    table = _rows(tables.table("context_attention"), head_dim, kv_precision)
    pair_s = 4.0 * heads * head_dim / accelerator.flops("bf16")
    lengths, batches = table.columns["isl"], table.columns["batch_size"]
    own_pair_s = 4.0 * table.columns["num_heads"] * head_dim / accelerator.flops("bf16")
    share = best_share(own_pair_s * batches * lengths**2 / 2.0, table.seconds)
    lines, missing, notes = _lines(table, heads, kv_heads, ("batch_size", "isl"))
    for batch, line in lines.items():
        # More heads than in the table: their operations, at the table's best rate.
        more = tuple(missing.get("num_heads", 0.0) / heads * pair_s * batch * s * s / 2.0 / share
                     for s in line.knots)
        lines[batch] = Curve(line.knots, tuple(map(sum, zip(line.seconds, more, strict=True))))
    points: Times = {
        (batch * s, batch * s * s / 2.0): seconds for batch, line in lines.items()
        for s, seconds in zip(line.knots, line.seconds, strict=True)}
    tokens, pairs = (np.unique(values) for values in zip(*points, strict=True))
    guess = np.array([[_prompts_s(lines, p, w, pair_s / share) for w in pairs.tolist()]
                      for p in tokens.tolist()])
    times = np.maximum(monotone_grid(tokens, pairs, guess, points), pairs * pair_s)
    # A chunk behind earlier tokens counts as measured up to the pairs of the longest prompt.
    longest = max(line.knots[-1] for line in lines.values())
    limits = tuple(max(longest**2 / 2.0, *(w for p, w in points if p <= most))
                   for most in tokens.tolist())
    return Plane(tuple(tokens.tolist()), tuple(pairs.tolist()), _rows_of(times), limits,
                 _last_rise(tokens, times[:, 0]), pair_s / share), notes


def decode_plane(tables: KernelTables, heads: int, kv_heads: int, head_dim: int,
                 kv_precision: str, accelerator: Accelerator) -> tuple[Plane, tuple[str, ...]]:
    """Seconds of one layer's decode attention by (sequences, context tokens), and notes.

    Context tokens include the one being computed: a row's ``step`` tokens in the cache and its own
    ``isl``. Bound: the bytes of those keys and values at peak bandwidth, or their operations.
    """
    table = _rows(tables.table("generation_attention"), head_dim, kv_precision)
    table = KernelTable({**table.columns, "context": table.columns["isl"] + table.columns["step"]},
                        table.seconds, table.source)
    bandwidth = accelerator.bandwidth_bytes_per_s
    token_s = 2.0 * head_dim * BYTES_PER_VALUE[kv_precision] / bandwidth
    read_s = (token_s * table.columns["num_key_value_heads"] * table.columns["batch_size"]
              * table.columns["context"])
    share = best_share(read_s, table.seconds)
    lines, missing, notes = _lines(table, heads, kv_heads, ("batch_size", "context"))
    beyond_s = token_s * kv_heads / share
    more_s = token_s * missing.get("num_key_value_heads", 0.0) / share
    points: Times = {
        (batch, batch * c): seconds + batch * c * more_s for batch, line in lines.items()
        for c, seconds in zip(line.knots, line.seconds, strict=True)}
    sequences, totals = (np.unique(values) for values in zip(*points, strict=True))
    guess = np.array([[_decodes_s(lines[batch], batch, total, beyond_s, more_s)
                       for total in totals.tolist()] for batch in sequences.tolist()])
    operations_s = 4.0 * heads * head_dim / accelerator.flops("bf16")
    times = np.maximum(monotone_grid(sequences, totals, guess, points),
                       totals * max(token_s * kv_heads, operations_s))
    limits = tuple(batch * line.knots[-1] for batch, line in lines.items())
    return Plane(tuple(sequences.tolist()), tuple(totals.tolist()), _rows_of(times), limits,
                 _per_sequence(sequences, times[:, 0]), max(beyond_s, operations_s)), notes


def _rows(table: KernelTable, head_dim: int, kv_precision: str) -> KernelTable:
    """Rows without a sliding window, of one head size and one format of keys and values."""
    dtype = dtype_of(kv_precision, table, "kv_cache_dtype")
    rows = table.where(window_size=0, kv_cache_dtype=dtype)
    found = rows.where(head_dim=head_dim)
    if not len(found):
        sizes = ", ".join(f"{size:g}" for size in rows.values("head_dim"))
        raise InputError(f"{table.source}: no rows with head_dim {head_dim} and {kv_precision} "
                         f"keys and values; measured: {sizes}")
    return found


def _lines(table: KernelTable, heads: int, kv_heads: int, keys: tuple[str, str]
           ) -> tuple[Lines, dict[str, float], tuple[str, ...]]:
    """Times by length for each batch at the wanted heads; heads beyond the table; notes."""
    wanted = {"num_heads": float(heads), "num_key_value_heads": float(kv_heads)}
    shape = clamped_shape(table, wanted)
    by_batch: dict[float, dict[float, float]] = {}
    for (batch, length), seconds in times_of_shape(table, shape, keys).items():
        by_batch.setdefault(batch, {})[length] = seconds
    lines = {batch: Curve(tuple(sorted(line)), tuple(line[s] for s in sorted(line)))
             for batch, line in sorted(by_batch.items())}
    missing = {name: max(0.0, wanted[name] - shape[name]) for name in wanted}
    notes = () if shape == wanted else (
        f"{table.source.rsplit('/', 1)[-1]}: {heads} heads over {kv_heads} taken from "
        f"{shape['num_heads']:g} over {shape['num_key_value_heads']:g}",)
    return lines, missing, notes


def _prompts_s(lines: Lines, tokens: float, pairs: float, beyond_s: float) -> float:
    """Seconds of prompts with these totals, before any smoothing. ``beyond_s`` per pair."""
    batches = list(lines)
    batch = tokens * tokens / (2.0 * pairs)
    if batch <= batches[0]:
        # One prompt, or a chunk behind earlier tokens: as many pairs as a fresh prompt has.
        return _line_s(lines[batches[0]], math.sqrt(2.0 * pairs / batches[0]),
                       beyond_s * batches[0])
    if batch >= batches[-1]:
        # More prompts, and shorter ones, than in the table: as those tokens in its largest batch.
        return _line_s(lines[batches[-1]], tokens / batches[-1], beyond_s * batches[-1])
    length = 2.0 * pairs / tokens
    right = bisect_right(batches, batch)
    low, high = batches[right - 1], batches[right]
    near = _line_s(lines[low], length, beyond_s * low)
    far = _line_s(lines[high], length, beyond_s * high)
    return near + (batch - low) / (high - low) * (far - near)


def _line_s(line: Curve, length: float, beyond_s: float) -> float:
    """Between two lengths a power of the length, which turns from 0 to 2 as prompts grow."""
    knots, seconds = line.knots, line.seconds
    right = bisect_right(knots, length)
    if right == len(knots):
        return seconds[-1] + beyond_s * (length * length - knots[-1] * knots[-1]) / 2.0
    if right == 0:
        return seconds[0]
    left = right - 1
    share = math.log(length / knots[left]) / math.log(knots[right] / knots[left])
    return float(seconds[left] * (seconds[right] / seconds[left]) ** share)


def _decodes_s(line: Curve, batch: float, total: float, beyond_s: float, more_s: float) -> float:
    beyond = max(0.0, total - batch * line.knots[-1])
    return line.at(total / batch) + beyond * beyond_s + total * more_s


def _per_sequence(sequences: Floats, seconds: Floats) -> float:
    """What each sequence beyond the table adds to the bytes it reads.

    A table that ends at a few sequences measured a launch and no throughput: nothing then.
    """
    return _last_rise(sequences, seconds) if sequences[-1] >= _MANY_SEQUENCES else 0.0


def _last_rise(knots: Floats, seconds: Floats) -> float:
    """Rise per unit over the last stretch; with a single knot, in proportion."""
    if len(knots) < 2:
        return float(seconds[-1] / knots[-1])
    return float((seconds[-1] - seconds[-2]) / (knots[-1] - knots[-2]))


def _rows_of(times: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in times.tolist())
