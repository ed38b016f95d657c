import pytest

from penstock.core.errors import InputError, fields_called, kind_of, nearest, one_of, quote

COMMANDS = ("run", "simulate", "capacity", "catalog", "compare", "schema", "sweep", "replay")


@pytest.mark.parametrize(("name", "meant"), [
    ("simulat", "simulate"), ("simualte", "simulate"), ("SWEEP", "sweep"), ("sim", "simulate"),
    ("cat", "catalog"), ("s", None), ("r", None), ("ulate", "simulate"), ("nosuch", None),
    ("xyz", None), ("", None)])
def test_only_a_near_name_is_suggested(name, meant):
    hint = nearest(name, COMMANDS)
    if meant is None:
        assert hint == one_of(COMMANDS)
    else:
        assert hint == f"; did you mean {meant!r}?"


def test_what_was_begun_goes_before_what_is_alike():
    # 'rate' is closer in letters to 'gate', but it begins 'rate_per_s'.
    assert nearest("rate", ("gate", "rate_per_s")) == "; did you mean 'rate_per_s'?"
    assert nearest("o", ("json", "out")) == "; did you mean 'out'?"


def test_words_of_one_beginning_are_near_enough():
    assert nearest("admission", ("admit", "route")) == "; did you mean 'admit'?"


def test_long_lists_are_cut():
    assert one_of(f"n{i:02}" for i in range(17)).endswith("n15, ...")
    assert one_of(()) == ""


def test_errors_name_fields_as_their_caller_does():
    def told(message):
        with pytest.raises(InputError) as caught, fields_called({"rate": "--rate"}):
            raise InputError(message)
        return str(caught.value)

    assert told("rate: found 0") == "--rate: found 0"
    for other in ("rates: found 0", "found rate: 0", "rate"):
        assert told(other) == other


def test_values_of_json_are_shown_in_its_own_words():
    assert [kind_of(value) for value in ({}, [], "", True, 1, 0.5, None)] == [
        "an object", "a list", "a text", "true/false", "a number", "a number", "null"]
    assert [quote(value) for value in ({}, [1], "x", True, False, 1, 0.5, None)] == [
        "an object", "a list", "'x'", "true", "false", "1", "0.5", "null"]
    assert len(quote("x" * 1000)) == 60
