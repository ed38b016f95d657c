"""Attention of prompts by (tokens, pairs), and of decodes by (sequences, context tokens).

The tables count a batch of equal sequences; a step is described by totals. P prompt tokens with W
(query, key) pairs are taken as P^2 / 2W prompts of 2W / P tokens each, D decodes that read K tokens
as D sequences of K / D. A chunk behind earlier tokens has more pairs than any fresh prompt of its
size: it takes as long as one fresh prompt with as many pairs, for the tables have no such rows.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable

import numpy as np

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.model import BYTES_PER_VALUE
from penstock.perf.kernels.curves import BatchPlane, Curve, Plane
from penstock.perf.kernels.dense import best_share, dtype_of
from penstock.perf.kernels.shapes import (
    Floats,
    Times,
    clamped_shape,
    monotone_grid,
    monotone_points,
    shortest_at_no_less,
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
    # More heads than in the table: their operations, at the table's best rate.
    more_s = missing.get("num_heads", 0.0) / heads * pair_s / share
    batch, length, seconds = _points(lines)
    lines = _lines_of(batch, length, seconds + more_s * batch * length**2 / 2.0)
    batch, length, seconds = _points(lines)
    at_tokens, at_pairs = batch * length, batch * length**2 / 2.0
    # Many prompts of a few tokens fill no tile and take longer than fewer with as many tokens and
    # more pairs. Totals cannot tell them apart: the longer prompts, which are usual, count.
    seconds = shortest_at_no_less(at_tokens, at_pairs, seconds)
    tokens, pairs = np.unique(at_tokens), np.unique(at_pairs)
    guess = np.array([[_prompts_s(lines, p, w, pair_s / share) for w in pairs.tolist()]
                      for p in tokens.tolist()])
    points = _times_at(at_tokens, at_pairs, seconds)
    times = np.maximum(monotone_grid(tokens, pairs, guess, points), pairs * pair_s)
    # A chunk behind earlier tokens counts as measured up to the pairs of the longest prompt.
    longest = max(line.knots[-1] for line in lines.values())
    limits = tuple(max(longest**2 / 2.0, float(at_pairs[at_tokens <= most].max()))
                   for most in tokens.tolist())
    return Plane(tuple(tokens.tolist()), tuple(pairs.tolist()), _rows_of(times), limits,
                 _last_rise(tokens, times[:, 0]), pair_s / share), notes


def decode_plane(tables: KernelTables, heads: int, kv_heads: int, head_dim: int,
                 kv_precision: str, accelerator: Accelerator
                 ) -> tuple[BatchPlane, tuple[str, ...]]:
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
    batch, context, seconds = _points(lines)
    seconds = seconds + more_s * batch * context
    points = _times_at(batch, context, seconds)
    sequences, contexts = np.unique(batch), np.unique(context)
    guess = np.array([[_decodes_s(lines[d], d, c, beyond_s, more_s) for c in contexts.tolist()]
                      for d in sequences.tolist()])
    least_s = max(token_s * kv_heads, 4.0 * heads * head_dim / accelerator.flops("bf16"))
    times = np.maximum(monotone_grid(sequences, contexts, guess, points),
                       least_s * np.outer(sequences, contexts))
    plane = Plane(tuple(sequences.tolist()), tuple(contexts.tolist()), _rows_of(times),
                  tuple(line.knots[-1] for line in lines.values()),
                  _per_sequence(sequences, times[:, 0]))
    return BatchPlane(plane, max(beyond_s, least_s)), notes


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
    times = times_of_shape(table, shape, keys)
    at = np.array(list(times))
    # A larger batch or longer sequences never take less.
    seconds = monotone_points(at[:, 0], at[:, 1], np.array(list(times.values())))
    lines = _lines_of(at[:, 0], at[:, 1], seconds)
    missing = {name: max(0.0, wanted[name] - shape[name]) for name in wanted}
    notes = () if shape == wanted else (
        f"{table.source.rsplit('/', 1)[-1]}: {heads} heads over {kv_heads} taken from "
        f"{shape['num_heads']:g} over {shape['num_key_value_heads']:g}",)
    return lines, missing, notes


def _lines_of(batches: Floats, lengths: Floats, seconds: Floats) -> Lines:
    found: Lines = {}
    for batch in np.unique(batches):
        own = np.flatnonzero(batches == batch)
        order = own[np.argsort(lengths[own])]
        found[float(batch)] = Curve(tuple(lengths[order].tolist()), tuple(seconds[order].tolist()))
    return found


def _points(lines: Lines) -> tuple[Floats, Floats, Floats]:
    """Batch, length and seconds of every point."""
    rows = [(batch, s, seconds) for batch, line in lines.items()
            for s, seconds in zip(line.knots, line.seconds, strict=True)]
    batch, length, seconds = np.array(rows).T
    return batch, length, seconds


def _times_at(xs: Floats, ys: Floats, seconds: Floats) -> Times:
    keys: Iterable[tuple[float, ...]] = zip(xs.tolist(), ys.tolist(), strict=True)
    return dict(zip(keys, seconds.tolist(), strict=True))


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


def _decodes_s(line: Curve, batch: float, context: float, beyond_s: float,
               more_s: float) -> float:
    beyond = max(0.0, context - line.knots[-1])
    return line.at(context) + batch * (beyond * beyond_s + context * more_s)


def _per_sequence(sequences: Floats, seconds: Floats) -> float:
    """Return the seconds that each sequence beyond the table adds, apart from the bytes it reads.

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
