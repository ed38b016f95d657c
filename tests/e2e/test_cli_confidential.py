"""What a run writes of confidential requests: every byte of every file is looked through."""

import json
import re

import pytest
from pyarrow import parquet

from penstock.experiment.run import run_fleet
from penstock.fleet.load import load_fleet
from penstock.fleet.sources import fleet_workload
from penstock.report.run_files import PAGE, REQUESTS, SUMMARY

# What the trace says of each request, the fleet file does not say.
FLEET = """\
name: mixed
accelerators: [{name: a100-80gb, count: 4, price_per_hour: 2},
               {name: h100-80gb, count: 4, price_per_hour: 3, confidential: true}]
models: [{name: llama-3-8b, max_context_tokens: 90000}, {name: qwen2.5-7b}]
service_classes: [{name: chat, slo: {e2e_s: 60}}, {name: secret, slo: {e2e_s: 60},
                   confidential: true}]
traffic: [{model: llama-3-8b, trace: {file: many.csv}},
          {model: qwen2.5-7b, trace: {file: rare.csv}}]
replicas:
  - {model: llama-3-8b, accelerator: a100-80gb, service_classes: [chat]}
  - {model: llama-3-8b, accelerator: h100-80gb, service_classes: [secret],
     attestation: {simulated: [{until_s: 5}, {from_s: 8}]}}
  - {model: qwen2.5-7b, accelerator: h100-80gb, attestation: {simulated: [{}]}}
policies: {route: least_loaded}
gateway: {tenants: [{name: shop}, {name: canary-bank, confidential: true}]}
engine: {kv_tokens: 400000}
MODELS"""
TENANT = "canary-branch"  # in the trace alone; its class is confidential


# 61 open requests and 43 of a confidential class; 9 of a confidential tenant's rare model.
OPEN = [(0.25 * i, 300, 100, "chat", "shop") for i in range(61)]
SECRET = [(0.3137 * i, 71317, 31, "secret", TENANT) for i in range(1, 44)]
RARE = [(1.0931 * i, 21319, 77, "chat", "canary-bank") for i in range(1, 10)]


def written(path, rows):
    lines = [",".join(map(str, row)) for row in sorted(rows)]
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens,class,tenant", *lines, ""]))


@pytest.fixture
def mixed(folder):
    def write(more=""):
        written(folder / "many.csv", OPEN + SECRET)
        written(folder / "rare.csv", RARE)
        (folder / "mixed.yaml").write_text(FLEET.replace("MODELS", more))
        return folder / "mixed.yaml"

    return write


def numbers(value):
    """All numbers of a JSON document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def without_fleets(value):
    """A JSON document without the fleet files in it, which are as the operator wrote them."""
    if isinstance(value, dict):
        return {key: without_fleets(one) for key, one in value.items() if key != "fleet"}
    return [without_fleets(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def secrets(mixed):
    """Exact figures of the confidential requests, which no file may hold."""
    fleet = load_fleet(mixed())
    return secrets_of(run_fleet(fleet, fleet_workload(fleet), 0).result.table)


def secrets_of(table):
    hidden = (table.class_index == table.service_classes.index("secret")) | (
        table.tenant_index == table.tenants.index("canary-bank"))
    assert hidden.sum() == 52
    moments = [column[hidden] for column in (table.arrival_s, table.first_token_s,
                                             table.last_token_s, table.e2e_s, table.ttft_s)]
    return {float(value) for column in moments for value in column if value == value and value}


def test_no_file_of_a_run_tells_of_a_confidential_request(folder, penstock, mixed, secrets) -> None:
    outcome = penstock("run", mixed(), "--out", "out")
    as_json = penstock("run", mixed(), "--out", "again", "--json")
    page_again = penstock("lab", "report", "out")
    files = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert set(files) == {SUMMARY, REQUESTS, PAGE, "fleet.yaml", "plotly.min.js"}
    printed = [one.out + one.err for one in (outcome, as_json, page_again)]

    # Rows: none of theirs, and no gap where they were.
    table = parquet.read_table(folder / "out" / REQUESTS)
    assert table.num_rows == 61
    assert table["request_id"].to_pylist() == list(range(61))
    assert set(table["prompt_tokens"].to_pylist()) == {300}
    assert set(table["replica"].to_pylist()) == {0}
    assert b"canary-bank" not in files[REQUESTS]
    assert b"qwen" not in files[REQUESTS]

    # Numbers: no moment or latency of theirs, no exact count, no length, however it is written.
    summary = json.loads(files[SUMMARY])
    stated = summary.pop("fleet")  # the file as the operator wrote it
    assert not set(numbers(summary)) & (secrets | {
        52, 43, 9, 71317, 31, 21319, 77, 43 * 71317, 9 * 21319, 61 + 52, 61 + 43, 61 + 9})
    everything = [*files.values(), *(text.encode() for text in printed)]
    for exact in ("71317", "71,317", "21319", "21,319", TENANT):
        whole = re.compile(rb"(?<![\d.])" + exact.encode() + rb"(?!\d)")  # not within a number
        assert not any(whole.search(content) for content in everything)
    telling = [secret for secret in secrets if len(repr(secret)) > 12]  # no number by chance
    assert len(telling) > 100
    for secret in telling:
        forms = (f"{secret!r}".encode(), f"{secret:.9g}".encode())
        assert not any(form in content for form in forms for content in everything)
    page = files[PAGE].decode()
    assert json.loads(as_json.out)["confidential"] == summary["confidential"]
    assert stated["gateway"]["tenants"][1]["name"] == "canary-bank"

    # What is said: padded counts by class, and none by model.
    section = summary["confidential"]
    assert section.keys() == {"least_count", "cost_per_hour", "classes"}
    assert section["classes"]["secret"]["received_at_most"] == 64
    assert section["classes"]["chat"]["received_at_most"] == 16
    assert "Confidential requests" in page
    assert "≤ 64" in page


TURNS = """\
multiplexing:
  - {name: one, accelerator: h100-80gb, batching: BATCHING, models: [{model: llama-3-8b}]}
  - {name: two, accelerator: h100-80gb, models: [{model: qwen2.5-7b}]}
