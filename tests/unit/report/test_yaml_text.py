import pytest
import yaml

from penstock.fleet.marked_yaml import read_yaml
from penstock.report import yaml_text

VALUES = ["plain", "a100-80gb", "qwen2.5-32b", "org/model", "", " ", "yes", "No", "null", "1e6",
          "1.5", "2023-01-01", "a: b", "a #b", "{x}", "[x", "it's", '"', "\\", "line\nbreak",
          "tab\t", "é", "日本", "😀", "\x7f", "\x85", "\u2028", "\ufeff", "-", "~", "!tag", "&a",
          "*a", "%d", "@", "`", "0x1f", ".inf", "<<", "=", "y"]


@pytest.mark.parametrize("text", VALUES)
def test_text_is_read_back_by_both_versions_of_yaml(text):
    document = yaml_text.section("replicas", [{"name": text, "more": {"k": [text]}}])
    expected = {"replicas": [{"name": text, "more": {"k": [text]}}]}
    assert yaml.safe_load(document) == expected
    assert read_yaml(document, "x").data == expected


@pytest.mark.parametrize("value", [0, -3, 1.0, 0.1, 1e-05, 1e22, 1.5e-300, True, False, None, [],
                                   {}, [1, [2.5, {"a": None}]]])
def test_values_are_read_back_by_both_versions_of_yaml(value):
    text = yaml_text.flow({"value": value})
    assert yaml.safe_load(text) == {"value": value}
    assert read_yaml(text, "x").data == {"value": value}


def test_an_entry_is_a_line():
    assert yaml_text.section("replicas", [{"model": "m", "count": 2}, {"model": "k"}]) \
        == "replicas:\n  - {model: m, count: 2}\n  - {model: k}\n"
    assert yaml_text.section("replicas", []) == "replicas: []\n"
