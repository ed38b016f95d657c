from pathlib import Path
from typing import Any

import pytest

from penstock.core.hardware import Parallelism
from penstock.published.measured.express import Expressed, express
from penstock.published.measured.names import NotExpressedError
from penstock.published.measured.rows import read_measured
from support.measured_rows import write_measured


def expressed(folder: Path, **point: Any) -> Expressed:
    write_measured(folder, point)
    return express(read_measured(folder)[0])


def test_a_closed_loop_has_ten_requests_a_client(tmp_path: Path) -> None:
    workload = expressed(tmp_path).workload
    assert len(workload) == 80
    assert workload.loops is not None
    assert len(workload.loops.starts_s[0]) == 8
    assert 409 <= workload.prompt_tokens.min() < workload.prompt_tokens.max() <= 512
    assert 51 <= workload.output_tokens.min() < workload.output_tokens.max() <= 64
    assert (workload.max_tokens == workload.output_tokens).all()  # the load tool asks for as many


def test_a_known_sweep_misses_a_seat(tmp_path: Path) -> None:
    sweep = {"framework": "trtllm", "framework_version": "1.0.0rc3",
             "notes": "NVIDIA's own sweep; lengths taken as fixed"}
    assert expressed(tmp_path, **sweep).fleet.policies.schedule.max_num_seqs == 7
    assert expressed(tmp_path).fleet.policies.schedule.max_num_seqs == 8


def test_runs_of_inferencex_have_its_settings(tmp_path: Path) -> None:
    run = {"model": "deepseek-ai/DeepSeek-R1", "framework": "sglang", "hardware": "b200", "tp": 8,
           "num_gpus": 8, "notes": "InferenceX family run (client of that project)"}
    few, many = (expressed(tmp_path, load_value=clients, **run) for clients in (8, 64))
    assert (few.group.kv_precision, few.group.intake.every_steps) == ("fp8", 10)
    assert many.group.intake.every_steps == 30
    assert many.fleet.policies.schedule.chunk_tokens == 32768
    assert expressed(tmp_path, **{**run, "notes": ""}).group.intake.every_steps == 1


def test_a_burst_comes_at_once_and_a_rate_by_itself(tmp_path: Path) -> None:
    burst = expressed(tmp_path, load_kind="burst", load_value=20, length_kind="fixed").workload
    assert burst.loops is None
    assert set(burst.arrival_s) == {0.0}
    assert set(burst.prompt_tokens) == {512}
    rate = expressed(tmp_path, load_kind="rate", load_value=4, num_requests=300).workload
    assert rate.rate_per_s == pytest.approx(4.0, rel=0.2)


def test_requests_of_a_point_are_the_same_every_time(tmp_path: Path) -> None:
    one, other = expressed(tmp_path).workload, expressed(tmp_path).workload
    assert one.prompt_tokens.tolist() == other.prompt_tokens.tolist()


def test_replicas_share_the_stated_accelerators(tmp_path: Path) -> None:
    group = expressed(tmp_path, num_gpus=8, tp=2).group
    assert (group.count, group.parallelism) == (4, Parallelism(2, 1))


@pytest.mark.parametrize(("stated", "expected"), [
    ({"tp": 8, "ep": 8, "num_gpus": 8}, Parallelism(8, expert=8)),
    ({"tp": 8, "dp": 8, "num_gpus": 8}, Parallelism(1, 1, 8)),  # SGLang and vLLM
    ({"tp": 1, "ep": 8, "dp": 8, "num_gpus": ""}, Parallelism(1, 1, 8, 8)),  # TensorRT-LLM
    ({"tp": 64, "ep": 8, "dp": 1, "num_gpus": 64}, Parallelism(8, expert=8)),  # squared by the
    ({"tp": 1, "ep": 8, "dp": 64, "num_gpus": ""}, Parallelism(1, 1, 8, 8)),  # collection
    ({"tp": 12, "num_gpus": 12}, Parallelism(1, 1, 12))])  # 12 do not divide 128 heads
def test_degrees_of_mixtures(tmp_path: Path, stated: dict[str, Any],
                             expected: Parallelism) -> None:
    group = expressed(tmp_path, model="deepseek-ai/DeepSeek-R1", **stated).group
    assert (group.parallelism, group.count) == (expected, 1)


def test_data_ranks_of_a_dense_model_are_replicas(tmp_path: Path) -> None:
    group = expressed(tmp_path, tp=4, dp=2, num_gpus=8).group
    assert (group.parallelism, group.count) == (Parallelism(4), 2)


