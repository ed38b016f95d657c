"""Equal stages, wherever that leads."""

import pytest

from penstock.core.errors import InputError
from penstock.plan.place.exact import ExactPlacer
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Infeasible, Placement
from penstock.published.maveriq.placer import MaveriqPlacer
from penstock.registry.make import make_placer
from penstock.registry.policies import PLACERS
from support.small_placements import footprint, node


def test_layers_are_equal_and_devices_in_order() -> None:
    found = BalancedPlacer().place(footprint(11, 2, 3), node(5, 9, 5, 9, 5, 9, 50, 50)[::-1])
    assert isinstance(found, Placement)
    assert found.layer_map == (4, 4, 3)
    assert [stage.device_ids for stage in found.stages] == [(0, 1), (2, 3), (4, 5)]


def test_it_does_not_look_for_room() -> None:
    found = BalancedPlacer().place(footprint(10, 1, 2), node(4, 9, 9))
    assert isinstance(found, Infeasible)
    assert found.reason == ("m: equal stages on the first devices do not fit: "
                            "device 0 has 4 bytes free, 5 bytes are needed")
    assert found.max_layers == 10


def test_too_few_devices_or_layers() -> None:
    for wanted in (footprint(8, 2, 2), footprint(1, 1, 2)):
        assert isinstance(BalancedPlacer().place(wanted, node(99, 99)), Infeasible)


def test_placers_have_names() -> None:
    made = [make_placer(name) for name in PLACERS.names()]
    assert made == [PenstockPlacer(), BalancedPlacer(), ExactPlacer(), MaveriqPlacer()]
    settings = {"strategy": "hybrid", "threshold": 0.5, "as_published": True}
    assert make_placer("maveriq", settings) == MaveriqPlacer("hybrid", 0.5, True)
    with pytest.raises(InputError, match="unknown placer 'maverik'; did you mean 'maveriq'"):
        make_placer("maverik")
