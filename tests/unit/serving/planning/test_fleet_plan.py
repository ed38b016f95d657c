import copy
import json
import subprocess
import sys

import orjson
import pytest

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.marked_yaml import read_yaml
from penstock.plan.assign.solve import solve
from penstock.plan.document import full_document
from penstock.plan.plan import plan_fleet
from penstock.serving.planning import fleet_plan
from penstock.serving.planning.fleet_plan import EXAMPLE, Order, answer, operation, order_of
from penstock.serving.planning.worker import encoded, planned

TEXT = json.dumps(EXAMPLE)


def timeless(document):
    return {key: value for key, value in document.items() if key != "timing"}


def test_the_example_works_and_has_what_is_described():
    described = operation()
    found = described.call(copy.deepcopy(EXAMPLE))
    assert found.status == 200
    assert set(described.response["properties"]) <= set(found.document)
    assert set(EXAMPLE) <= set(described.request["properties"])
    assert "catalog" not in described.request["properties"]


def test_the_answer_is_the_document_of_the_plan():
    expected = full_document(plan_fleet(parse_fleet(TEXT, "body"), solve))
    assert timeless(answer(Order(TEXT)).document) == timeless(expected)


def test_seed_and_what_if_are_those_of_the_command_line():
    found = answer(Order(TEXT, seed=4, what_if=("traffic[0].rate_per_s=40",))).document
    assert found["seed"] == 4
    assert found["what_if"]["settings"] == ["traffic[0].rate_per_s=40"]
    assert found["what_if"]["cost_per_hour"] > found["cost_per_hour"]


def test_a_request_becomes_an_order():
    query = [("seed", "7"), ("what_if", "a=1"), ("time_limit_s", "2.5"), ("what_if", "b=2")]
    assert order_of(b"name: x", "application/yaml", query) == Order("name: x", 7, ("a=1", "b=2"),
                                                                     2.5)


