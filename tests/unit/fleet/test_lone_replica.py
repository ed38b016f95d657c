"""A replica of options alone has the step times of the same replica in a fleet file."""

from pathlib import Path

import pytest

from penstock.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.fleet.load import parse_fleet
from penstock.fleet.lone_replica import check_step, lone_replica, step_of
from penstock.fleet.replica_factory import step_time
from support.kernel_tables import write_tables

FLEET = """\
name: one
accelerators: [{name: h100-80gb}]
models: [{name: MODEL, precisions: [bf16, fp8]}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: 9}]
"""
CATALOG = load_catalog()
H100 = CATALOG.accelerator("h100-80gb")


@pytest.mark.parametrize(("section", "stated", "engine"), [
    ("engine: {name: vllm, version: 0.11.0}", None, ("vllm", "0.11.0")),
    ("engine: {name: sglang}", None, ("sglang", None)),
    ("engine: {name: penstock-in-vllm}", None, ("penstock-in-vllm", None)),
    ("policies: {schedule: penstock}", None, None),
    ("engine: {step_time: {kind: roofline, host_overhead_s: 0.001}}",
     {"kind": "roofline", "host_overhead_s": 0.001}, None),
    ("engine: {name: vllm, step_time: vidur-a100-llama-3-8b}", "vidur-a100-llama-3-8b",
     ("vllm", None))])
@pytest.mark.parametrize(("model", "spread", "precision"), [
    ("llama-3-8b", Parallelism(2, 2), "bf16"), ("mixtral-8x7b", Parallelism(2, 1, 2, 4), "fp8")])
def test_step_times_are_those_of_a_fleet_file(model, spread, precision, section, stated, engine):
    text = FLEET.replace("MODEL", model) + (
        f"replicas: [{{precision: {precision}, parallelism: {{tensor: {spread.tensor}, pipeline: "
        f"{spread.pipeline}, data: {spread.data}, expert: {spread.expert}}}}}]\n{section}\n")
    (group,) = parse_fleet(text).replicas
    lone, _ = lone_replica(CATALOG.model(model), H100, spread, precision, "bf16", stated, engine)
    assert step_time(lone) == step_time(group)


def test_kernel_tables_are_those_of_the_engine(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables", "h100_sxm")
    spec = {"kind": "kernels", "path": str(tmp_path / "tables")}
    lone, _ = lone_replica(CATALOG.model("llama-3-8b"), H100, Parallelism(), "bf16", "bf16", spec,
                           ("vllm", None))
    assert lone.step_time == {"backend": "vllm", "host_overhead_s": 0.0, **spec}


@pytest.mark.parametrize(("spread", "words"), [
    (Parallelism(3), "tensor: 3 ranks do not divide the 32 attention heads of llama-3-8b"),
    (Parallelism(16), "tensor: 16 is more than the 8 h100-80gb accelerators share a node"),
    (Parallelism(1, 40), "pipeline: 40 is more than the 32 layers of llama-3-8b"),
    (Parallelism(1, 1, 2), "data: llama-3-8b has no experts, so only whole replicas can"),
    (Parallelism(2, expert=2), "expert: 2; expected a divisor of the 2 ranks, of a model with")])
def test_impossible_parallelism_names_the_degree(spread: Parallelism, words: str) -> None:
    with pytest.raises(InputError) as raised:
        lone_replica(CATALOG.model("llama-3-8b"), H100, spread, "bf16", "bf16", None, None)
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize(("step", "past", "words"), [
    (step_of(0, 0, 0, 1), 0, "the step has no tokens"),
    (step_of(100, 8100, 0, 1), 8100, "a sequence of 8,200 tokens; llama-3-8b has contexts of at"),
    (step_of(0, 0, 2, 9000), 0, "a sequence of 9,000 tokens"),
    (step_of(10, 0, 100, 8000), 0, "the step does not fit: its sequences have 800,010 tokens")])
def test_a_step_that_cannot_be_is_told(step, past: int, words: str) -> None:
    group, cache = lone_replica(CATALOG.model("llama-3-8b"), H100, Parallelism(), "bf16", "bf16",
                                None, None)
    check_step(group, cache, step_of(100, 8092, 0, 1), 8092)
    with pytest.raises(InputError) as raised:
        check_step(group, cache, step, past)
    assert str(raised.value).startswith(words)


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(InputError, match=r"llama-3-70b in bf16 .*tensor 2 or precision fp8 would"):
        lone_replica(CATALOG.model("llama-3-70b"), H100, Parallelism(), "bf16", "bf16", None, None)
