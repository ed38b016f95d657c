"""The bound on waiting of `plas`: whoever has waited that long is overtaken by nobody younger."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.sim.simulation import simulate
from support.scaled_examples import examples

FLEET = """\
name: starving
accelerators: [{{name: a100-80gb, count: 4}}]
models: [{{name: llama-3-8b, max_context_tokens: 16384}}]
service_classes: [{{name: agent, slo: {{ttft_s: 2, task_s: 60}}}}]
traffic:
  - agents: {{profile: inference-day-2026, sessions_per_s: {rate}, num_sessions: {num},
             token_scale: 0.05}}
replicas: [{{count: {replicas}}}]
engine: {{kv_tokens: {kv_tokens}, prefix_caching: {caching}}}
policies: {{schedule: {{name: plas, starvation_s: {bound_s}, max_num_seqs: {seqs}}},
            route: least_loaded}}
run: {{seed: {seed}}}
"""


def overtaken(table, bound_s):
    """(first, later) of requests on one replica: the later one came after the first and started
    before it, when the first had waited for the bound."""
    found = []
    for replica in np.unique(table.replica):
        rows = table.take((table.replica == replica) & ~np.isnan(table.first_scheduled_s))
        came_s, began_s = rows.arrival_s, rows.first_scheduled_s
        for i in range(len(rows)):
            later = (came_s > came_s[i]) & (began_s < began_s[i]) & \
                (began_s >= came_s[i] + bound_s)
            found += [(int(rows.request_id[i]), int(one)) for one in rows.request_id[later]]
    return found


def ran(bound_s, *, rate=4, num=30, replicas=1, kv_tokens=24000, caching="true", seqs=4, seed=0):
    fleet = parse_fleet(FLEET.format(
        bound_s=bound_s, rate=rate, num=num, replicas=replicas, kv_tokens=kv_tokens,
        caching=caching, seqs=seqs, seed=seed))
    return simulate(fleet, fleet_workload(fleet), seed=seed).table


@examples(40)
@given(st.sampled_from([0.5, 3.0, 20.0]), st.sampled_from([0.5, 2.0, 8.0]), st.integers(2, 30),
       st.integers(1, 2), st.sampled_from([24000, 60000]), st.sampled_from(["true", "false"]),
       st.integers(1, 8), st.integers(0, 100))
def test_nobody_overtakes_a_request_that_has_waited_for_the_bound(
        bound_s, rate, num, replicas, kv_tokens, caching, seqs, seed):
    table = ran(bound_s, rate=rate, num=num, replicas=replicas, kv_tokens=kv_tokens,
                caching=caching, seqs=seqs, seed=seed)
    assert np.isnan(table.first_scheduled_s).sum() == np.isnan(table.last_token_s).sum()
    assert overtaken(table, bound_s) == []


def test_without_the_bound_the_law_is_broken():
    assert overtaken(ran(1e9), 3.0)
    assert overtaken(ran(1e9, rate=8, num=60), 8.0)