@pytest.mark.parametrize(("name", "spec"), [
    ("Qwen/Qwen3-32B-FP8", "qwen3-32b"), ("nvidia/Llama-3.3-70B-Instruct", "llama-3.3-70b"),
    ("amd/Llama-3.1-405B-Instruct-FP8-KV", "llama-3.1-405b"),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
    ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1")])
def test_formats_and_tunings_of_a_model_are_the_model(tmp_path: Path, name: str, spec: str) -> None:
    assert expressed(tmp_path, model=name, tp=8).group.model.name == spec


DRAFTED = {"spec_decode": "mtp", "model": "deepseek-ai/DeepSeek-R1-0528", "tp": 8, "num_gpus": 8,
           "framework": "sglang", "notes": "lengths as of that project; run 1"}


@pytest.mark.parametrize(("point", "drafts"), [
    ({}, 2), ({"hardware": "mi355x"}, 3), ({"framework": "trtllm", "framework_version": ""}, 3),
    ({"notes": "--speculative-num-steps 1 --speculative-eagle-topk 1"}, 1),
    ({"notes": '--speculative-config={"method":"mtp","num_speculative_tokens":4}'}, 4)])
def test_drafts_are_those_of_the_notes_or_of_the_scripts(tmp_path: Path, point: dict[str, Any],
                                                         drafts: int) -> None:
    found = expressed(tmp_path, **{**DRAFTED, **point}).group.speculation
    assert found is not None
    assert found.depth.tokens == drafts
    assert found.acceptance_of("all").tokens_per_turn(1) == pytest.approx(1.875)


def test_the_nearest_model_lends_its_acceptance(tmp_path: Path) -> None:
    found = expressed(tmp_path, **{**DRAFTED, "model": "Qwen/Qwen3.5-9B", "tp": 1,
                                   "num_gpus": 1}).group.speculation
    assert found is not None
    assert found.acceptance_of("all").tokens_per_turn(1) == pytest.approx(1.93)


@pytest.mark.parametrize(("point", "why"), [
    ({"disaggregated": 1}, "disaggregated"),
    ({"spec_decode": "mtp"}, "speculative decoding .mtp. of unknown depth"),
    ({"spec_decode": "medusa"}, "of unknown method"),
    ({"spec_decode": "mtp", "notes": "--speculative-num-steps 2"}, "of unknown acceptance"),
    ({**DRAFTED, "tpot_mean": 0.0002}, "below that of all drafts accepted"),
    ({"framework": "tgi"}, "engine tgi"), ({"tp": ""}, "parallelism is not stated"),
    ({"model": "acme/one"}, "model one is not in"),
    ({"hardware": "tpu"}, "accelerator tpu is not in"), ({"tp": 5}, "5 ranks do not divide"),
    ({"load_kind": "mlperf server"}, "load mlperf server"), ({"isl": ""}, "not stated"),
    ({"load_value": ""}, "not stated"), ({"precision": "ternary"}, "weights in ternary")])
def test_points_beyond_the_simulator_say_why(tmp_path: Path, point: dict[str, Any],
                                             why: str) -> None:
    with pytest.raises(NotExpressedError, match=why):
        expressed(tmp_path, **point)


@pytest.mark.parametrize(("notes", "first", "second"), [
    ("prefill workers/tp/pp/dp 1/4/1/1, decode 2/2/1/1", (1, 4, 1), (2, 2, 1)),
    ("prefill:decode workers 3:1, TP2 each; asked 2048/128", (3, 2, 1), (1, 2, 1)),
    ("prefill 2x tp4 ep1, decode 1x tp8 ep1; throughput", (2, 4, 1), (1, 8, 1)),
    ("prefill workers/tp/pp/dp 1/1/1/8, decode 1/8/1/1", (1, 1, 8), (1, 8, 1))])
def test_both_sides_of_a_disaggregated_point(tmp_path: Path, notes: str, first: tuple[int, ...],
                                             second: tuple[int, ...]) -> None:
    found = expressed(tmp_path, disaggregated=1, notes=notes, tp="", num_gpus="",
                      model="deepseek-ai/DeepSeek-R1" if "1/8" in notes else "Qwen/Qwen3-32B",
                      hardware="b200", precision="fp8")
    groups = found.fleet.replicas
    assert [group.role for group in groups] == ["prefill", "decode"]
    assert [(group.count, group.parallelism.tensor, group.parallelism.data)
            for group in groups] == [first, second]
    assert groups[0].schedule.chunk_tokens == groups[1].schedule.chunk_tokens * first[2]
    assert found.fleet.disaggregation.transfer.bytes_per_s > 0


INFERRED = {"disaggregated": 1, "model": "deepseek-ai/DeepSeek-R1", "hardware": "gb200",
            "precision": "nvfp4", "framework": "trtllm", "framework_version": "0.8.1.post2",
            "isl": 1024, "osl": 1024, "tp": "", "num_gpus": "",
            "notes": "prefill workers/tp/pp/dp ?/4/1/1, decode ?/8/1/1"}


def test_the_one_published_recipe_that_fits_states_the_workers(tmp_path: Path) -> None:
    found = expressed(tmp_path, **INFERRED, load_value=192)
    prefill, decode = found.fleet.replicas
    assert found.is_inferred
    assert (prefill.count, prefill.parallelism) == (1, Parallelism(1, 1, 4, 4))
    assert (decode.count, decode.parallelism) == (4, Parallelism(8, 1, 1, 8))
    assert prefill.schedule.max_num_seqs == 64
    assert decode.schedule.max_num_seqs == 32  # fewer seats than clients: answers wait
    assert decode.step_time["version"] == "1.2.0"  # of the engine in Dynamo's image
    assert decode.speculation is None


def test_a_recipe_says_what_the_row_does_not_that_it_drafts(tmp_path: Path) -> None:
    _, decode = expressed(tmp_path, **INFERRED, load_value=8).fleet.replicas
    assert decode.speculation.depth.tokens == 3


def test_where_two_recipes_fit_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(NotExpressedError, match="2 published recipes fit"):
        expressed(tmp_path, **INFERRED, load_value=24)


def test_stated_workers_are_not_inferred(tmp_path: Path) -> None:
    stated = INFERRED | {"notes": "prefill workers/tp/pp/dp 1/4/1/1, decode 4/8/1/1"}
    found = expressed(tmp_path, **stated, load_value=24)
    assert not found.is_inferred
    assert found.fleet.replicas[1].speculation is None
    assert found.fleet.replicas[1].schedule.max_num_seqs == 24
