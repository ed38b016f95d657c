"""Power curves of the catalog."""

import pytest

from penstock.catalog import load_catalog
from penstock.core.errors import InputError


def written(tmp_path, fields):
    path = tmp_path / "own.yaml"
    path.write_text(f"accelerators:\n  l40s: {{{fields}}}\n")
    return path


def test_a_curve_and_each_of_its_numbers_has_a_source():
    found = [one for one in load_catalog().accelerators.values() if one.power is not None]
    assert len(found) == 8  # docs/reference/scaling.md states this coverage
    for one in found:
        assert one.sources["idle_w"], one.name
        assert one.sources["mid_w"], one.name
        assert one.power.full_w == one.power_w


def test_an_accelerator_without_a_source_has_no_curve():
    assert load_catalog().accelerator("rtx-5090").power is None


def test_a_file_of_ones_own_states_a_measured_curve(tmp_path):
    found = load_catalog(written(tmp_path, "idle_w: 90, mid_w: 260, mid_utilization: 0.5"))
    curve = found.accelerator("l40s").power
    assert (curve.idle_w, curve.mid_w, curve.mid_utilization, curve.full_w) == (90, 260, 0.5, 350)


@pytest.mark.parametrize(("fields", "text"), [
    ("idle_w: 400", "l40s: idle_w 400"), ("mid_w: 400", "mid_w 400"),
    ("idle_w: -1", "idle_w: found -1"), ("mid_utilization: 2", "mid_utilization: found 2")])
def test_a_wrong_curve_gets_one_line(tmp_path, fields, text):
    with pytest.raises(InputError, match=text):
        load_catalog(written(tmp_path, fields))


def test_a_middle_point_needs_the_idle_power(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("accelerators:\n  rtx-5090: {mid_w: 300}\n")
    with pytest.raises(InputError, match="rtx-5090: idle_w is missing"):
        load_catalog(path)
