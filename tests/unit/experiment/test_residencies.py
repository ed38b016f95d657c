"""Residency policies from their texts."""

import pytest

from penstock.core.errors import InputError
from penstock.experiment.reproduce.sincere.server import timer_settings
from penstock.experiment.residencies import contender, knob_names
from penstock.policy.residency.build import NAMES

SINCERE = timer_settings("noncc", 40.0)


def test_knobs_are_those_of_the_policy() -> None:
    assert contender("penstock:horizon_s=12.5:shed=false").settings().penstock.horizon_s == 12.5
    assert contender("round-robin:quantum_s=60:shed=true").settings().quantum_s == 60
    changed = contender("sincere-best-batch:overwrite=false:max_batch=64:select_by=sla").settings(
        SINCERE).sincere
    assert changed is not None
    assert (changed.overwrite, changed.max_batch, changed.select_by) == (False, 64, "sla")
    assert changed.load_table == SINCERE.load_table
    uncapped = contender("sincere-best-batch:max_batch=none").settings(SINCERE).sincere
    assert uncapped is not None
    assert uncapped.max_batch is None


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_has_its_knobs_as_fields(name: str) -> None:
    settings = contender(name).settings(SINCERE)
    where = settings.penstock if name == "penstock" else (
        settings.sincere if name.startswith("sincere") else settings)
    assert all(hasattr(where, knob) for knob in knob_names(name))


@pytest.mark.parametrize(("label", "said"), [
    ("pensock", "did you mean 'penstock'"), ("edf:quantum_s=3", "edf has no setting 'quantum_s'"),
    ("penstock:horizn_s=3", "did you mean 'horizon_s'"), ("edf:shed", "'shed'; expected KEY=VALUE"),
    ("edf:shed=3", "shed is 3; expected true or false"),
    ("penstock:horizon_s=true", "horizon_s is True; expected a number"),
    ("penstock:max_batches=0", "expected a whole number from 1"),
    ("penstock:margin=-1", "expected a number from 0"),
    ("sincere-best-batch:select_by=x", "expected room or sla"),
    ("sincere-best-batch:max_batch=2.5", "expected a whole number from 1, or none")])
def test_what_is_wrong_is_named(label: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        contender(label).settings(SINCERE)
