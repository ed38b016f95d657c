"""Laws of closed loops: a client has one request at a time, and sends the next when it is due."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.table import RequestTable
from penstock.report.model.wording import arrivals
from penstock.sim.simulation import simulate
from support.scaled_examples import examples

FLEET = """\
name: loops
accelerators: [{{name: a100-80gb, count: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}]
traffic:
  - name: clients
    lengths:
      prompt: {{shares: [0, 1], tokens: [10, 3000]}}
      output: {{shares: [0, 1], tokens: [1, 80]}}
    arrivals: {{name: closed, clients: {clients}, think_s: {think_s}, think_cv: {think_cv},
               ramp_s: {ramp_s}}}
    num_requests: {num}
{more}
replicas: [{{count: {replicas}}}]
engine: {{kv_tokens: 20000}}
policies: {{schedule: {schedule}, route: least_loaded}}
run: {{seed: {seed}{run}}}
"""
OPEN = """\
  - {name: others, lengths: {prompt: {fixed: 200}, output: {fixed: 20}}, rate_per_s: 5,
     num_requests: 20}
"""
loops = st.fixed_dictionaries({
    "clients": st.integers(1, 12), "think_s": st.sampled_from([0.0, 0.3, 2.0]),
    "think_cv": st.sampled_from([0.0, 1.0]), "ramp_s": st.sampled_from([0.0, 5.0]),
    "num": st.integers(1, 60), "more": st.sampled_from(["", OPEN]),
    "replicas": st.integers(1, 3), "seed": st.integers(0, 1000),
    "schedule": st.sampled_from(["sarathi", "fcfs", "penstock"]),
    "run": st.sampled_from(["", ", step_time_noise: 0.1"])})


def ran(given_: dict[str, object], **changes: object) -> tuple[RequestTable, object]:
    fleet = parse_fleet(FLEET.format(**{**given_, **changes}))
    workload = fleet_workload(fleet)
    return simulate(fleet, workload, seed=3).table, workload


@examples(60)
@given(loops)
def test_no_client_has_two_requests_at_once(one):
    table, workload = ran(one)
    of_loop = workload.loops.index[table.request_id] == 0
    assert of_loop.sum() == one["num"]  # everything was sent, and everything ended
    assert table.finished.all()
    rows = table.take(of_loop)
    moments = np.concatenate((rows.arrival_s, rows.last_token_s))
    changes = np.repeat([1, -1], len(rows))
    # At one moment an end comes first: the client is free and sends its next request.
    order = np.lexsort((changes, moments))
    assert np.cumsum(changes[order]).max() <= one["clients"]


@examples(60)
@given(loops)
def test_a_request_is_sent_one_think_time_after_an_end(one):
    table, workload = ran(one)
    rows = table.take(workload.loops.index[table.request_id] == 0)
    thinks_s = workload.loops.think_s[rows.request_id]
    first = np.sort(rows.request_id)[:one["clients"]]
    starts_s = workload.loops.starts_s[0][:len(first)]
    for number, sent_s, think_s in zip(rows.request_id, rows.arrival_s, thinks_s, strict=True):
        frees_s = starts_s if number in first else rows.last_token_s
        assert np.abs(frees_s + think_s - sent_s).min() < 1e-6
    assert sorted(rows.arrival_s[np.isin(rows.request_id, first)]) == pytest.approx(
        sorted(starts_s), abs=1e-9)


@examples(30)
@given(loops)
def test_one_client_is_a_chain(one):
    table, workload = ran(one, clients=1, more="", replicas=1, ramp_s=0.0)
    order = np.argsort(table.request_id)
    sent_s, ends_s = table.arrival_s[order], table.last_token_s[order]
    thinks_s = workload.loops.think_s
    assert sent_s[1:] == pytest.approx(ends_s[:-1] + thinks_s[1:], abs=1e-6)


@examples(30)
@given(loops)
def test_requests_beyond_the_cache_leave_their_client_free(one):
    text = FLEET.format(**one).replace("kv_tokens: 20000", "kv_tokens: 1600")
    fleet = parse_fleet(text.replace("[10, 3000]", "[10, 1590]"))
    workload = fleet_workload(fleet)
    table = simulate(fleet, workload, seed=3).table
    assert len(table) == len(workload)  # refused requests were received, too
    assert (table.finished | (table.replica < 0) | (table.status > 0)).all()


def test_what_is_not_sent_was_not_received():
    given_ = {"clients": 2, "think_s": 50.0, "think_cv": 0.0, "ramp_s": 0.0, "num": 10, "more": "",
              "replicas": 1, "seed": 0, "schedule": "sarathi", "run": ", drain_s: 60"}
    table, _ = ran(given_)
    assert len(table) == 4
    assert list(table.arrival_s) == sorted(table.arrival_s)


# -- sessions --------------------------------------------------------------------------------------

TALKS = """\
name: talks
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{trace: {file: TRACE, arrivals: ARRIVALS, scale: 2}}]
replicas: [{count: 2}]
engine: {kv_tokens: 20000}
policies: {schedule: sarathi, route: least_loaded}
"""
turns = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 20.0]), st.integers(10, 3000),
                           st.integers(1, 80), st.sampled_from(["a", "b", "c", ""])),
                 min_size=2, max_size=40).filter(lambda rows: any(row[3] for row in rows))


@examples(60)
@given(turns, st.sampled_from([None, 0.0, 3.0]))
def test_a_turn_waits_for_the_answer_before_it(tmp_path_factory, rows, think_s):
    at_s, lines = -rows[0][0], ["arrival_s,prompt_tokens,output_tokens,session"]
    times: list[float] = []
    for gap_s, prompt, output, session in rows:
        at_s += gap_s
        times.append(at_s)
        lines.append(f"{at_s},{prompt},{output},{session}")
    path = tmp_path_factory.mktemp("talks") / "talks.csv"
    path.write_text("\n".join(lines))
    arrivals = "sessions" if think_s is None else f"{{name: sessions, think_s: {think_s}}}"
    fleet = parse_fleet(TALKS.replace("TRACE", str(path)).replace("ARRIVALS", arrivals))
    workload = fleet_workload(fleet)
    table = simulate(fleet, workload, seed=3).table
    order = np.argsort(table.request_id)
    sent_s, ends_s = table.arrival_s[order], table.last_token_s[order]
    assert len(table) == len(rows)
    last: dict[str, int] = {}
    for number, (_, _, _, session) in enumerate(rows):
        before = last.get(session) if session else None
        last[session] = number
        due_s = times[number] / 2
        if before is not None:
            due_s = ends_s[before] + (think_s or 0.0)
            if think_s is None:
                due_s = max(due_s, sent_s[before] + times[number] - times[before])
        assert sent_s[number] == pytest.approx(due_s, abs=1e-6)


def test_turns_after_the_end_were_not_sent_and_are_told(tmp_path):
    rows = "".join(f"{number},100,20,a\n" for number in range(6))
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens,session\n" + rows)
    text = TALKS.replace("TRACE", str(tmp_path / "t.csv")).replace(
        "ARRIVALS", "{name: sessions, think_s: 4}")
    fleet = parse_fleet(text + "run: {drain_s: 1}")
    run = run_fleet(fleet, fleet_workload(fleet), 0)
    assert (run.summary.overall.received, run.summary.unsent) == (1, 5)
    assert "1 request arrived" in arrivals(run.summary)
    assert "5 were not sent before the end" in arrivals(run.summary)
    assert run_fleet(parse_fleet(text), fleet_workload(fleet), 0).summary.unsent is None


def test_a_turn_that_is_refused_lets_the_next_one_come(tmp_path):
    rows = "0,1590,80,a\n1,100,5,a\n2,1590,80,a\n3,100,5,a\n"
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens,session\n" + rows)
    text = TALKS.replace("TRACE", str(tmp_path / "t.csv")).replace("ARRIVALS", "sessions")
    fleet = parse_fleet(text.replace("kv_tokens: 20000", "kv_tokens: 1600"))
    table = simulate(fleet, fleet_workload(fleet), seed=0).table
    assert table.finished.tolist() == [False, True, False, True]
