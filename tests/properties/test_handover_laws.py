"""Laws of fleets of which some replicas only prefill and others only decode."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.sources import fleet_workload
from penstock.fleet.write import to_yaml
from penstock.journal.journal import read_journal
from penstock.journal.replay import replay, scheduler_of
from penstock.metrics.table import REJECTED, SHED
from penstock.sim import simulation
from penstock.sim.engines import SimulatedEngines
from penstock.sim.replica import SimReplica
from support.scaled_examples import examples

FLEET = """\
name: split
accelerators: [{{name: h100-80gb, count: 16, price_per_hour: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 1, itl_s: 0.03}}}}]
traffic:
  - lengths: {{prompt: {{shares: [0, 1], tokens: [10, 3000]}},
              output: {{shares: [0, 1], tokens: [1, 120]}}}}
    rate_per_s: {rate}
    num_requests: {num}
replicas:
  - {{count: {prefill}, role: prefill}}
{both_line}  - {{count: {decode}, role: decode}}
disaggregation:
  transfer: {{gb_per_s: {gb_per_s}, latency_s: {latency}, by_layer: {by_layer}}}
  min_prompt_tokens: {least}
engine: {engine}
policies: {{schedule: {schedule}, route: {route}{scale}}}
run: {{seed: {seed}, beliefs: exact}}
"""
FAULTS = """\
scaling: {start_s: 2, faults: {failures_per_hour: 600}}
"""
fleets = st.fixed_dictionaries({
    "rate": st.sampled_from([2, 20, 200]), "num": st.integers(1, 60),
    "prefill": st.integers(1, 2), "both": st.integers(0, 1), "decode": st.integers(1, 2),
    "gb_per_s": st.sampled_from([0.5, 50]), "latency": st.sampled_from([0, 0.002]),
    "by_layer": st.sampled_from(["false", "true"]), "least": st.sampled_from([0, 800, 5000]),
    "engine": st.sampled_from(["{kv_tokens: 4000}", "{kv_tokens: 20000, prefix_caching: true}",
                               "{name: vllm, kv_tokens: 6000}"]),
    "schedule": st.sampled_from(["sarathi", "penstock", "orca"]),
    "route": st.sampled_from(["least_loaded", "round_robin", "joint"]),
    "seed": st.integers(0, 5), "scale": st.just("")})


def fleet_of(one):
    both = "  - {count: 1}\n" if one["both"] else ""
    text = FLEET.format(**one, both_line=both) + (FAULTS if one["scale"] else "")
    if one["engine"].startswith("{name"):
        text = text.replace(f"schedule: {one['schedule']}, ", "")
    return parse_fleet(text)


def ran(fleet, **options):
    """The result, the true lengths and the replicas of a simulation."""
    replicas = []
    made = SimulatedEngines.replica

    def kept(engines, number, replica_id):
        replicas.append(made(engines, number, replica_id))
        return replicas[-1]

    SimulatedEngines.replica = kept
    try:
        workload = fleet_workload(fleet, fleet.run.seed)
        return simulation.simulate(fleet, workload, seed=fleet.run.seed, **options), \
            workload.output_tokens, replicas
    finally:
        SimulatedEngines.replica = made


def same(one, other):
    """Both tables have the same outcomes at the same picoseconds."""
    assert one.status.tolist() == other.status.tolist()
    assert one.replica.tolist() == other.replica.tolist()
    for name in ("first_scheduled_s", "first_token_s", "last_token_s", "itl_max_s"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@examples(40)
@given(fleets)
def test_every_request_ends_once_and_every_block_returns(one):
    fleet = fleet_of(one)
    found, lengths, replicas = ran(fleet)
    table = found.table
    done = table.finished
    assert (done | (table.status == REJECTED)).all()
    np.testing.assert_array_equal(table.output_tokens[done], lengths[done])
    for replica in replicas:
        replica.scheduler.check_integrity()
        assert replica.scheduler.kv_used_tokens == 0
        assert not replica.requests
    assert found.moved.num_transfers <= done.sum()
    if one["least"] == 0 and not one["both"]:
        assert found.moved.num_transfers == done.sum()
    if one["least"] == 5000:
        assert found.moved.num_transfers == 0


@examples(25)
@given(fleets)
def test_a_first_token_comes_after_the_prompt_has_moved(one):
    fleet = fleet_of({**one, "least": 0, "both": 0, "by_layer": "false"})
    found, _, _ = ran(fleet)
    table = found.table
    rows = table.finished
    group = fleet.replicas[0]
    num_bytes = table.prompt_tokens * group.model.kv_bytes_per_token(group.kv_precision)
    least_s = np.array([fleet.disaggregation.transfer.seconds(one) for one in num_bytes])
    waited_s = table.first_token_s - table.first_scheduled_s
    assert (waited_s[rows] >= least_s[rows] - 1e-9).all()
    decoding = range(fleet.replicas[0].count, sum(g.count for g in fleet.replicas))
    assert set(table.replica[rows].tolist()) <= set(decoding)


@examples(25)
@given(fleets)
def test_jumps_equal_single_steps(one):
    jumps_equal_single_steps(fleet_of(one))


def jumps_equal_single_steps(fleet):
    found, _, _ = ran(fleet)
    begin = SimReplica.begin
    SimReplica.begin = lambda replica, now_ps, most_steps=1: begin(replica, now_ps, 1)
    try:
        single, _, _ = ran(fleet)
    finally:
        SimReplica.begin = begin
    same(found.table, single.table)
    assert found.moved == single.moved


@examples(15)
@given(fleets)
def test_runs_repeat_and_journals_replay(tmp_path_factory, one):
    fleet = fleet_of(one)
    folder = tmp_path_factory.mktemp("journals")
    found, _, _ = ran(fleet, journal_dir=folder)
    same(found.table, ran(parse_fleet(to_yaml(fleet)))[0].table)
    for number, group in enumerate(g for g in fleet.replicas for _ in range(g.count)):
        records = list(read_journal(folder / f"journal-{number}.jsonl"))
        report = replay(records[1:], scheduler_of(records[0], step_time(group)))
        assert report.mismatch is None


@examples(40)
@given(fleets)
def test_no_failure_loses_a_request_without_a_reason(one):
    fleet = fleet_of({**one, "both": max(1, one["both"]), "scale": ", scale: static"})
    found, lengths, _ = ran(fleet)
    table = found.table
    over = table.finished | (table.status == REJECTED) | (table.status == SHED)
    assert over.all()
    assert sum(found.reasons.values()) == (~table.finished).sum()
    np.testing.assert_array_equal(table.output_tokens[table.finished], lengths[table.finished])


@examples(20)
@given(fleets, st.integers(1, 200))
def test_true_lengths_change_nothing_before_they_are_known(one, other):
    fleet = fleet_of({**one, "num": min(one["num"], 20)})
    workload = fleet_workload(fleet, fleet.run.seed)
    last = len(workload) - 1
    changed = workload.output_tokens.copy()
    changed[last] = other
    after = replace(workload, output_tokens=changed)
    runs = [simulation.simulate(fleet, each, seed=fleet.run.seed).table
            for each in (workload, after)]
    known_s = min(float(np.nanmin(table.last_token_s[last:], initial=np.inf)) for table in runs)
    for name in ("first_scheduled_s", "first_token_s"):
        before = [np.where(getattr(table, name) < known_s, getattr(table, name), -1.0)
                  for table in runs]
        np.testing.assert_array_equal(*before)


SESSIONS = """\
name: turns
accelerators: [{{name: h100-80gb, count: 16, price_per_hour: 4}}]
models: [{{name: llama-3-8b, max_context_tokens: 16384}}]
service_classes: [{{name: agent, slo: {{ttft_s: 5}}}}]
traffic:
  - agents: {{profile: inference-day-2026, sessions_per_s: {rate}, num_sessions: {num},
             token_scale: 0.05}}
