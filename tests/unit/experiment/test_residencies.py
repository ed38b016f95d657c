"""Residency policies from their texts."""

import pytest

from penstock.core.errors import InputError
from penstock.experiment.reproduce.sincere.server import timer_settings
from penstock.experiment.residencies import contender
from penstock.policy.multiplex.build import NAMES
from penstock.policy.multiplex.settings import RESIDENCIES

SINCERE = timer_settings("noncc", 40.0)


def test_settings_are_those_of_the_policy() -> None:
    given = contender("penstock:horizon_s=12.5:shed=false").settings(SINCERE).penstock
    assert (given.horizon_s, given.shed) == (12.5, False)
    assert contender("round-robin:quantum_s=60:shed=true").settings(SINCERE).quantum_s == 60
    changed = contender("sincere-best-batch:overwrite=false:max_batch=64:select_by=sla").settings(
        SINCERE).sincere
    assert changed is not None
    assert (changed.overwrite, changed.max_batch, changed.select_by) == (False, 64, "sla")
    assert changed.load_table == SINCERE.load_table


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_a_field_of_its_policy(name: str) -> None:
    settings = contender(name).settings(SINCERE)
    where = settings.penstock if name == "penstock" else settings.sincere or settings
    assert all(hasattr(where, key) for key in RESIDENCIES[name])


@pytest.mark.parametrize(("label", "said"), [
    ("pensock", "did you mean 'penstock'"), ("edf:quantum_s=3", "edf has no setting 'quantum_s'"),
    ("penstock:horizn_s=3", "did you mean 'horizon_s'"), ("edf:shed", "'shed'; expected KEY=VALUE"),
    ("edf:shed=true:shed=false", "'shed' stands twice"),
    ("edf:shed=3", "shed is 3; expected true or false"),
    ("penstock:horizon_s=true", "horizon_s is True; expected a number"),
    ("penstock:max_batches=0", "expected a whole number from 1"),
    ("penstock:margin=-1", "expected a number from 0"),
    ("sincere-best-batch:select_by=x", "expected one of room, sla"),
    ("sincere-best-batch:max_batch=2.5", "expected a whole number from 1")])
def test_what_is_wrong_is_named(label: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        contender(label)
