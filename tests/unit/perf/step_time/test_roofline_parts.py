"""Operations of a roofline's step: figures worked out by hand from public architectures."""

from dataclasses import replace

import pytest

from penstock.catalog import load_catalog
from penstock.core.hardware import Parallelism
from penstock.fleet.lone_replica import step_of
from penstock.perf.step_time.breakdown import Part
from penstock.perf.step_time.roofline import RooflineStepTime, roofline_step_time
from penstock.perf.step_time.roofline_parts import roofline_parts

CATALOG = load_catalog()


def step_time(model: str, chip: str = "h100-80gb", spread: Parallelism | None = None,
              precision: str = "bf16") -> RooflineStepTime:
    return roofline_step_time(CATALOG.model(model), CATALOG.accelerator(chip),
                              spread or Parallelism(), precision)


def parts(model: RooflineStepTime, *step: int) -> dict[str, Part]:
    return {part.name: part for part in roofline_parts(model, step_of(*step))}


def test_a_dense_decode() -> None:
    found = parts(step_time("llama-3-8b"), 0, 0, 10, 1000)
    assert list(found) == ["QKV projection", "output projection", "feed-forward", "LM head",
                           "norms and activations", "attention of decodes", "host"]
    # 32 layers, hidden size 4,096, 32 + 2 x 8 heads of 128, 14,336 wide, 128,256 tokens.
    sizes = {"QKV projection": 32 * 4096 * 6144, "output projection": 32 * 4096 * 4096,
             "feed-forward": 32 * 3 * 4096 * 14_336, "LM head": 4096 * 128_256}
    for name, params in sizes.items():
        part = found[name]
        assert part.num_bytes == 2 * params
        assert part.flops == 2 * params * 10
        assert part.intensity == 10
        assert part.binds == "memory"
        assert part.bound_s == pytest.approx(2 * params / 3.35e12)
    assert [found[name].calls for name in sizes] == [32, 32, 64, 1]
    decodes = found["attention of decodes"]
    assert decodes.num_bytes == 32 * 2 * 8 * 128 * 2 * 10_000
    assert decodes.flops == 32 * 4 * 32 * 128 * 10_000
    assert decodes.intensity == 4  # queries per head of keys and values
    assert (found["host"].seconds, found["host"].source) == (0.002, "setting host_overhead_s")


def test_a_prompt_computes_its_head_once() -> None:
    found = parts(step_time("llama-3-8b"), 4096, 0, 0, 1)
    assert "attention of decodes" not in found
    assert found["LM head"].flops == 2 * 4096 * 128_256
    assert found["LM head"].binds == "memory"
    assert found["feed-forward"].binds == "compute"
    assert found["attention of prompts"].flops == 32 * 4 * 32 * 128 * 4096**2 / 2
    # Layers multiply while the head's weights are read, so the parts overlap a little.
    assert 0.9 < found["LM head"].overlap < 1.0
    assert found["LM head"].alone_s > found["LM head"].seconds


def test_ranks_share_the_matrices() -> None:
    one, four = (parts(step_time("llama-3-8b", spread=Parallelism(tensor)), 0, 0, 8, 1000)
                 for tensor in (1, 4))
    for name in ("QKV projection", "feed-forward", "LM head", "attention of decodes"):
        assert four[name].num_bytes == pytest.approx(one[name].num_bytes / 4)
        assert four[name].flops == pytest.approx(one[name].flops / 4)


def test_a_mixture_with_latent_attention() -> None:
    model = step_time("deepseek-v3", "h200", Parallelism(1, 1, 8, 8), "fp8")
    found = parts(model, 0, 0, 256, 4000)
    assert {"router", "shared experts", "routed experts", "feed-forward",
            "gather and scatter of tokens"} <= set(found)
    experts = found["routed experts"]
    touched = 256 * (1 - (1 - 8 / 256) ** 256)
    assert experts.num_bytes == pytest.approx(58 * 3 * 7168 * 2048 * touched / 8)
    assert experts.flops == pytest.approx(2 * 58 * 8 * 3 * 7168 * 2048 * 256 / 8)
    # Decodes attend in the latent space: 128 heads read one set of 576 values of 2 bytes.
    decodes = found["attention of decodes"]
    assert decodes.num_bytes == pytest.approx(61 * 576 * 2 * 256 * 4000 / 8)
    assert decodes.flops == pytest.approx(2 * 61 * 128 * (576 + 512) * 256 * 4000 / 8)
    assert decodes.binds == "compute"


def test_a_window_reads_no_more_than_its_tokens() -> None:
    model = step_time("gpt-oss-20b")
    short, long = (parts(model, 0, 0, 10, context) for context in (64, 6400))
    per_layer = 2 * 8 * 64 * 2
    assert long["attention of decodes"].num_bytes == 10 * per_layer * (12 * 6400 + 12 * 128)
    assert short["attention of decodes"].num_bytes == 10 * per_layer * (12 * 64 + 12 * 64)
    assert long["attention within windows"].flops > 0.0


def test_linear_attention_has_rows_of_its_own() -> None:
    found = parts(step_time("qwen3.5-35b-a3b", spread=Parallelism(2)), 0, 0, 16, 1000)
    spec = CATALOG.model("qwen3.5-35b-a3b")
    assert {"linear-attention input", "linear-attention output"} <= set(found)
    states = found["linear-attention states"]
    assert states.num_bytes == 2 * spec.state_bytes_per_seq / 2 * 16  # read and written
    assert states.bound_s <= states.seconds


def test_a_model_without_a_head_has_a_part_without_weights() -> None:
    headless = replace(CATALOG.model("llama-3-8b"), vocab_size=0)
    model = roofline_step_time(headless, CATALOG.accelerator("a100-80gb"), host_overhead_s=0.0)
    found = parts(model, 100, 0, 0, 1)
    assert found["LM head"].seconds == pytest.approx(5.9e-6)
    assert "host" not in found
