"""Which settings a replica states, and why."""

import pytest

from penstock.core.errors import InputError
from penstock.engines.launch.starts import notes
from support.launched import CATALOG, read, started

FLEET = """\
name: two
accelerators: [{name: h100-80gb}, {name: l4}]
models: [{name: meta-llama/Llama-3.1-8B-Instruct, max_context_tokens: 16384}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1, num_requests: 9}]
engine: {name: vllm, version: 0.32.0}
replicas:
  - {accelerator: h100-80gb, count: 1}
"""
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def arguments(text, engine="vllm:0.32.0", plan=None, number=0):
    start = started(text, engine, plan)[number]
    return {" ".join(one.words): one.reason for one in start.line.arguments}


def test_a_stated_value_has_its_line_and_a_default_is_silent():
    assert arguments(FLEET) == {
        MODEL: "stated by fleet.yaml:3",
        "--served-model-name llama-3.1-8b":
            "the fleet's name of the model, by which `penstock serve` asks for it",
        "--max-model-len 16384": "stated by fleet.yaml:3"}


def test_every_stated_value_has_its_flag():
    text = FLEET.replace("version: 0.32.0", "version: 0.32.0, memory_fraction: 0.92,\n"
                         "  max_num_seqs: 64, prefix_caching: true, block_tokens: 16").replace(
        "count: 1", "count: 1, precision: bf16,\n    kv_precision: fp8,\n"
                    "    parallelism: {tensor: 2}, served_as: chat")
    found = arguments(text)
    assert found["--gpu-memory-utilization 0.92"] == "stated by fleet.yaml:6"
    assert found["--max-num-seqs 64"] == "stated by fleet.yaml:7"
    assert found["--enable-prefix-caching"] == "stated by fleet.yaml:7"
    assert found["--dtype bfloat16"] == "stated by fleet.yaml:9"
    assert found["--kv-cache-dtype fp8"] == "stated by fleet.yaml:10"
    assert found["--tensor-parallel-size 2"] == "stated by fleet.yaml:11"
    assert found["--served-model-name chat"] == "stated by fleet.yaml:11"
    assert "--pipeline-parallel-size 1" not in found


def test_a_plan_states_its_variants_and_what_differs():
    text = FLEET.replace("count: 1", "count: 1, precision: bf16, parallelism: {tensor: 1}") \
        .replace("version: 0.32.0", "version: 0.32.0, memory_fraction: 0.92, prefix_caching: false")
    found = arguments(text, plan="plans/a/plan.json")
    assert found["--tensor-parallel-size 1"] == "planned (plans/a/plan.json)"
    assert found["--dtype bfloat16"] == "planned (plans/a/plan.json)"
    assert found["--no-enable-prefix-caching"] == "differs from the default of vllm 0.32.0, True"
    assert found["--max-model-len 16384"] == "differs from the model's own, 131072"
    assert not any("memory" in flag for flag in found)


def test_a_choice_of_ours_is_never_silent():
    text = FLEET.replace("Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct")
    found = arguments(text)
    assert found["--tensor-parallel-size 2"] == "differs from the default of vllm 0.32.0, 1"
    ideal = FLEET.replace("engine: {name: vllm, version: 0.32.0}",
                          "policies: {schedule: {name: sarathi, chunk_tokens: 512}}")
    found = arguments(ideal)
    assert found["--gpu-memory-utilization 0.9"] == "differs from the default of vllm 0.32.0, 0.92"
    assert found["--no-enable-prefix-caching"].startswith("differs from the default")
    assert found["--max-num-batched-tokens 512"] == "stated by fleet.yaml:6"
    assert found["--max-num-seqs 512"] == "differs from the default of vllm 0.32.0, 1024"


def test_a_small_cache_bounds_the_longest_request():
    text = FLEET.replace("h100-80gb, count", "l4, count").replace(", max_context_tokens: 16384", "")
    found = arguments(text)
    flag, = (flag for flag in found if flag.startswith("--max-model-len"))
    assert int(flag.split()[1]) < 131072
    assert int(flag.split()[1]) % 16 == 0
    assert found[flag] == "the KV cache of a replica holds no more, of the model's 131072"


def test_whole_prompts_are_a_setting_of_engines_that_chunk():
    text = FLEET + "policies: {schedule: orca}\n"
    assert arguments(text)["--no-enable-chunked-prefill"] == "stated by fleet.yaml:9"
    found = started(text, "tensorrt-llm:1.3.0", None)[0].line
    assert found.options_document() == {}
    chunked = FLEET + "policies: {schedule: {name: sarathi, chunk_tokens: 256}}\n"
    found = started(chunked, "tensorrt-llm:1.3.0", None)[0].line
    assert found.options_document() == {"enable_chunked_prefill": True}


def test_another_engine_keeps_what_is_stated_and_has_its_own_defaults():
    found = arguments(FLEET, "sglang:0.5.23")
    assert not any("mem-fraction" in flag or "page-size" in flag for flag in found)
    stated = FLEET.replace("version: 0.32.0", "version: 0.32.0, memory_fraction: 0.8")
    assert arguments(stated, "sglang:0.5.23")["--mem-fraction-static 0.8"] == \
        "stated by fleet.yaml:6"


def test_the_repository_is_never_invented():
    text = FLEET.replace(MODEL, "llama-3.1-8b")
    assert arguments(text)["meta-llama/Llama-3.1-8B"] == \
        "repository of llama-3.1-8b in the catalog"
    own = arguments(text.replace("count: 1", "count: 1, served_as: ./weights"))
    assert own["./weights"] == "stated by fleet.yaml:8"
    assert "--served-model-name" not in " ".join(own)


