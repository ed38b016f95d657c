"""Laws of requests that wait for others: a graph is sent as stated, and its delays are hidden."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.tasks import task_table
from penstock.sim.simulation import simulate
from penstock.workload.links import all_links, links
from support.scaled_examples import examples

FLEET = """\
name: graphs
accelerators: [{{name: a100-80gb, count: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: agent, slo: {{ttft_s: 2, task_s: 60}}}}]
traffic:
  - lengths:
      prompt: {{shares: [0, 1], tokens: [10, 3000]}}
      output: {{shares: [0, 1], tokens: [1, 80]}}
    arrivals: constant
    rate_per_s: 4
    num_requests: {num}
replicas: [{{count: 2}}]
engine: {{kv_tokens: 6000, prefix_caching: true}}
policies: {{schedule: {schedule}, route: {route}}}
run: {{seed: {seed}}}
"""


@st.composite
def graphs(draw):
    """A fleet and its workload with links at random, each to an earlier request."""
    num = draw(st.integers(2, 30))
    fleet = parse_fleet(FLEET.format(
        num=num, seed=draw(st.integers(0, 100)),
        schedule=draw(st.sampled_from(["sarathi", "fcfs", "penstock", "plas"])),
        route=draw(st.sampled_from(["least_loaded", "prefix_aware", "consistent_hash"]))))
    pairs = draw(st.lists(st.tuples(
        st.integers(1, num - 1), st.integers(0, num - 2), st.sampled_from([0.0, 0.2, 3.0]),
        st.booleans()).filter(lambda pair: pair[1] < pair[0]), min_size=1, max_size=40))
    found = all_links([links(np.array([row]), np.array([after]), np.array([delay_s]), kind)
                       for row, after, delay_s, kind in pairs])
    tasks = np.arange(num) % draw(st.integers(1, num))
    return fleet, replace(fleet_workload(fleet), links=found, tasks=tasks)


@examples(60)
@given(graphs())
def test_a_request_is_sent_at_the_latest_of_its_moments(case):
    fleet, workload = case
    table = simulate(fleet, workload, seed=1).table
    assert len(table) == len(workload)
    order = np.argsort(table.request_id)
    sent_s, last_s = table.arrival_s[order], table.last_token_s[order]
    due_s = np.zeros(len(workload))
    found = workload.links
    moments = np.where(found.on_dispatch, sent_s[found.after], last_s[found.after])
    # A request that was refused has no end of its own: it was over when it was sent.
    moments = np.where(np.isnan(moments), sent_s[found.after], moments)
    np.maximum.at(due_s, found.row, moments + found.delay_s)
    waited = np.isin(np.arange(len(workload)), found.row)
    assert np.abs(sent_s - np.where(waited, due_s, workload.arrival_s)).max() < 1e-6


@examples(60)
@given(graphs())
def test_a_task_lasts_from_its_first_arrival_to_its_last_token(case):
    fleet, workload = case
    table = simulate(fleet, workload, seed=1).table
    found = task_table([table])
    for number, time_s in enumerate(found.time_s):
        rows = table.take(table.tasks.index == number)
        if rows.finished.all():
            assert abs(time_s - (rows.last_token_s.max() - rows.arrival_s.min())) < 1e-9
        else:
            assert np.isnan(time_s)


def decisions(fleet, workload, until_s):
    """All that schedulers were told and decided before a time, by replica."""
    with tempfile.TemporaryDirectory() as folder:
        table = simulate(fleet, workload, journal_dir=Path(folder), seed=1).table
        records = [[orjson.loads(line) for line in path.read_bytes().splitlines()]
                   for path in sorted(Path(folder).glob("journal-*.jsonl"))]
    sent_s = dict(zip(table.request_id.tolist(), table.arrival_s.tolist(), strict=True))
    return sent_s, [[one for one in rows if one["kind"] in ("add", "plan")
                     and one["now_s"] < until_s - 1e-9] for rows in records]


@examples(40)
@given(graphs(), st.data())
def test_a_delay_is_hidden_until_its_request_is_sent(case, data):
    fleet, workload = case
    number = data.draw(st.integers(0, len(workload.links) - 1))
    delay_s = workload.links.delay_s.copy()
    delay_s[number] = data.draw(st.sampled_from([0.0, 1.0, 30.0]))
    other = replace(workload, links=replace(workload.links, delay_s=delay_s))
    row = int(workload.links.row[number])
    disclosed_s = min(decisions(fleet, one, 0.0)[0][row] for one in (workload, other))
    assert decisions(fleet, workload, disclosed_s)[1] == decisions(fleet, other, disclosed_s)[1]