replicas:
  - {{count: {prefill}, role: prefill}}
  - {{count: {decode}, role: decode}}
disaggregation: {{transfer: {{gb_per_s: {gb_per_s}, by_layer: {by_layer}}}}}
engine: {{kv_tokens: {kv_tokens}, prefix_caching: {caching}}}
policies: {{schedule: {schedule}, route: {route}}}
run: {{seed: {seed}, beliefs: exact}}
"""
sessions = st.fixed_dictionaries({
    "rate": st.sampled_from([0.5, 4, 30]), "num": st.integers(1, 12),
    "prefill": st.integers(1, 2), "decode": st.integers(1, 2),
    "gb_per_s": st.sampled_from([0.5, 50]), "by_layer": st.sampled_from(["false", "true"]),
    "kv_tokens": st.sampled_from([20000, 100000]), "caching": st.sampled_from(["true", "false"]),
    "schedule": st.sampled_from(["sarathi", "penstock", "plas"]),
    "route": st.sampled_from(["least_loaded", "prefix_aware"]), "seed": st.integers(0, 20)})


@examples(30)
@given(sessions)
def test_what_moves_and_what_is_held_are_the_prompts(one):
    fleet = parse_fleet(SESSIONS.format(**one))
    found, _, replicas = ran(fleet)
    done, moved, group = found.table.finished, found.moved, fleet.replicas[0]
    assert done.all()
    assert moved.num_transfers == len(found.table)
    per_token = group.model.kv_bytes_per_token(group.kv_precision)
    num_tokens = int(found.table.prompt_tokens.sum())
    np.testing.assert_allclose(moved.num_bytes, (num_tokens - moved.held_tokens) * per_token)
    assert moved.held_tokens % 16 == 0
    # The last token of a prompt always moves, or is computed again.
    assert 0 <= moved.held_tokens <= num_tokens - len(found.table)
    if one["caching"] == "false":
        assert moved.held_tokens == 0
    for replica in replicas:
        replica.scheduler.check_integrity()
        assert replica.scheduler.kv_used_tokens == 0


def test_the_turns_of_a_session_move_only_what_is_new():
    one = {"rate": 0.5, "num": 6, "prefill": 1, "decode": 1, "gb_per_s": 50, "by_layer": "false",
           "kv_tokens": 100000, "schedule": "sarathi", "route": "least_loaded", "seed": 1}
    cached = ran(parse_fleet(SESSIONS.format(**one, caching="true")))[0]
    apart = ran(parse_fleet(SESSIONS.format(**one, caching="false")))[0]
    assert cached.moved.num_transfers == apart.moved.num_transfers
    assert cached.moved.num_bytes < apart.moved.num_bytes / 2


@examples(20)
@given(sessions)
def test_jumps_equal_single_steps_where_blocks_are_held(one):
    jumps_equal_single_steps(parse_fleet(SESSIONS.format(**one)))