def test_a_model_of_a_config_needs_its_name_stated(tmp_path):
    import json

    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,
              "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128,
              "vocab_size": 1000, "max_position_embeddings": 512}
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = FLEET.replace(f"name: {MODEL}, max_context_tokens: 16384",
                         f"name: mine, config: {tmp_path}")
    with pytest.raises(InputError, match=r"replicas\[0\]: the repository of model mine is unknown; "
                                         "expected served_as: a repository"):
        started(text, "vllm:0.32.0", None)
    named = text.replace("count: 1", "count: 1, served_as: mine")
    assert arguments(named) == {"mine": "stated by fleet.yaml:8"}


def test_prompts_in_steps_of_their_own_are_sglangs_alone():
    text = FLEET + "policies: {schedule: {name: sarathi, chunk_tokens: 256}}\n"
    assert "--enable-mixed-chunk" in arguments(text, "sglang:0.5.23")
    first = text.replace("256", "256, prefill_first: true")
    assert "--enable-mixed-chunk" not in arguments(first, "sglang:0.5.23")
    fleet, said = read(first, "vllm:0.32.0", None)
    note, = notes(fleet, CATALOG, said, "f.yaml")
    assert note == "replicas[0]: vllm has no prefill_first: prompts and decodes share its steps"


def test_tensorrt_llm_has_its_own_name_of_the_model():
    fleet, said = read(FLEET, "tensorrt-llm:1.3.0", None)
    note, = notes(fleet, CATALOG, said, "f.yaml")
    assert note.endswith(f"unless the file states served_as: {MODEL}")
    fleet, said = read(FLEET.replace("count: 1", f"count: 1, served_as: {MODEL}"),
                       "tensorrt-llm:1.3.0", None)
    assert notes(fleet, CATALOG, said, "f.yaml") == []


def test_the_scheduler_inside_is_started():
    text = FLEET.replace("name: vllm", "name: penstock-in-vllm")
    start = started(text, "vllm:0.32.0", None)[0]
    assert "--scheduler-cls" not in start.line.argv  # --engine chose stock vLLM
    from penstock.engines.launch.starts import starts
    from penstock.fleet.load import parse_fleet

    _, said = read(text, "vllm:0.32.0", None)
    line = starts(parse_fleet(text), CATALOG, said, "/f.yaml")[0].line.argv
    assert line[-4:] == ["--scheduler-cls",
                         "penstock.engines.vllm.scheduler.PenstockAsyncScheduler",
                         "--additional-config",
                         '{"penstock": {"fleet": "/f.yaml", "replica": 0}}']


def test_what_an_engine_cannot_do_is_noted():
    fleet, said = read(FLEET + "policies: {schedule: edf}\n", "sglang", None)
    found = notes(fleet, CATALOG, said, "f.yaml")
    assert found[0].startswith("replicas[0]: sglang has no schedule edf: its own scheduler runs")
    assert "sglang 0.5.23, the newest described" in found[1]
    assert notes(*_on(FLEET)) == []


def test_a_version_after_the_newest_described_is_noted():
    fleet, said = read(FLEET, "vllm:9.9.9", None)
    note, = notes(fleet, CATALOG, said, "f.yaml")
    assert note.startswith("replicas[0]: 9.9.9 is not described yet, so flags and defaults are")


def test_tiers_are_no_part_of_a_command_line():
    note, = notes(*_on(FLEET.replace("name: vllm", "name: vllm, prefix_caching: true, "
                                     "kv_tiers: [{name: host, gib: 9, read_gb_per_s: 9}]")))
    assert note.startswith("replicas[0]: engine.kv_tiers is simulated alone")


def _on(text):
    fleet, said = read(text, "vllm:0.32.0", None)
    return fleet, CATALOG, said, "f.yaml"


ADAPTED = FLEET.replace("count: 1", "count: 1, lora: {max_loras: 2}")
FLAG = "--lora-drain-wait-threshold"


@pytest.mark.parametrize(("schedule", "version", "expected"), [
    ("{name: stock, adapter_wait_s: 20}", "0.5.23", (f"{FLAG} 20", "stated by fleet.yaml:9")),
    ("{name: stock, adapter_wait_s: 20}", "0.5.11", None), ("stock", "0.5.23", None),
    ("sarathi", "0.5.23", (f"{FLAG} 30", "differs from the default of sglang 0.5.23, none")),
    ("penstock", "0.5.23", None)])
def test_the_wait_for_an_adapter_is_a_setting_of_sglangs(schedule, version, expected):
    text = ADAPTED.replace("vllm, version: 0.32.0", "sglang, version: 0.5.23") + \
        f"policies: {{schedule: {schedule}}}\n"
    engine = f"sglang:{version}"
    found = [one for one in arguments(text, engine).items() if FLAG in one[0]]
    assert found == ([] if expected is None else [expected])
    fleet, said = read(text, engine, None)
    noted = [one for one in notes(fleet, CATALOG, said, "f.yaml") if "adapter_wait_s" in one]
    assert len(noted) == (version == "0.5.11")


def test_an_engine_that_never_drains_an_adapter_is_noted():
    fleet, said = read(ADAPTED + "policies: {schedule: sarathi}\n", "vllm:0.32.0", None)
    assert "replicas[0]: vllm 0.32.0 has no adapter_wait_s: busy adapters may keep a request " \
        "waiting for longer than 30 s" in notes(fleet, CATALOG, said, "f.yaml")