"""


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_no_file_tells_of_a_confidential_request_to_models_that_take_turns(
        folder, penstock, mixed, batching) -> None:
    text = mixed().read_text()
    before, after = text.index("replicas:"), text.index("policies:")
    text = text[:before] + TURNS.replace("BATCHING", batching) + text[after:]
    text = text.replace("confidential: true}]", "confidential: true,\n"
                        "  attestation: {simulated: [{until_s: 5}, {from_s: 8}]}}]", 1)
    of_replicas = ("policies: {route: least_loaded}\n", "engine: {kv_tokens: 400000}\n")
    for line in of_replicas:
        text = text.replace(line, "")
    (folder / "turns.yaml").write_text(text)
    fleet = load_fleet(folder / "turns.yaml")
    run = run_fleet(fleet, fleet_workload(fleet), 0)
    # Whoever was in one batch with them had the same end, and may know it.
    secrets = secrets_of(run.result.table) - set(run.table.last_token_s.tolist())
    outcome = penstock("simulate", "turns.yaml", "--out", "out")
    compared = penstock("compare", "turns.yaml", "--policies", "penstock,edf", "--json")
    assert outcome.status == 1, "some were refused between two attestations"
    assert parquet.read_table(folder / "out" / REQUESTS).num_rows == 61
    summary = json.loads((folder / "out" / SUMMARY).read_bytes())
    begun = {one.begin_s for pool in run.result.pools for one in pool.run.loads if one.begin_s}
    told = set(numbers(without_fleets(summary))) | set(numbers(without_fleets(compared.json)))
    leaked = told & (secrets | begun | {
        52, 43, 9, 71317, 31, 21319, 77, 61 + 52, 61 + 43, 61 + 9})
    assert not leaked
    assert summary["confidential"]["classes"]["secret"]["rejected_at_most"] == 16
    everything = [path.read_bytes() for path in (folder / "out").iterdir()]
    everything += [one.encode() for one in (outcome.out, outcome.err, compared.out, compared.err)]
    for secret in [one for one in secrets | begun if len(repr(one)) > 12]:
        assert not any(repr(secret).encode() in content for content in everything)
    for exact in (b"71317", b"21319", TENANT.encode()):
        assert not any(re.search(rb"(?<![\d.])" + exact + rb"(?!\d)", content)
                       for content in everything)


def test_verdicts_are_of_all_requests(penstock, mixed) -> None:
    outcome = penstock("run", mixed(), "--out", "out", "--json")
    assert outcome.status == 1, "some were refused between two attestations"
    assert outcome.json["classes"]["secret"]["meets_slo"] is False
    assert outcome.json["classes"]["chat"]["meets_slo"] is True
    assert outcome.json["overall"]["meets_slo"] is False


def test_models_are_counted_only_where_that_is_allowed(penstock, mixed) -> None:
    allowed = "disclosure: {allow_model_counts: true, least_count: 10}\n"
    section = penstock("run", mixed(allowed), "--out", "out", "--json").json["confidential"]
    assert section["models"] == {"llama-3-8b": 80, "qwen2.5-7b": 10}
    assert section["classes"]["secret"]["received_at_most"] == 80


def test_a_journal_of_confidential_requests_is_refused(folder, penstock, mixed) -> None:
    outcome = penstock("run", mixed(), "--out", "out", "--journal")
    assert outcome.status == 2
    assert "some are confidential" in outcome.err
    assert not (folder / "out").exists()


@pytest.mark.parametrize("command", [
    ("compare", "mixed.yaml", "--policies", "penstock,fcfs", "--json"),
    ("compare", "mixed.yaml", "--grid", "run.seed=1,2", "--json")])
def test_searches_say_no_more_than_a_run(folder, penstock, mixed, secrets, command) -> None:
    mixed()
    outcome = penstock(*command)
    assert outcome.status in (0, 1), outcome.err
    found = set(numbers(outcome.json))
    assert not found & (secrets | {52, 43, 9, 71317, 21319, 61 + 52})


def test_a_run_without_confidential_requests_is_as_ever(penstock) -> None:
    found = penstock("run", "fleet.yaml", "--out", "out", "--json").json
    assert "confidential" not in found
    assert found["overall"]["cost"]["per_hour"] > 0
    assert found["num_steps"] > 0


def test_a_capacity_tells_attainment_in_steps(folder, penstock) -> None:
    text = (folder / "fleet.yaml").read_text().replace(
        "{name: chat, slo", "{name: chat, confidential: true, slo").replace(
            "a100-80gb", "h100-80gb").replace("count: 4}", "count: 4, confidential: true}").replace(
                "[{count: 1}]", "[{count: 1, attestation: {simulated: [{}]}}]")
    (folder / "secret.yaml").write_text(text)
    found = penstock("capacity", "secret.yaml", "--tolerance", "0.2", "--json", "--set",
                     "service_classes[0].slo.ttft_s=0.05", "--set",
                     "service_classes[0].slo.percentile=90", "--attainment", "0.9").json
    shares = {probe["attainment"]["chat"] for probe in found["probes"]}
    assert all((20 * share).is_integer() for share in shares)
    assert any(share < 1 for share in shares), "else nothing was rounded"
