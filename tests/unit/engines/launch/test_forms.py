"""Command lines as a shell's text, as JSON and as services of Compose."""

import json
import shlex

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.engines.launch.documents import compose_document, json_document
from penstock.engines.launch.shell import shell_text
from penstock.fleet.write import yaml_text
from support.launched import started

FLEET = """\
name: forms
accelerators: [{{name: {accelerator}, price_per_hour: 2}}]
models: [{{name: llama-3.1-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2}}}}]
traffic: [{{lengths: {{prompt: {{fixed: 9}}, output: {{fixed: 9}}}}, rate_per_s: 1,
           num_requests: 9}}]
engine: {{name: vllm}}
replicas: [{{{replicas}}}]
"""


def made(replicas, engine="vllm:0.32.0", accelerator="h100-80gb", **more):
    return started(FLEET.format(replicas=replicas, accelerator=accelerator), engine, None, **more)


def words(text):
    """Words of each command of a shell's text, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [shlex.split(command) for command in lines.replace("\\\n", " ").split("\n\n")]


def test_a_shell_reads_the_words_of_each_command():
    found = made("count: 2, served_as: \"/models/it's\"")
    text = shell_text(found, ["a note"])
    assert text.startswith("# Note: a note.\n")
    for start, line in zip(found, words(text), strict=True):
        assert line == [f"CUDA_VISIBLE_DEVICES={start.placed.replica}", *start.line.argv]


def test_reasons_of_a_group_are_said_once():
    text = shell_text(made("count: 3, kv_precision: fp8"), [])
    assert text.count("#   --kv-cache-dtype fp8: stated by fleet.yaml:8\n") == 1
    assert text.count("\n  --kv-cache-dtype fp8") == 3
    assert "#   --port 8002: replica 3 on h100-80gb-0\n" in text


def test_the_shell_gets_the_address_of_the_first_machine():
    text = shell_text(made("count: 1, parallelism: {tensor: 8, pipeline: 2}"), [])
    assert '--master-addr "$LEADER_ADDRESS"' in text
    assert "# replicas[0], replica 1, machine 2 of 2: vllm 0.32.0 on h100-80gb-1" in text
    sglang = shell_text(made("count: 1, parallelism: {tensor: 8, pipeline: 2}", "sglang"), [])
    assert '--dist-init-addr "$LEADER_ADDRESS:20000"' in sglang


def test_options_of_a_file_are_written_before_the_command():
    found, = made("count: 1, kv_precision: fp8", "tensorrt-llm:1.3.0")
    text = shell_text([found], [])
    body = text.partition("<<'END_OF_OPTIONS'\n")[2].partition("END_OF_OPTIONS\n")[0]
    assert yaml.safe_load(body) == {"kv_cache_config": {"dtype": "fp8"}}
    assert "#   kv_cache_config.dtype=fp8: stated by fleet.yaml:8\n" in text
    assert text.index("cat > replica-0-0.yaml") < text.index("trtllm-serve")
    assert "--extra_llm_api_options replica-0-0.yaml" in text


def test_json_has_every_argument_with_its_reason():
    found = made("count: 2, kv_precision: fp8")
    document = json.loads(json.dumps(json_document(found, ["n"])))
    second = document["commands"][1]
    assert document["notes"] == ["n"]
    assert second["argv"][:2] == ["vllm", "serve"]
    assert {"flag": "--kv-cache-dtype", "value": "fp8", "reason": "stated by fleet.yaml:8"} \
        in second["arguments"]
    assert (second["port"], second["devices"], second["machine"]) == (8001, [1], "h100-80gb-0")
    assert second["environment"]["CUDA_VISIBLE_DEVICES"]["value"] == "1"


def test_compose_has_a_service_for_each_replica():
    document = compose_document(made("count: 2", "sglang:0.5.23", everywhere=True))
    assert yaml.safe_load(yaml_text(document)) == document
    second = document["services"]["replica-0-1"]
    assert second["image"] == "lmsysorg/sglang:v0.5.23"
    assert second["entrypoint"] == ["python3", "-m", "sglang.launch_server"]
    assert second["command"][:2] == ["--model-path", "meta-llama/Llama-3.1-8B"]
    assert second["ports"] == ["30001:30001"]
    device, = second["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["1"]
    assert "profiles" not in second


def test_compose_has_a_profile_for_each_machine():
    services = compose_document(made("count: 1, parallelism: {tensor: 8, pipeline: 2}"))["services"]
    assert [one["profiles"] for one in services.values()] == [["h100-80gb-0"], ["h100-80gb-1"]]
    first = services["replica-0-0-0"]
    assert first["network_mode"] == "host"
    assert "${LEADER_ADDRESS:?}" in first["command"]


def test_compose_replaces_nothing_else():
    services = compose_document(made("count: 1, served_as: /models/$HOME"))["services"]
    assert services["replica-0-0"]["command"][0] == "/models/$$HOME"


def test_compose_brings_files_of_options():
    document = compose_document(made("count: 1, kv_precision: fp8", "tensorrt-llm:1.3.0",
                                     everywhere=True))
    assert yaml.safe_load(document["configs"]["replica-0-0"]["content"]) == {
        "kv_cache_config": {"dtype": "fp8"}}
    service = document["services"]["replica-0-0"]
    assert service["configs"] == [{"source": "replica-0-0", "target": "/tmp/replica-0-0.yaml"}]
    assert service["working_dir"] == "/tmp"


def test_no_image_is_invented():
    with pytest.raises(InputError, match="knows no image of vllm for amd"):
        compose_document(made("count: 1", accelerator="mi300x"))


def apart(engine, **more):
    groups = "role: prefill, count: 2}, {role: decode"
    text = FLEET.format(replicas=groups, accelerator="h100-80gb")
    return started(f"{text}disaggregation: {{transfer: {{gb_per_s: 50}}, connector: nixl}}\n",
                   engine, None, **more)


def environments(found):
    """The variables of each replica beside those of its devices."""
    return [{name: one.value for name, one in start.line.environment.items()
             if "VISIBLE" not in name} for start in found]


def test_replicas_with_roles_on_a_machine_have_side_channels_of_their_own():
    assert environments(apart("vllm:0.32.0")) == [
        {}, {"VLLM_NIXL_SIDE_CHANNEL_PORT": 5601}, {"VLLM_NIXL_SIDE_CHANNEL_PORT": 5602}]
    found = [" ".join(start.line.argv) for start in apart("sglang:0.5.23")]
    assert ["--disaggregation-bootstrap-port 8999" in line for line in found] == [
        False, True, False]


def test_compose_reaches_side_channels_by_the_names_of_services():
    services = compose_document(apart("vllm:0.32.0", everywhere=True))["services"]
    assert services["replica-0-1"]["environment"] == {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "replica-0-1", "VLLM_NIXL_SIDE_CHANNEL_PORT": "5601"}
