"""Drawn sessions of agents: the profile's figures, growing prefixes, waits."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.workload.agents import (
    BLOCK_TOKENS,
    PROFILES,
    AgentTraffic,
    LogNormal,
)
from penstock.workload.mixing import generate
from penstock.workload.source import TrafficSource

DAY = PROFILES["inference-day-2026"]
TENTH = DAY.scaled(0.1)


def drawn(profile=TENTH, num=60, seed=0):
    return AgentTraffic(profile, 0.1, num).trace(np.random.default_rng(seed))


def prefix(trace, row):
    offsets = trace.prefixes.offsets
    return trace.prefixes.values[offsets[row]:offsets[row + 1]].tolist()


def before(trace):
    """The turn before of each turn that has one."""
    return dict(zip(trace.links.row.tolist(), trace.links.after.tolist(), strict=True))


def test_a_lognormal_has_its_mean_and_its_median():
    rng = np.random.default_rng(0)
    values = [LogNormal(30.0, 15.0).draw(rng) for _ in range(20_000)]
    assert np.mean(values) == pytest.approx(30.0, rel=0.05)
    assert np.median(values) == pytest.approx(15.0, rel=0.05)
    assert max(LogNormal(30.0, 15.0, 40.0).draw(rng) for _ in range(100)) == 40.0


def test_a_day_has_the_figures_of_its_source():
    trace = drawn(DAY, 500)
    assert len(trace) / 500 == pytest.approx(11.6, rel=0.15)
    assert trace.output_tokens.mean() == pytest.approx(1_000, rel=0.05)
    assert np.median(trace.output_tokens) == pytest.approx(800, rel=0.05)
    assert trace.links.delay_s.mean() == pytest.approx(0.7 * 5 + 0.3 * 30, rel=0.1)
    assert trace.prompt_tokens.max() <= 200_000
    first = np.setdiff1d(np.arange(len(trace)), trace.links.row)
    assert trace.prompt_tokens[first].mean() == pytest.approx(42_000 + 15_000 + 6_000, rel=0.1)


def test_reasoning_lengthens_outputs_and_no_later_prompt():
    # Where a context is reset depends on whole outputs; without resets prompts are the same.
    never = replace(TENTH, reset_probability=0.0, context_limit=10_000_000)
    plain, reasoning = (drawn(replace(never, reasoning_share=share)) for share in (0.0, 0.75))
    np.testing.assert_array_equal(reasoning.output_tokens, 4 * plain.output_tokens)
    np.testing.assert_array_equal(reasoning.prompt_tokens, plain.prompt_tokens)
    np.testing.assert_array_equal(reasoning.prefixes.values, plain.prefixes.values)


def test_a_prompt_contains_the_prompt_and_the_answer_before_it():
    trace = drawn(replace(TENTH, reset_probability=0.0, restart_share=0.0,
                          context_limit=10_000_000))
    for row, after in before(trace).items():
        assert trace.prompt_tokens[row] > trace.prompt_tokens[after] + trace.output_tokens[after]
        assert prefix(trace, row)[:len(prefix(trace, after))] == prefix(trace, after)
    counts = np.diff(trace.prefixes.offsets)
    assert (counts == trace.prompt_tokens // BLOCK_TOKENS).all()


def test_all_share_the_beginning_and_projects_share_more():
    trace = drawn(replace(TENTH, num_projects=2, zipf=0.0))
    first = np.setdiff1d(np.arange(len(trace)), trace.links.row).tolist()
    shared = TENTH.shared // BLOCK_TOKENS
    project = (TENTH.shared + TENTH.project) // BLOCK_TOKENS
    assert len({tuple(prefix(trace, row)[:shared]) for row in first}) == 1
    assert len({tuple(prefix(trace, row)[:project]) for row in first}) == 2
    # Blocks of one session are in no other's prompts.
    own = {row: {*prefix(trace, row)[project:]} for row in first}
    assert all(own[one].isdisjoint(own[other]) for one in first for other in first if one < other)


def test_a_context_at_its_limit_is_reset():
    trace = drawn(replace(TENTH, mean_turns=60.0, restart_share=0.0), 20)
    assert trace.prompt_tokens.max() <= TENTH.context_limit
    shorter = [row for row, after in before(trace).items()
               if trace.prompt_tokens[row] < trace.prompt_tokens[after]]
    assert len(shorter) > 20
    kept = TENTH.shared // BLOCK_TOKENS
    assert all(prefix(trace, row)[:kept] == prefix(trace, 0)[:kept] for row in shorter)


def test_a_session_that_restarts_has_its_own_beginning_again():
    trace = drawn(replace(TENTH, restart_share=1.0, restart_turns=(3, 3), reset_probability=0.0,
                          mean_turns=4.0, context_limit=10_000_000), 30)
    links = before(trace)
    thirds = [row for row in links if links.get(links[row]) is not None
              and links.get(links[links[row]]) is None]
    assert thirds
    for row in thirds:
        first = links[links[row]]
        assert trace.prompt_tokens[row] < trace.prompt_tokens[links[row]] + 10_000
        common = (TENTH.shared + TENTH.project) // BLOCK_TOKENS
        assert prefix(trace, row)[:common] == prefix(trace, first)[:common]


def test_the_first_sessions_do_not_depend_on_their_number():
    few, many = drawn(num=20), drawn(num=40)
    mine = np.flatnonzero(many.session.index < 20)
    assert many.prompt_tokens[mine].tolist() == few.prompt_tokens.tolist()
    assert many.arrival_s[mine].tolist() == few.arrival_s.tolist()


def test_the_source_is_not_repeated_and_its_turns_wait():
    source = TrafficSource("agents", "m", agents=AgentTraffic(TENTH, 0.1, 10), duration_s=1e6)
    workload = generate([source], 0)
    assert len(np.unique(workload.tasks)) == 10
    assert len(workload.links) == len(workload) - 10
    assert workload.hash_block_tokens == BLOCK_TOKENS
    assert generate([source], 0).prompt_tokens.tolist() == workload.prompt_tokens.tolist()
    cut = generate([replace(source, num_requests=7)], 0)
    assert len(cut) == 7


@pytest.mark.parametrize(("traffic", "said"), [
    (AgentTraffic(TENTH, 0.0), "sessions_per_s is 0"),
    (AgentTraffic(TENTH, 0.1, 0), "num_sessions is 0"),
    (AgentTraffic(replace(TENTH, mean_turns=0.5)), "mean_turns is 0.5"),
    (AgentTraffic(DAY.scaled(0.005)), "context limit of the sessions is 1,000 tokens")])
def test_impossible_sessions_are_refused(traffic, said):
    with pytest.raises(InputError, match=said):
        traffic.check()
