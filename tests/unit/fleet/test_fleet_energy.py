"""Power, carbon, the objective of scaling and deferrable classes in the fleet file."""

import pytest

from penstock.core.errors import InputError
from penstock.core.power import CarbonIntensity
from penstock.fleet.energy import PLANNED_UTILIZATION, coverage
from penstock.fleet.load import load_fleet, parse_fleet
from penstock.fleet.scaler import fleet_deferral, scaler_context
from penstock.fleet.write import to_yaml

FLEET = """\
accelerators: [{{name: {chip}, count: 8, price_per_hour: 2{power}}}, {{name: a100-80gb, count: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 60, e2e_s: 90}}{defer}}}]
traffic: [{{trace: azure-2023-code, rate_per_s: 2}}]
replicas: [{{accelerator: {chip}}}, {{accelerator: a100-80gb, parallelism: {{tensor: 2}}}}]
scaling: {{start_s: 60{scaling}}}
policies: {{scale: {scale}}}
"""


def text(chip="l40s", power="", defer="", scaling="", scale="penstock"):
    return FLEET.format(chip=chip, power=power, defer=defer, scaling=scaling, scale=scale)


def test_the_files_power_counts_before_the_catalogs():
    found = parse_fleet(text(power=", power: {idle_w: 80, full_w: 280}"))
    assert found.pool("l40s").power_curve.watts(0.5) == pytest.approx(180.0)
    assert found.pool("a100-80gb").power_curve.idle_w == 150.0
    assert parse_fleet(to_yaml(found)) == found


def test_the_scaler_weighs_replicas_by_the_objective():
    def weights(**more):
        return [one.weight for one in scaler_context(parse_fleet(text(**more)), 1).groups]

    fleet = parse_fleet(text())
    watts = [width * fleet.pool(name).power_curve.watts(PLANNED_UTILIZATION)
             for name, width in (("l40s", 1), ("a100-80gb", 2))]
    assert weights() == pytest.approx([2.0, 2 * 3.4309])
    assert weights(scaling=", objective: energy") == pytest.approx(watts)
    assert weights(scaling=", objective: carbon, carbon: {gco2_per_kwh: 300}") \
        == pytest.approx([0.3 * one for one in watts])


def test_an_objective_needs_the_power_of_every_group():
    with pytest.raises(InputError, match=r":6: scaling.objective: energy needs the power of "
                                         r"rtx-4090, .*expected accelerators\[\].power"):
        parse_fleet(text("rtx-4090", scaling=", objective: energy"))
    found = parse_fleet(text("rtx-4090", power=", power: {idle_w: 20}",
                             scaling=", objective: energy"))
    assert found.scaling.objective == "energy"


@pytest.mark.parametrize(("more", "error"), [
    ({"scaling": ", objective: carbon"}, "objective: carbon needs scaling.carbon"),
    ({"scaling": ", carbon: {}"}, "carbon: states none; expected one of"),
    ({"scaling": ", carbon: {gco2_per_kwh: 1, file: a}"}, "states gco2_per_kwh and file"),
    ({"scaling": ", carbon: {gco2_per_kwh: 1, repeat_s: 5}"}, "repeat_s: stands beside a constant"),
    ({"scaling": ", carbon: {points: []}"}, "points: expected at least one entry"),
    ({"scaling": ", carbon: {points: [{time_s: 5, gco2_per_kwh: 1}, "
                 "{time_s: 5, gco2_per_kwh: 2}]}"},
     r"carbon.points\[1\].time_s: expected more than 5, found 5"),
    ({"scaling": ", carbon: {points: [{time_s: 5, gco2_per_kwh: 1}], repeat_s: 5}"},
     "repeat_s: expected more than the last time, 5 s"),
    ({"power": ", power: {idle_w: 400}"}, r"accelerators\[0\].power: idle_w 400"),
    ({"defer": ", defer_s: 60"}, "defer_s: expected less than slo.ttft_s, 60 s, found 60 s"),
    ({"defer": ", defer_s: 30", "scale": "none", "scaling": "}#"}, "policies.scale is none")])
def test_wrong_values_get_one_line(more, error):
    with pytest.raises(InputError, match=error):
        parse_fleet(text(**more))


def with_series(tmp_path, series):
    (tmp_path / "carbon.csv").write_text(series)
    path = tmp_path / "fleet.yaml"
    path.write_text(text(scaling=", carbon: {file: carbon.csv, repeat_s: 7200}"))
    return path


def test_a_series_is_read_from_a_file_and_written_as_points(tmp_path):
    found = load_fleet(with_series(tmp_path, "gco2_per_kwh, time_s\n300,0\n\n120,3600\n"))
    assert found.scaling.carbon == CarbonIntensity((0.0, 3600.0), (300.0, 120.0), 7200.0)
    assert parse_fleet(to_yaml(found)) == found


@pytest.mark.parametrize(("series", "error"), [
    ("", "carbon.csv:1: found the columns none"),
    ("time_s\n0\n", "carbon.csv:1: found the columns time_s"),
    ("time_s,gco2_per_kwh\n", "has no rows"),
    ("time_s,gco2_per_kwh\n0,300\n0,100\n", "carbon.csv:3: time_s: found 0; expected more than 0"),
    ("time_s,gco2_per_kwh\n0,-3\n", "carbon.csv:2: gco2_per_kwh: found '-3'"),
    ("time_s,gco2_per_kwh\nnan,3\n", "carbon.csv:2: time_s: found 'nan'"),
    ("time_s,gco2_per_kwh\n0\n", "carbon.csv:2: found 1 values; expected 2")])
def test_a_wrong_series_gets_one_line_with_its_place(tmp_path, series, error):
    with pytest.raises(InputError, match=error):
        load_fleet(with_series(tmp_path, series))


def test_a_class_may_be_deferrable():
    found = parse_fleet(text(defer=", defer_s: 30"))
    assert found.service_classes[0].defer_s == 30.0
    assert fleet_deferral(found, 1).defers("llama-3-8b", "chat")
    assert fleet_deferral(parse_fleet(text()), 1) is None
    assert parse_fleet(to_yaml(found)) == found


def test_what_is_not_used_is_not_written():
    keys = set(to_yaml(parse_fleet(text())).split())
    assert not {"defer_s:", "objective:", "carbon:", "power:"} & keys


def test_coverage_is_the_share_of_gpu_hours_whose_power_is_known():
    found = parse_fleet(text("rtx-4090"))
    assert coverage(found, [3.0, 1.0]) == 0.25
    assert coverage(found, [0.0, 0.0]) is None
