"""Sessions of agents in the fleet file."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.traffic import check_open
from penstock.fleet.values_traffic import AgentSessions
from penstock.fleet.write import to_yaml
from penstock.sim.simulation import simulate

FLEET = """\
name: agents
accelerators: [{name: a100-80gb, count: 2}]
models: [{name: llama-3-8b, max_context_tokens: 32768}]
service_classes: [{name: agent, slo: {task_s: 400, percentile: 50}}, {name: chat}]
traffic: [{agents: AGENTS, mix: {agent: 0.5, chat: 0.5}MORE}]
replicas: [{count: 2}]
engine: {prefix_caching: true}
policies: {route: prefix_aware, schedule: sarathi}
"""
SETTINGS = "{sessions_per_s: 0.5, num_sessions: 8, token_scale: 0.1, mean_turns: 4}"


def fleet_of(agents=SETTINGS, more=""):
    return parse_fleet(FLEET.replace("AGENTS", agents).replace("MORE", more))


def test_a_name_alone_takes_the_profile_s_figures():
    assert fleet_of("inference-day-2026").traffic[0].lengths == AgentSessions(
        "inference-day-2026", 0.1, 100)


def test_reasoning_is_read_and_written_back():
    fleet = fleet_of(SETTINGS.replace("}", ", reasoning_share: 0.7}"))
    assert fleet.traffic[0].lengths.reasoning_share == 0.7
    assert parse_fleet(to_yaml(fleet)) == fleet
    plain, longer = (fleet_workload(one).output_tokens.sum() for one in (fleet_of(), fleet))
    assert longer == pytest.approx(plain / 0.3, rel=0.05)


def test_sessions_run_to_their_end():
    fleet = fleet_of()
    workload = fleet_workload(fleet)
    table = simulate(fleet, workload, seed=0).table
    assert len(table) == len(workload)
    assert table.finished.all()
    order = np.argsort(table.request_id)
    ends_s, sent_s = table.last_token_s[order], table.arrival_s[order]
    links = workload.links
    assert sent_s[links.row] == pytest.approx(ends_s[links.after] + links.delay_s, abs=1e-6)
    assert len(np.unique(table.tasks.index)) == 8
    assert {*workload.class_index.tolist()} == {0, 1}


def test_a_run_that_ends_before_the_first_session_is_refused():
    with pytest.raises(InputError, match="no request arrives within"):
        fleet_workload(fleet_of(more=", duration_s: 0.000001"))


@pytest.mark.parametrize(("agents", "more", "said"), [
    ("inference-night", "", "unknown profile 'inference-night'.*inference-day-2026"),
    (SETTINGS, ", rate_per_s: 2", "stands beside agents; set agents.sessions_per_s instead"),
    (SETTINGS, ", arrivals: poisson", "stands beside agents, which have arrivals of their own"),
    (SETTINGS, ", lengths: azure-2023-code", "states lengths and agents; expected one of"),
    ("{mean_turns: 0.2}", "", "mean_turns is 0.2; expected at least 1"),
    ("{reasoning_share: 0.95}", "", "reasoning_share: expected at most 0.9, found 0.95"),
    ("{token_scale: 0.001}", "", "raise token_scale")])
def test_what_cannot_be_drawn_is_refused(agents, more, said):
    with pytest.raises(InputError, match=said):
        fleet_of(agents, more)


def test_a_task_is_not_shorter_than_a_request():
    text = FLEET.replace("AGENTS", SETTINGS).replace("MORE", "").replace(
        "task_s: 400", "task_s: 4, e2e_s: 5")
    with pytest.raises(InputError, match="5 s is later than task_s, 4 s"):
        parse_fleet(text)


def test_planning_needs_open_arrivals(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"session_id": "a", "arrival_time_ns": 0, "sub_requests": []}\n')
    trace = f"{{file: {tmp_path / 't.jsonl'}}}"
    text = FLEET.replace("agents: AGENTS", f"trace: {trace}").replace("MORE", "")
    with pytest.raises(InputError, match="has sessions, whose turns wait for answers"):
        check_open(parse_fleet(text).traffic, "a plan")
    check_open(parse_fleet(text).traffic, "a load", with_sessions=True)
    with pytest.raises(InputError, match="has sessions, whose turns wait for answers"):
        check_open(fleet_of().traffic, "a plan")
