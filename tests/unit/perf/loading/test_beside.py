"""A load beside compute."""

import pytest

from penstock.core.errors import InputError
from penstock.perf.loading.beside import Interference, beside
from penstock.perf.loading.values import LoadTime

LOAD = LoadTime(10.0, 9.0, 11.0, {"fixed_s": 2.0, "disk_s": 5.0, "copy_s": 3.0, "first_s": 0.0})


def test_by_default_neither_knows_of_the_other() -> None:
    assert beside(LOAD, 4.0) == (10.0, 4.0)
    assert beside(LOAD, 40.0) == (10.0, 40.0)
    assert beside(LOAD, 0.0) == (10.0, 0.0)


def test_a_fixed_part_that_blocks_puts_compute_off() -> None:
    one_process = Interference(fixed_blocks=1.0)
    assert beside(LOAD, 4.0, one_process) == (10.0, 6.0)
    assert beside(LOAD, 0.0, one_process) == (10.0, 0.0)
    assert beside(LOAD, 0.5, Interference(fixed_blocks=0.5)) == (10.0, 1.0)


def test_each_slows_the_other_while_both_run() -> None:
    both = Interference(load_slowdown=0.5, compute_slowdown=0.25)
    # Compute is over after 2 + 4 * 1.25 s; the load has moved 5 / 1.5 s of its 8 s by then.
    loaded_s, computed_s = beside(LOAD, 6.0, both)
    assert computed_s == pytest.approx(7.0)
    assert loaded_s == pytest.approx(7.0 + 8.0 - 5.0 / 1.5)
    # The load is over after 2 + 8 * 1.5 s, in which compute did 2 + 12 / 1.25 s of its 20 s.
    loaded_s, computed_s = beside(LOAD, 20.0, both)
    assert loaded_s == pytest.approx(14.0)
    assert computed_s == pytest.approx(14.0 + 20.0 - 2.0 - 9.6)


@pytest.mark.parametrize(("values", "message"), [
    ({"load_slowdown": -0.1}, "load_slowdown: -0.1; expected at least 0"),
    ({"fixed_blocks": 1.5}, "fixed_blocks: 1.5; expected 0 to 1")])
def test_impossible_shares(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interference(**values)
