import pytest

from penstock.core.errors import InputError
from penstock.fleet.settings import parse_settings


def test_settings_become_overrides_with_values_of_yaml():
    found = parse_settings(["a=1", "b.c=1e3", "d=[x, 2]", "e={name: f}", "g=", "h=a=b",
                                    "i= yes", "a=2"])
    assert found == {"a": 2, "b.c": 1000.0, "d": ["x", 2], "e": {"name": "f"}, "g": None,
                     "h": "a=b", "i": "yes"}
    assert type(found["a"]) is int


@pytest.mark.parametrize("setting", ["a", "=1", " =1", ""])
def test_a_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        parse_settings([setting])


def test_a_value_that_is_no_yaml_is_named_by_its_key():
    with pytest.raises(InputError, match=r"--set run\.seed=\[1: not valid YAML"):
        parse_settings(["run.seed=[1"])


def test_another_option_is_named_in_its_errors():
    with pytest.raises(InputError, match=r"^what_if 'a': expected"):
        parse_settings(["a"], "what_if")
    with pytest.raises(InputError, match=r"^what_if a=\[1: not valid YAML"):
        parse_settings(["a=[1"], "what_if")
