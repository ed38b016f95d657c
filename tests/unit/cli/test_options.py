import pytest

from penstock.cli import options
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from small_fleet import FLEET


def test_settings_become_overrides_with_values_of_yaml():
    found = options.parse_settings(["a=1", "b.c=1e3", "d=[x, 2]", "e={name: f}", "g=", "h=a=b",
                                    "i= yes", "a=2"])
    assert found == {"a": 2, "b.c": 1000.0, "d": ["x", 2], "e": {"name": "f"}, "g": None,
                     "h": "a=b", "i": "yes"}
    assert type(found["a"]) is int


@pytest.mark.parametrize("setting", ["a", "=1", " =1", ""])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        options.parse_settings([setting])


def test_a_value_that_is_no_yaml_is_named_by_its_key():
    with pytest.raises(InputError, match=r"--set run\.seed=\[1: not valid YAML"):
        options.parse_settings(["run.seed=[1"])


def test_seed_and_settings_reach_the_fleet(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    fleet = options.read_fleet(path, ["run.seed=4", "replicas[0].count=2"], None, 9)
    assert fleet.run.seed == 9
    assert fleet.replicas[0].count == 2
    assert options.seed_range(fleet, 3) == range(9, 12)
    more = {"replicas[0].count": 3}
    assert options.read_fleet(path, ["replicas[0].count=2"], more=more).replicas[0].count == 3


def test_with_replicas_keeps_what_is_stated_without_a_number():
    fleet = parse_fleet(FLEET)
    assert options.with_replicas(fleet, None) is fleet
    assert options.with_replicas(fleet, 4).replicas[0].count == 4
    with pytest.raises(InputError, match="need 5 a100-80gb; the fleet has 4"):
        options.with_replicas(fleet, 5)


def test_with_replicas_uses_the_sizing_group():
    fleet = parse_fleet(FLEET.replace("replicas: [{count: 1}]\n",
                                      "variant: {parallelism: {tensor: 2}}\n"))
    assert options.with_replicas(fleet, 2).replicas[0].parallelism.tensor == 2
    with pytest.raises(InputError, match="need 6"):
        options.with_replicas(fleet, 3)
    with pytest.raises(InputError, match="states no replicas"):
        options.with_replicas(fleet, None)