@pytest.mark.parametrize(("query", "message"), [
    ([("sed", "7")], "query: unknown parameter 'sed'; did you mean 'seed'?"),
    ([("seed", "-1")], "query: seed: expected at least 0, found -1"),
    ([("seed", "1" * 30)], "query: seed: a number of 30 digits; expected at most 18"),
    ([("seed", "1" * 11)], "query: seed: expected at most 1,000,000,000, found 11111111111"),
    ([("seed", "1"), ("seed", "2")], "query: seed: appears twice"),
    ([("time_limit_s", "0")], "query: time_limit_s: expected more than 0, found 0"),
    ([("time_limit_s", "nan")], "query: time_limit_s: expected a number, found 'nan'"),
    ([("seed", "")], "query: seed: expected a value, found nothing"),
    ([("time_limit_s", "soon")], "query: time_limit_s: expected a number, found 'soon'"),
])
def test_a_query_that_makes_no_sense(query, message):
    with pytest.raises(InputError) as error:
        order_of(b"{}", "application/json", query)
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "message"), [
    (b"{", "body: is not JSON"),
    (b'{"a": NaN}', "body: is not JSON"),
    (b"name: yaml", "body: is not JSON"),
    (b"\xff", "not UTF-8"),
])
def test_a_body_that_is_said_to_be_json_and_is_not(text, message):
    with pytest.raises(InputError) as error:
        order_of(text, "application/json", [])
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["\U0001f600", "é", "a\\ud83d\\ude00", "tab\tquote\"", "/\\/"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_is_read_as_what_it_says(name, ascii_only):
    """YAML knows no halves of characters, as JSON writes those beyond 16 bits."""
    document = {"name": name, name: [1, 2.5e3, None, True, {}]}
    text = json.dumps(document, ensure_ascii=ascii_only, indent="\t").encode()
    found = order_of(text, "application/json", []).text
    assert read_yaml(found, "body").data == document


def test_an_error_names_line_and_field_of_json_too():
    text = json.dumps(EXAMPLE, indent=1).replace('"rate_per_s": 5', '"rate_per_s": "many"')
    line = 1 + next(n for n, row in enumerate(text.splitlines()) if "many" in row)
    with pytest.raises(InputError) as error:
        answer(order_of(text.encode(), "application/json", []))
    assert str(error.value).startswith(f"body:{line}: traffic[0].rate_per_s: ")


def test_a_key_that_stands_twice_is_no_json_for_us():
    with pytest.raises(InputError, match="appears twice"):
        answer(order_of(b'{"models": [], "models": []}', "application/json", []))


# -- files of the server -------------------------------------------------------------------------


def naming(path):
    """Fleet files that name a file, each in another place."""
    trace = {"trace": {"file": path}}
    step = [{"count": 1, "step_time": path}]
    return {
        "traffic[0].trace.file": {"traffic": [trace]},
        "catalog": {"catalog": path},
        "models[0].config": {"models": [{"name": "mine", "config": path}]},
        "models[0].name": {"models": [{"name": path}]},
        "replicas[0].step_time": {"replicas": step},
        "replicas[0].step_time.path": {"replicas": [{"step_time": {"kind": "file", "path": path}}]},
        "replicas[0].step_time.kind": {"replicas": [{"step_time": {"kind": path}}]},
        "replicas[0].step_time.name": {"replicas": [{"step_time": {"name": path}}]},
        "sizing.groups[0].step_time": {"sizing": {"groups": [{"step_time": path}]}},
        "traffic[0].trace": {"traffic": [{"trace": path, "rate_per_s": 1}]},
        "traffic[0].lengths": {"traffic": [{"lengths": path, "rate_per_s": 1}]},
    }


@pytest.mark.parametrize("field", naming(""))
@pytest.mark.parametrize("make", [str, lambda path: path.name, lambda path: path.parent.name])
def test_no_file_of_the_server_is_read(field, make, tmp_path, monkeypatch):
    folder = tmp_path / "zzqx"
    folder.mkdir()
    canary = folder / "config.json"
    canary.write_text('{"kind": "linear", "secret": 1}')
    monkeypatch.chdir(folder if make(canary) == canary.name else tmp_path)
    messages = []
    for text in (make(canary), make(canary).replace("config", "absent").replace("zzqx", "zzqy")):
        with pytest.raises(InputError) as error:
            answer(Order(json.dumps({**EXAMPLE, **naming(text)[field]})))
        messages.append(str(error.value).replace(text, "?"))
        assert f" {field.removesuffix('.kind').removesuffix('.name')}" in messages[-1]
        assert "secret" not in messages[-1]
    assert messages[0] == messages[1]  # it does not even tell which files there are


def test_the_interpreter_opens_nothing_that_a_request_names(tmp_path):
    """The test above by another means: Python itself says what is opened."""
    canary = tmp_path / "config.json"
    canary.write_text("{}")
    bodies = [json.dumps({**EXAMPLE, **one}) for text in (str(canary), str(tmp_path))
              for one in naming(text).values()]
    program = """
import json, sys
from penstock.serving.planning.fleet_plan import Order, answer
from penstock.core.errors import InputError
bodies, canary = json.loads(sys.stdin.read())
def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and canary in str(arguments[0]):
        print("touched", event, arguments[0])
sys.addaudithook(refuse)
for body in bodies:
    try:
        answer(Order(body))
        print("planned", body)
    except InputError:
        pass
open(canary + "/config.json").close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True,
                          text=True,
                          input=json.dumps([bodies, str(tmp_path)]), timeout=120, check=True)
    assert done.stdout == f"touched open {canary}\n"  # our own, to see that the hook works


# -- the process ---------------------------------------------------------------------------------


def test_the_process_answers_and_prints_nothing_else():
    done = subprocess.run([sys.executable, "-m", "penstock.serving.planning.worker"],
                          capture_output=True,
                          input=encoded(Order(TEXT), 4096), timeout=120, check=True)
    found = orjson.loads(done.stdout)
    assert found["status"] == 200
    assert timeless(found["document"]) == timeless(answer(Order(TEXT)).document)


def test_the_process_ends_with_its_server():
    """A server that is killed stops nobody; its plans would go on for minutes."""
    document = copy.deepcopy(EXAMPLE)
    document["traffic"][0] |= {"num_requests": 300_000, "rate_per_s": 50}
    order = orjson.loads(encoded(Order(json.dumps(document)), 4096))
    done = subprocess.run([sys.executable, "-m", "penstock.serving.planning.worker"],
                          capture_output=True,
                          input=orjson.dumps({**order, "server": 1 << 30}), timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_plan_that_would_take_all_memory_is_given_up():
    document = copy.deepcopy(EXAMPLE)
    document["traffic"][0]["num_requests"] = 100_000_000
    done = subprocess.run([sys.executable, "-m", "penstock.serving.planning.worker"],
                          capture_output=True,
                          input=encoded(Order(json.dumps(document)), 512), timeout=120, check=True)
    found = orjson.loads(done.stdout)
    assert found["status"] == 422
    assert "512 MB" in found["document"]["message"]


def test_bad_input_is_400_in_one_line(monkeypatch):
    monkeypatch.setattr("penstock.serving.planning.worker.limit_memory", lambda num_bytes: None)
    found = planned(orjson.loads(encoded(Order(TEXT.replace("100", "-1")), 4096)))
    assert found.status == 400
    assert found.document["message"].startswith("body:1: traffic[0].num_requests: ")


def test_the_forms_that_are_described_are_taken():
    assert set(operation().media_types) <= {"application/json", *fleet_plan.YAML}
