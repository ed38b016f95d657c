import json

import pytest

from penstock.core.errors import InputError
from penstock.perf.queueing.parameters import DecodePrefillTimes, IterationTimes
from penstock.published.inferno.read import parse_bundle, read_bundle
from support.inferno_bundles import document, rows, server, write


def upper(value):
    """Every key in capitals."""
    if isinstance(value, dict):
        return {key.upper(): upper(item) for key, item in value.items()}
    return [upper(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("schema", "form"), [("v1", DecodePrefillTimes), ("v2", IterationTimes)])
def test_both_schemas(schema, form) -> None:
    system = parse_bundle(document(schema), "body")
    assert system.generation == schema
    assert {type(profile.times) for profile in system.profiles.values()} == {form}
    assert system.accelerators["2xA"].multiplicity == 2
    assert system.servers["Free-large"].load.arrival_per_min == 120.0
    assert system.service_classes["Premium"].targets["small"].itl_ms == 40.0
    assert system.capacity == {"A": 240, "B": 120}


def test_a_folder_and_a_file_hold_the_same(tmp_path) -> None:
    write(tmp_path / "folder")
    (tmp_path / "bundle.json").write_text(json.dumps(document()))
    assert read_bundle(tmp_path / "folder") == read_bundle(tmp_path / "bundle.json")


def test_keys_match_in_any_case() -> None:
    assert parse_bundle(upper(document()), "body") == parse_bundle(document(), "body")


def test_unknown_keys_and_nulls_do_not_matter() -> None:
    made = document()
    rows(made, "modelData")[0] |= {"comment": [1, 2], "accCount": None}
    made["system"]["more"] = {}
    assert parse_bundle(made, "body") == parse_bundle(document(), "body")


def test_what_is_absent_has_upstreams_default() -> None:
    made = document()
    del made["system"]["optimizerData"], made["system"]["capacityData"]
    rows(made, "modelData")[0]["accCount"] = -1
    rows(made, "serviceClassData")[0]["priority"] = 101
    del server(made, "Free-small")["class"]
    system = parse_bundle(made, "body")
    assert system.capacity is None
    assert system.options.saturation_policy == "None"
    assert system.profiles["small", "A"].acc_count == 1
    assert system.service_classes["Premium"].priority == 100
    assert system.servers["Free-small"].service_class == "Free"


def test_an_unknown_policy_is_none() -> None:
    made = document()
    made["system"]["optimizerData"]["optimizer"] = {"saturationPolicy": "Fair", "milpSolver": True}
    options = parse_bundle(made, "body").options
    assert (options.saturation_policy, options.milp_solver) == ("None", True)


def changed(part, number, **values):
    def change(made) -> None:
        rows(made, part)[number] |= values
    return change


def repeated(part):
    def change(made) -> None:
        rows(made, part).append(rows(made, part)[0])
    return change


def load(**values):
    def change(made) -> None:
        server(made, "Free-small")["currentAlloc"]["load"] |= values
    return change


def of_system(**parts):
    return lambda made: made["system"].update(parts)


BAD = {
    "cost as text": (changed("acceleratorData", 0, cost="40"), "cost: found '40'; expected a numb"),
    "negative cost": (changed("acceleratorData", 0, cost=-1), "cost: found -1; expected at"),
    "endless cost": (changed("acceleratorData", 0, cost=1e300), "expected a number up to"),
    "no card": (changed("acceleratorData", 0, multiplicity=0),
                r"accelerators\[0\]: multiplicity: found 0; expected at least 1"),
    "fewer than none": (changed("acceleratorData", 0, multiplicity=-2), "found -2; expected at l"),
    "no name": (changed("acceleratorData", 1, name=None), r"accelerators\[1\]: 'name' is missing"),
    "empty name": (changed("serverData", 0, name=""), "name: found ''; expected a name"),
    "number for a name": (changed("serverData", 0, name=7), "name: found 7; expected a text"),
    "half a unit": (changed("modelData", 2, accCount=1.5), r"models\[2\]: accCount: found 1.5"),
    "negative alpha": (changed("modelData", 0, perfParms={"alpha": -1}), "alpha: found -1"),
    "alpha is true": (changed("modelData", 0, perfParms={"alpha": True}), "found true; expected"),
    "parameters in a list": (changed("modelData", 0, perfParms=[1, 2]), "found a list; expected"),
    "both schemas": (changed("modelData", 0, decodeParms={"alpha": 1}), "expected one schema"),
    "negative cards": (changed("capacityData", 0, count=-3), "count: found -3"),
    "flag as text": (changed("serverData", 0, keepAccelerator="yes"), "expected true or false"),
    "negative floor": (changed("serverData", 0, minNumReplicas=-1), "minNumReplicas: found -1"),
    "tokens in parts": (load(avgOutTokens=10.5), "expected a whole number"),
    "rate in two spellings": (load(arrivalRate="60"), "load: key 'arrivalRate' is there twice"),
    "two servers of a name": (repeated("serverData"), "'Premium-small' is there twice"),
    "two accelerators of a name": (repeated("acceleratorData"), "'A' is there twice"),
    "two profiles of a pair": (repeated("modelData"), "'small on A' is there twice"),
    "two classes of a name": (repeated("serviceClassData"), "'Premium' is there twice"),
    "two counts of a pool": (repeated("capacityData"), "'A' is there twice"),
    "servers in an object": (of_system(serverData={"servers": {}}), "found an object; expected"),
    "no list of servers": (of_system(serverData={"server": []}), "'servers' is missing; found"),
    "a part in a list": (of_system(modelData=[]), "modelData: found a list; expected an object"),
    "a server in a list": (of_system(serverData={"servers": [[]]}), r"servers\[0\]: found a list"),
    "policy as a number": (of_system(optimizerData={"optimizer": {"saturationPolicy": 1}}),
                           "saturationPolicy: found 1; expected a text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_bundles_are_told_in_one_line(case) -> None:
    change, message = BAD[case]
    made = document()
    change(made)
    with pytest.raises(InputError, match=message) as caught:
        parse_bundle(made, "body")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("body: ")


@pytest.mark.parametrize("body", [None, 3, "system", [], {}, {"systems": {}}])
def test_a_body_without_a_system(body) -> None:
    with pytest.raises(InputError):
        parse_bundle(body, "body")


@pytest.mark.parametrize(("text", "message"), [
    (b"{", "is not JSON"), (b'{"servers": [{"name": NaN}]}', "is not JSON"),
    (b"\xff\xfe", "is not JSON"), (b"", "is not JSON"), (b"[]", "found a list")])
def test_unreadable_files_are_named(tmp_path, text, message) -> None:
    folder = write(tmp_path)
    (folder / "server-data.json").write_bytes(text)
    with pytest.raises(InputError, match=f"server-data.json: {message}"):
        read_bundle(folder)


def test_a_missing_file_is_named(tmp_path) -> None:
    folder = write(tmp_path / "bundle")
    (folder / "model-data.json").unlink()
    with pytest.raises(InputError, match=r"model-data\.json is missing"):
        read_bundle(folder)
    with pytest.raises(InputError, match="no such file"):
        read_bundle(tmp_path / "elsewhere")


def test_a_folder_may_do_without_options_and_capacity(tmp_path) -> None:
    folder = write(tmp_path)
    (folder / "optimizer-data.json").unlink()
    (folder / "capacity-data.json").unlink()
    assert read_bundle(folder).capacity is None
