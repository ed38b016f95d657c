"""Multiplexer policies from their texts."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.published.sincere.contender import contender
from penstock.published.sincere.policy import Sincere
from penstock.published.sincere.server import timer_settings

SINCERE = timer_settings("noncc", 40.0)


def test_settings_are_those_of_the_policy() -> None:
    assert contender("penstock:horizon_s=12.5:shed=false").given == {"horizon_s": 12.5,
                                                                     "shed": False}
    assert contender("round-robin:quantum_s=60:shed=true").given == {"quantum_s": 60, "shed": True}


def test_the_strategies_of_sincere_take_its_usual_settings() -> None:
    label = "sincere-best-batch:overwrite=false:max_batch=64:select_by=sla"
    policy = contender(label).policy((), LoadTable([]), SINCERE)
    assert isinstance(policy, Sincere)
    assert policy._settings == replace(SINCERE, overwrite=False, max_batch=64, select_by="sla")


@pytest.mark.parametrize(("label", "said"), [
    ("pensock", "did you mean 'penstock'"), ("edf:quantum_s=3", "edf has no setting 'quantum_s'"),
    ("penstock:horizn_s=3", "did you mean 'horizon_s'"), ("edf:shed", "'shed'; expected KEY=VALUE"),
    ("edf:shed=true:shed=false", "'shed' appears twice"),
    ("edf:shed=3", "shed is 3; expected true or false"),
    ("penstock:horizon_s=true", "horizon_s is True; expected a number"),
    ("penstock:max_batches=0", "expected a whole number from 1"),
    ("penstock:margin=-1", "expected a number from 0"),
    ("sincere-best-batch:select_by=x", "expected one of room, sla"),
    ("sincere-best-batch:max_batch=2.5", "expected a whole number from 1")])
def test_what_is_wrong_is_named(label: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        contender(label)
