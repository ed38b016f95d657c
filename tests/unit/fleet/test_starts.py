"""The parts of a start: taken from two places, and checked."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.scaler import scaler_context, start_s
from penstock.fleet.starts import start_parts
from penstock.fleet.write import to_yaml
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.store import save_loading
from penstock.perf.loading.values import FirstLoad, LoadEvidence
from penstock.perf.memory import weight_bytes_per_accelerator

FLEET = """\
accelerators: [{{name: a100-80gb, count: 8}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 9}}, output: {{fixed: 9}}}}, rate_per_s: 1, num_requests: 9}}
replicas:
  - {{count: 1}}
  - {{count: 1, parallelism: {{tensor: 2}}{own}}}
scaling: {{{scaling}}}
policies: {{scale: {scale}}}
"""
WHOLE = ("start: {provision_s: 20, image_s: 5, weights: {source: disk, gb_per_s: 2}, "
         "warm_up_s: 10, spread: 0.2}")


def fleet_of(scaling: str = WHOLE, own: str = "", scale: str = "static"):
    return parse_fleet(FLEET.format(scaling=scaling, own=own, scale=scale))


def test_each_accelerator_loads_its_share_of_the_weights() -> None:
    fleet = fleet_of()
    for number, group in enumerate(fleet.replicas):
        share = weight_bytes_per_accelerator(group.model, group.parallelism, "bf16")
        parts = start_parts(fleet, number)
        assert [part.name for part in parts] == ["provision", "image", "weights", "warm_up"]
        assert [part.mean_s for part in parts] == [20, 5, pytest.approx(share / 2e9), 10]
        assert {part.spread for part in parts} == {0.2}
    assert start_parts(fleet, 1)[2].mean_s == pytest.approx(start_parts(fleet, 0)[2].mean_s / 2)


def test_policies_believe_the_sum_of_the_means() -> None:
    fleet = fleet_of()
    believed = [facts.start_s for facts in scaler_context(fleet, 0).groups]
    assert believed == [sum(part.mean_s for part in start_parts(fleet, number))
                        for number in (0, 1)]


def test_replicas_take_from_the_fleet_the_parts_that_they_leave_out() -> None:
    fleet = fleet_of(own=", start: {image_s: 0, spread: {provision: 0.5}}")
    parts = start_parts(fleet, 1)
    assert [part.mean_s for part in parts[:2]] == [20, 0]
    assert [part.spread for part in parts] == [0.5, 0, 0, 0]
    assert start_parts(fleet, 0)[1].mean_s == 5


def test_the_statement_of_replicas_counts_before_that_of_the_fleet() -> None:
    fleet = fleet_of(own=", start_s: 7")
    assert [(part.name, part.mean_s) for part in start_parts(fleet, 1)] == [("start", 7)]
    other = fleet_of("start_s: 7, start_spread: 0.5", own=f", {WHOLE}")
    assert [tuple(part) for part in start_parts(other, 0)] == [("start", 7, 0.5)]
    assert len(start_parts(other, 1)) == 4


@pytest.mark.parametrize(("source", "disk_s"), [("disk", 1.0), ("host", 0.0)])
def test_a_loading_model_knows_disk_and_host_memory(tmp_path, source, disk_s) -> None:
    path = tmp_path / "loading.yaml"
    model = LoadingModel(4e9, 8e9, LoadEvidence("test", 0.1, 0.1), fixed_s=3.0,
                         first=FirstLoad(2.0, 4.0))
    save_loading(model, path)
    fleet = fleet_of(WHOLE.replace("source: disk, gb_per_s: 2",
                                   f"source: {source}, loading: {path}"))
    group = fleet.replicas[0]
    share = weight_bytes_per_accelerator(group.model, group.parallelism, "bf16")
    assert start_parts(fleet, 0)[2].mean_s == pytest.approx(
        3.0 + 2.0 + share / 8e9 + disk_s * share / 4e9)
    assert parse_fleet(to_yaml(fleet)) == fleet


@pytest.mark.parametrize("own", ["", ", start: {image_s: 0, spread: {provision: 0.5}}",
                                 ", start_s: 7"])
def test_a_fleet_with_parts_round_trips(own) -> None:
    fleet = fleet_of(own=own)
    assert parse_fleet(to_yaml(fleet)) == fleet


def test_without_a_policy_nothing_starts() -> None:
    assert fleet_of(scale="none").replicas[0].start is None


@pytest.mark.parametrize(("scaling", "own", "problem"), [
    ("start_s: 3, " + WHOLE, "", "replicas[0].start: states the parts of a start beside "
                                 "scaling.start_s; expected one of the two"),
    (WHOLE, ", start_s: 3, start: {image_s: 2}",
     "replicas[1].start: states the parts of a start beside start_s; expected one of the two"),
    ("", "", "replicas[0].start_s: is left out; expected the seconds from the order of a replica "
             "until it serves, here or in scaling.start_s, or the parts of a start"),
    ("start_s: 9", ", start: {image_s: 2}",
     "replicas[1].start: provision_s is left out; expected it here or in scaling.start, 0 where "
     "it takes no time (and 2 more problems)"),
    (WHOLE.replace(", gb_per_s: 2", ""), "",
     "weights: expected gb_per_s or loading, found neither"),
    (WHOLE.replace("gb_per_s: 2", "gb_per_s: 2, loading: x.yaml"), "",
     "weights: expected gb_per_s or loading, found both"),
    (WHOLE.replace("disk, gb_per_s: 2", "remote, loading: x.yaml"), "",
     "expected gb_per_s, the rate from there"),
    (WHOLE.replace("gb_per_s: 2", "loading: absent.yaml"), "",
     "scaling.start.weights.loading: no file 'absent.yaml'"),
    (WHOLE.replace("gb_per_s: 2", f"loading: {__file__}"), "", "scaling.start.weights.loading: "),
    (WHOLE.replace("spread: 0.2", "spread: -1"), "", "scaling.start.spread: expected at least 0"),
    (WHOLE.replace("spread: 0.2", "start_spread: 1"), "", "start_spread"),
])
def test_a_bad_start_gets_one_clear_error(scaling, own, problem) -> None:
    with pytest.raises(InputError) as caught:
        fleet_of(scaling, own)
    assert problem in str(caught.value)


def test_a_spread_of_whole_starts_does_not_hide_beside_parts() -> None:
    with pytest.raises(InputError, match=r"start_spread: is of start_s"):
        fleet_of("start_spread: 0.1, " + WHOLE)


def test_a_fleet_that_states_no_start_has_one_clear_error():
    # Fleets without scaling need none, until a record of them is asked of a scale policy.
    fleet = parse_fleet("""\
name: fixed
accelerators: [{name: a100-80gb, count: 1}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 5}]
replicas: [{count: 1}]
""")
    with pytest.raises(InputError, match=r"replicas\[0\].start_s: is left out; expected"):
        start_s(fleet, 0)
