"""The two sides of a measured point whose prompts and answers were computed apart."""

import re
from dataclasses import replace
from typing import NamedTuple

from penstock.published.measured.recipes import Recipe, Side, System, recipes
from penstock.published.measured.rows import Measured
from penstock.published.measured.speculation import NONE

GB_PER_S_OF_A_GPU = 40.0
"""Assumed rate of one accelerator's share of the network: 80 % of a card of 400 Gbit/s."""

_SLASHES = re.compile(r"prefill workers/tp/pp/dp ([^/]+)/(\d+)/(\d+)/(\d+), "
                      r"decode ([^/]+)/(\d+)/(\d+)/(\d+)")
_RATIO = re.compile(r"prefill:decode workers (\d+):(\d+), TP(\d+) each")
_TIMES = re.compile(r"prefill (\d+)x tp(\d+) ep(\d+), decode (\d+)x tp(\d+) ep(\d+)")
_ATTENTION_DATA_PARALLEL = "attention data parallel"
_UNSTATED = "disaggregated by an unstated number of workers"


class Split(NamedTuple):
    """Both sides of a point, and the tokens that its decodes draft, None where only the row can
    tell. ``is_inferred`` says that the numbers of workers are those on which all published recipes
    agree that fit the row, which states none."""

    prefill: Side
    decode: Side
    drafts: int | None = None
    is_inferred: bool = False


def split_of(row: Measured, system: System) -> Split | str:
    """Return the sides of a row, or why they are not known.

    A recipe of InferenceX fits a row of the same system, lengths, release and clients whose stated
    ranks and workers are those of the recipe. A row that states its workers states its speculation,
    too. Rows of aiconfigurator without workers state no speculation whatever they ran (the same
    figures stand as MTP in InferenceX's own), so these take that of the recipes that fit, where
    these agree on workers, degrees and drafts. Limits are those of the first recipe.
    """
    stated = _stated(row)
    fitting = [one for one in recipes(system) if one.has(row.version, int(row.load_value or 0))]
    if stated is None:
        found = [one for one in fitting if _has_ranks(one, row)]
        if len({one.spread for one in found}) == 1:
            return Split(found[0].prefill, found[0].decode, found[0].drafts, is_inferred=True)
        return f"disaggregated, {len(found)} published recipes fit" if found else _UNSTATED
    drafted = row.spec_decode not in NONE
    parallel = _ATTENTION_DATA_PARALLEL in row.notes
    found = [one for one in fitting
             if (one.drafts > 0) is drafted and one.workers == (stated[0].workers,
                                                                stated[1].workers)
             and _has_ranks(one, row)]
    if _TIMES.search(row.notes):
        found = [one for one in found
                 if parallel is (one.prefill.data > 1 or one.decode.data > 1)] or found
    if found:
        return Split(found[0].prefill, found[0].decode, found[0].drafts if drafted else 0)
    return Split(*stated)


def side_row(side: Side, whole: Measured, *, drafts: bool) -> Measured:
    """Return a point as if all its accelerators were those of a side."""
    return replace(whole, disaggregated=False, num_gpus=float(side.workers * side.ranks),
                   tp=float(side.tensor), pp=float(side.pipeline), dp=float(side.data),
                   ep=float(side.expert), spec_decode="mtp" if drafts else "none")


def _stated(row: Measured) -> tuple[Side, Side] | None:
    """Return the sides that the notes of a row state, None without numbers of workers."""
    if found := _SLASHES.search(row.notes):
        if not found[1].isdigit():
            return None
        number = [int(one) for one in found.groups()]
        first, second = (_side(workers, tensor, data, data, pipeline)
                         for workers, tensor, pipeline, data in (number[:4], number[4:]))
        return first, second
    if found := _RATIO.search(row.notes):
        num_prefill, num_decode, tensor = (int(one) for one in found.groups())
        return Side(num_prefill, tensor), Side(num_decode, tensor)
    if (found := _TIMES.search(row.notes)) and int(found[1]):
        number = [int(one) for one in found.groups()]
        return _of_times(row, number)
    return None


def _side(workers: int, tensor: int, data: int, expert: int, pipeline: int = 1) -> Side:
    """Return a side. As many tensor ranks as data ranks are the same accelerators."""
    return Side(workers, 1 if data == tensor else tensor, data, expert, pipeline)


def _of_times(row: Measured, number: list[int]) -> tuple[Side, Side]:
    """Return both sides where tensor and expert ranks are stated. InferenceX's rows of AMD state
    one tensor rank where attention is data-parallel: the expert ranks are the accelerators."""
    parallel = _ATTENTION_DATA_PARALLEL in row.notes
    sides = []
    for workers, tensor, expert in (number[:3], number[3:]):
        ranks = max(tensor, expert)
        data = ranks if parallel and ranks > 1 else 1
        sides.append(Side(workers, ranks // data, data, expert))
    return sides[0], sides[1]


def _has_ranks(recipe: Recipe, row: Measured) -> bool:
    """Whether the accelerators of a worker of both sides are those that the row states. Rows of
    December 2025 state all accelerators of the deployment for each side."""
    if found := _SLASHES.search(row.notes):
        first, second = (
            int(found[at]) * int(found[at + 1])
            * (1 if found[at] == found[at + 2] else int(found[at + 2])) for at in (2, 6))
        both = recipe.prefill.ranks, recipe.decode.ranks
        return both == (first, second) or (
            not found[1].isdigit() and first == second == recipe.num_accelerators)
    if row.num_gpus and _TIMES.search(row.notes):
        return int(row.num_gpus) == recipe.num_accelerators
    return False
