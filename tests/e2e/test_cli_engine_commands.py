"""``penstock commands``: command lines of a fleet file, and of a plan."""

import json
import shlex

import pytest
import yaml

ENGINE = "engine: {name: vllm, version: 0.32.0}\n"


@pytest.fixture
def named(folder):
    """A fleet file that names its engine."""
    text = (folder / "fleet.yaml").read_text().replace("schedule: penstock, ", "")
    (folder / "named.yaml").write_text(text + ENGINE)
    return folder / "named.yaml"


def test_a_command_for_each_replica(penstock, named):
    outcome = penstock("commands", "named.yaml", "--set", "replicas[0].count=2")
    assert outcome.status == 0
    assert outcome.err == ""
    assert outcome.out.startswith("# replicas[0], replica 1: vllm 0.32.0 on a100-80gb-0, port 8000")
    lines = [shlex.split(text) for text in
             outcome.out.replace("\\\n", " ").splitlines() if text and not text.startswith("#")]
    assert [line[:4] for line in lines] == [
        [f"CUDA_VISIBLE_DEVICES={i}", "vllm", "serve", "meta-llama/Meta-Llama-3-8B"]
        for i in range(2)]
    assert lines[1][6:] == ["--port", "8001"]


def test_a_plans_folder_says_what_was_planned(penstock, named, folder):
    assert penstock("plan", "named.yaml", "--out", "p", "--no-report").status == 0
    for file in ("p", "p/plan.json", "p/fleet.yaml"):
        document = penstock("commands", file, "--json").json
        first = document["commands"][0]
        reasons = {one["flag"]: one["reason"] for one in first["arguments"]}
        assert reasons["--tensor-parallel-size"] == "planned (p/plan.json)"
        assert "--gpu-memory-utilization" not in reasons  # the version's own default
        assert first["version"] == "0.32.0"


def test_forms_of_containers(penstock, named):
    services = yaml.safe_load(penstock("commands", "named.yaml", "--format", "compose").out)
    assert services["services"]["replica-0-0"]["image"] == "vllm/vllm-openai:v0.32.0"
    as_json = penstock("commands", "named.yaml", "--format", "compose", "--json").json
    assert as_json == services
    objects = [*yaml.safe_load_all(penstock("commands", "named.yaml", "--format", "kubernetes",
                                            "--namespace", "infer").out)]
    assert [(one["kind"], one["metadata"]["namespace"]) for one in objects] == [
        ("Deployment", "infer")]
    found = penstock("commands", "named.yaml", "--format", "kubernetes", "--json").json
    assert found["kind"] == "List"
    assert found["items"][0]["metadata"]["namespace"] == "default"


def test_replicas_with_adapters(penstock, named):
    """Engines start with the room that the file states. Adapters without a path are the user's."""
    with_adapters = ("--set", "models[0].adapters=[{name: poet}, {name: tagger, path: /a/tagger}]",
                     "--set", "replicas[0].lora={max_loras: 2, max_cpu_loras: 5, max_rank: 8}")
    outcome = penstock("commands", "named.yaml", *with_adapters)
    assert outcome.status == 0
    assert ("# Note: replicas[0]: adapters without a path are not loaded by this command line: "
            "poet.") in outcome.out
    assert "# --max-lora-rank 8: stated by --set" in outcome.out.replace("#   ", "# ")
    objects = penstock("commands", "named.yaml", *with_adapters, "--format", "kubernetes",
                       "--json").json["items"]
    (container,) = objects[0]["spec"]["template"]["spec"]["containers"]
    assert {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "1"} in container["env"]
    assert " ".join(container["command"]).endswith(
        "--enable-lora --max-loras 2 --max-cpu-loras 5 --max-lora-rank 8")


def test_another_engine(penstock, named):
    text = penstock("commands", "named.yaml", "--engine", "sglang:0.5.23").out
    assert "python3 -m sglang.launch_server" in text
    assert "--enable-metrics" in text
    options = penstock("commands", "named.yaml", "--engine", "tensorrt-llm:1.3.0", "--set",
                       "replicas[0].kv_precision=fp8", "--json").json["commands"][0]["options"]
    assert [(one["keys"], one["reason"]) for one in options] == [
        (["kv_cache_config", "dtype"], "stated by --set")]


def test_notes_stand_in_comments_and_in_json(penstock, folder):
    text = penstock("commands", "fleet.yaml", "--engine", "vllm").out
    assert text.startswith("# Note: replicas[0]: vllm has no schedule penstock")
    notes = penstock("commands", "fleet.yaml", "--engine", "vllm", "--json").json["notes"]
    assert "no version is stated" in notes[1]
    outcome = penstock("commands", "fleet.yaml", "--engine", "vllm", "--format", "compose")
    assert "vllm has no schedule penstock" in outcome.err
    json.dumps(yaml.safe_load(outcome.out))


@pytest.mark.parametrize(("arguments", "message"), [
    (["unsized.yaml"], "unsized.yaml: states no replicas; expected a plan's folder"),
    (["."], "plan.json: no such file; expected a fleet file, or a folder that"),
    (["nowhere.yaml"], "nowhere.yaml"),
    (["fleet.yaml"], "fleet.yaml: replicas[0] has an ideal engine; expected --engine"),
    (["fleet.yaml", "--engine", "ollama"], "--engine: 'ollama' has no command line"),
    (["fleet.yaml", "--engine", "vllm:x"], "version: found 'x'; expected a version of vllm"),
    (["fleet.yaml", "--engine", "vllm", "--format", "helm"], "--format: found 'helm'"),
    (["fleet.yaml", "--engine", "vllm:0.19.0", "--set", "replicas[0].kv_precision=int8"],
     "replicas[0]: vllm 0.19.0 has no KV cache in int8")])
def test_one_line_says_what_is_wrong(penstock, folder, arguments, message):
    outcome = penstock("commands", *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
