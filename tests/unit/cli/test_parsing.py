"""Small grammars of single commands."""

from types import SimpleNamespace

import pytest

from penstock.cli.compare import split_policies
from penstock.cli.compare_grid import _cell, _format_setting, parse_axes
from penstock.cli.replay import group_of_replica
from penstock.cli.single_run import default_folder
from penstock.core.errors import InputError


def test_axes_are_lists_whose_items_may_be_nested():
    found = parse_axes(["a=256,512", "b=x", "c={name: sarathi, chunk_tokens: 8},edf",
                        "d=[bf16, int8]", "e= 1 , 2.5 "])
    assert found == {"a": [256, 512], "b": ["x"],
                     "c": [{"name": "sarathi", "chunk_tokens": 8}, "edf"],
                     "d": [["bf16", "int8"]], "e": [1, 2.5]}


def test_policies_are_parted_by_commas():
    assert split_policies("penstock, sarathi:chunk_tokens=8:max_num_seqs=4") == \
        ["penstock", "sarathi:chunk_tokens=8:max_num_seqs=4"]


@pytest.mark.parametrize("text", ["", ",edf", "edf,,fcfs", "edf,edf"])
def test_empty_and_repeated_policies_are_refused(text):
    with pytest.raises(InputError, match="--policies"):
        split_policies(text)


@pytest.mark.parametrize(("value", "text"), [
    (5.123456, "5.123"), (0.0001234567, "0.0001235"), (16384.0, "16384"), ("12345", "12345"),
    (256, "256"), ("256", "256"), ("0.25", "0.25"), ("edf", "edf"), (None, ""), ("", ""),
    ([1, 2], "[1, 2]")])
def test_settings_in_the_table_of_a_sweep(value, text):
    assert _cell(value, _format_setting) == text


@pytest.mark.parametrize(("name", "folder"), [
    ("quickstart", "runs/quickstart"), ("a.b_c-1+2", "runs/a.b_c-1+2"), ("../up", "runs/--up"),
    ("..", "runs/-"), ("/etc", "runs/-etc"), (".hidden", "runs/-hidden"), ("", "runs/run")])
def test_the_default_folder_has_one_plain_part(name, folder):
    assert str(default_folder(name)) == folder


def test_replicas_are_numbered_through_the_groups(tmp_path):
    groups = [SimpleNamespace(count=2), SimpleNamespace(count=1)]
    fleet = SimpleNamespace(replicas=groups)
    found = [group_of_replica(fleet, number, tmp_path) for number in range(3)]
    assert found == [groups[0], groups[0], groups[1]]


@pytest.mark.parametrize("replica", [3, -1, None, "0", True, 1.0])
def test_a_replica_that_is_not_there_is_refused(replica, tmp_path):
    fleet = SimpleNamespace(replicas=[SimpleNamespace(count=3)])
    with pytest.raises(InputError, match="counted from 0"):
        group_of_replica(fleet, replica, tmp_path)
