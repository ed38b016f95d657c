"""Step budgets: Sarathi's, Orca's, Niyama's published table, and Penstock's solved ones."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.chunking import (
    GRID,
    GRID_LOW_MEMORY,
    DecodeLoad,
    FixedChunks,
    GridChunks,
    SolvedChunks,
    WholePrompts,
)
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.sequence import Sequence
from penstock.registry.step_times import published_step_time
from support.scaled_examples import unit_examples
from support.strategies import linear_step_times

NIYAMA = published_step_time("niyama-a100-llama-3-8b")
INF = float("inf")


def prompt(tokens: int, computed: int = 0) -> Sequence:
    sequence = Sequence(Request(0, 0.0, tokens, 10, ServiceClass("any")), 0, 0.0, 0)
    sequence.computed = computed
    return sequence


def test_fixed_budget_counts_decodes_first() -> None:
    chunks = FixedChunks(100)
    chunks.begin(DecodeLoad(30, 0, INF, 0), None)
    assert chunks.limit(prompt(500), 0, 0.0) == 70
    assert chunks.limit(prompt(500), 50, 0.0) == 20
    chunks.begin(DecodeLoad(130, 0, INF, 0), None)
    assert chunks.limit(prompt(500), 0, 0.0) == 0


def test_whole_prompts_are_never_cut() -> None:
    chunks = WholePrompts(100)
    chunks.begin(DecodeLoad(30, 0, INF, 0), None)
    assert chunks.limit(prompt(60), 0, 0.0) == 60
    assert chunks.limit(prompt(60), 60, 0.0) == 0
    assert chunks.limit(prompt(10), 60, 0.0) == 10
    assert chunks.limit(prompt(900), 0, 0.0) == 900  # too long for any step: alone


# Chunk totals of deadline-scheduling-niyama.md, section 1.5: 1,000 tokens of prompt context and
# 2,000 of context per decode.
@pytest.mark.parametrize(("decodes", "totals"), [
    (0, (256, 768, 1536, 2048, 2552, 2552)), (32, (128, 512, 1536, 2048, 2552, 2552)),
    (128, (128, 256, 1280, 2048, 2552, 2552))])
def test_niyama_grid_yields_the_published_totals(decodes: int, totals: tuple[int, ...]) -> None:
    chunks = GridChunks(NIYAMA, 1.2)
    got = tuple(chunks.total_tokens(DecodeLoad(decodes, 2000 * decodes, slack_s, 400_000), 1000)
                for slack_s in (0.05, 0.1, 0.2, 0.3, 0.4, INF))
    assert got == totals


def test_niyama_grid_edges() -> None:
    chunks = GridChunks(NIYAMA, 1.2)
    assert chunks.total_tokens(DecodeLoad(0, 0, 0.0, 400_000), 0) == GRID[0] == 128
    assert chunks.total_tokens(DecodeLoad(0, 0, -1.0, 400_000), 0) == 128
    assert chunks.total_tokens(DecodeLoad(0, 0, INF, 31_999), 0) == GRID_LOW_MEMORY[-1] == 512
    assert chunks.total_tokens(DecodeLoad(0, 0, INF, 32_000), 0) == GRID[-1] == 2552


def test_niyama_budget_leaves_room_for_decodes_and_uses_the_heads_context() -> None:
    chunks = GridChunks(NIYAMA, 1.2)
    chunks.begin(DecodeLoad(32, 64_000, 0.1, 400_000), prompt(5000, computed=1000))
    assert chunks.limit(prompt(5000), 0, 0.0) == 512 - 32
    assert chunks.limit(prompt(5000), 400, 0.0) == 512 - 32 - 400
    chunks.begin(DecodeLoad(300, 0, -1.0, 400_000), None)
    assert chunks.limit(prompt(5000), 0, 0.0) == 0


def solved(step_time: LinearStepTime, most: int) -> SolvedChunks:
    return SolvedChunks(step_time, scheduler_options("penstock", max_step_tokens=most))


@unit_examples(300)
@given(linear_step_times(), st.integers(1, 120), st.integers(0, 60), st.integers(1, 100),
       st.integers(0, 8), st.integers(0, 20), st.floats(0.0, 0.05))
def test_solved_chunk_is_the_largest_that_fits(
        step_time: LinearStepTime, most: int, computed: int, remaining: int, decodes: int,
        taken: int, slack_s: float) -> None:
    chunks = solved(step_time, most)
    chunks.begin(DecodeLoad(decodes, 100 * decodes, slack_s, 10_000), None)
    sequence = prompt(computed + remaining, computed)
    work = 0.5 * taken * taken
    fitting = [tokens for tokens in range(1, remaining + 1)
               if decodes + taken + tokens <= most and step_time.seconds(
                   taken + tokens, work + tokens * (computed + tokens / 2), decodes,
                   100 * decodes) <= slack_s]
    assert chunks.limit(sequence, taken, work) == max(fitting, default=0)


@given(st.integers(1, 3000), st.integers(0, 300))
def test_without_pace_only_the_step_bounds_a_solved_chunk(tokens: int, decodes: int) -> None:
    assume(decodes < 2048)
    chunks = solved(LinearStepTime(0.01, 1e-4, 0.0, 0.0, 0.0, NIYAMA.evidence), 2048)
    chunks.begin(DecodeLoad(decodes, 0, INF, 0), None)
    assert chunks.limit(prompt(tokens), 0, 0.0) == min(tokens, 2048 - decodes)
