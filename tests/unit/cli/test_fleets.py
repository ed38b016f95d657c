import pytest

from penstock.cli import fleets
from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from support.small_fleet import FLEET


def test_seed_and_settings_reach_the_fleet(tmp_path):
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    fleet = fleets.read_fleet(path, ["run.seed=4", "replicas[0].count=2"], None, 9)
    assert fleet.run.seed == 9
    assert fleet.replicas[0].count == 2
    assert fleets.seed_range(fleet, 3) == range(9, 12)
    more = {"replicas[0].count": 3}
    assert fleets.read_fleet(path, ["replicas[0].count=2"], more=more).replicas[0].count == 3


def test_with_replicas_keeps_what_is_stated_without_a_number():
    fleet = parse_fleet(FLEET)
    assert fleets.with_replicas(fleet, None) is fleet
    assert fleets.with_replicas(fleet, 4).replicas[0].count == 4
    with pytest.raises(InputError, match="need 5 a100-80gb; the fleet has 4"):
        fleets.with_replicas(fleet, 5)


def test_with_replicas_uses_the_sizing_group():
    fleet = parse_fleet(FLEET.replace("replicas: [{count: 1}]\n",
                                      "variant: {parallelism: {tensor: 2}}\n"))
    assert fleets.with_replicas(fleet, 2).replicas[0].parallelism.tensor == 2
    with pytest.raises(InputError, match="need 6"):
        fleets.with_replicas(fleet, 3)
    with pytest.raises(InputError, match="states no replicas"):
        fleets.with_replicas(fleet, None)
