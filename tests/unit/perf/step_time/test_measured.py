"""Step times of stock engines by fitted rates."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.step import StepFeatures
from penstock.perf.step_time.measured import measured_step_time
from penstock.perf.step_time.rate_table import fitted_rates, load_rates
from penstock.perf.step_time.roofline_parts import roofline_parts
from penstock.registry.step_times import make_step_time
from support.scaled_examples import unit_examples

CATALOG = load_catalog()
MODELS = st.sampled_from(["llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-r1",
                          "gpt-oss-120b", "qwen3.5-35b-a3b", "glm-5"])
CHIPS = st.sampled_from(["h100-80gb", "h200", "b200", "a100-80gb", "mi355x", "l40s", "rtx-4090"])
STEPS = st.tuples(st.integers(0, 8192), st.integers(0, 400), st.integers(1, 16_000))


def step_time(model: str, chip: str, tensor: int = 8, engine: str = "vllm"):
    return measured_step_time(CATALOG.model(model), CATALOG.accelerator(chip), Parallelism(tensor),
                              "fp8", "bf16", engine=engine, version="0.19.0")


@unit_examples(150)
@given(MODELS, CHIPS, STEPS)
def test_no_step_is_faster_than_physics(model: str, chip: str, step: tuple[int, int, int]) -> None:
    prompt, decodes, each = step
    features = StepFeatures(prompt, prompt * prompt / 2.0, decodes, decodes * each)
    found = step_time(model, chip)
    answer = found.predict(features)
    assert answer.low_s <= answer.total_s <= answer.high_s
    assert answer.total_s == pytest.approx(sum(answer.parts.values()))
    assert answer.total_s >= found.bound_seconds(features)


@unit_examples(60)
@given(MODELS, CHIPS, STEPS)
def test_more_work_takes_longer(model: str, chip: str, step: tuple[int, int, int]) -> None:
    prompt, decodes, each = step
    found = step_time(model, chip)
    seconds = found.seconds(prompt, 0.0, decodes, decodes * each)
    assert found.seconds(prompt + 64, 0.0, decodes, decodes * each) >= seconds
    assert found.seconds(prompt, 0.0, decodes + 1, (decodes + 1) * each) >= seconds


def test_an_unmeasured_chip_is_said_and_has_a_wider_interval() -> None:
    known, unknown = step_time("llama-3.1-8b", "h100-80gb"), step_time("llama-3.1-8b", "l40s")
    assert "without measurements" not in known.evidence.source
    new = replace(CATALOG.accelerator("h100-80gb"), name="my-chip")
    own = measured_step_time(CATALOG.model("llama-3.1-8b"), new, Parallelism(), "bf16", "bf16",
                             engine="vllm")
    assert "chip without measurements" in own.evidence.source
    assert own.evidence.p95_error > known.evidence.p95_error
    assert unknown.evidence.p95_error >= known.evidence.p95_error


def test_shipped_rates_cover_the_measured_engines() -> None:
    table = fitted_rates()
    engines = table.effects["step_s"]["engine"]
    assert {"vllm", "sglang", "tensorrt-llm"} <= set(engines)
    for metric, families in table.errors.items():
        for family, found in families.items():
            assert 0.0 < found.low < found.high, (metric, family)


def test_own_rates_replace_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text("version: 2\nsource: ours\n"
                    "errors: {tpot_s: {all: [0.9, 1.1]}}\n"
                    "effects: {step_s: {all: {all: 2.0}}}\n")
    model, chip = CATALOG.model("llama-3.1-8b"), CATALOG.accelerator("h100-80gb")
    own = make_step_time({"kind": "measured", "engine": "sglang", "rates": str(path)}, model, chip)
    assert own.predict(StepFeatures(0, 0.0, 8, 8000)).source.startswith("ours")


@pytest.mark.parametrize(("text", "why"), [
    ("just text", "no rates of engines"), ("source: [", "is not YAML"),
    ("errors: {}\neffects: {step_s: 3}\nsource: x", "no rates of engines"),
    ("errors: {}\neffects: {}\nsource: x", "version: expected 2, found 1; .* fit them again")])
def test_broken_rates_are_one_clear_error(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        load_rates(path)


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vllm"):
        make_step_time({"kind": "measured", "engine": "vlm"}, CATALOG.model("llama-3.1-8b"),
                       CATALOG.accelerator("h100-80gb"))
    with pytest.raises(InputError, match="cannot be read"):
        load_rates(tmp_path / "none.yaml")


def spread(data: int, expert: int = 1, tensor: int = 1, role: str = ""):
    return measured_step_time(CATALOG.model("deepseek-r1"), CATALOG.accelerator("gb200"),
                              Parallelism(tensor, 1, data, expert), "fp4", "fp8", engine="sglang",
                              role=role)


def test_a_lone_prompt_is_computed_by_one_data_rank() -> None:
    model, length = spread(8, 8), 4096
    one, eight = ((count * length, count * length**2 / 2, 0, 0) for count in (1, 8))
    # Seven more prompts are on the seven other ranks: only experts and messages take longer.
    more_s = model.seconds(*eight) - model.seconds(*one)
    assert more_s == pytest.approx(model.expert_seconds(8 * length) - model.expert_seconds(length)
                                   + model.communication_token_s * 7 * length)


def test_the_fullest_data_rank_sets_the_time_of_decodes() -> None:
    model, context = spread(8, 8), 9 * 4096
    read_s = model.seconds(0, 0.0, 9, context) - model.seconds(0, 0.0, 9, 0)
    assert read_s == pytest.approx(model.context_s * context * 16 / 9)  # two of nine on one rank
    assert not model.slopes.exact
    assert spread(1).slopes.exact


def test_experts_of_data_ranks_get_only_tokens_that_chose_them() -> None:
    few, many = (spread(ranks, ranks).transfers[0].token_bytes for ranks in (8, 64))
    assert many < few / 4  # a token's eight experts are on at most eight of 64 ranks


@unit_examples(60)
@given(st.sampled_from([1, 4, 8, 32]), STEPS)
def test_parts_of_data_ranks_sum_to_the_step(data: int, step: tuple[int, int, int]) -> None:
    prompt, seqs, context = step
    features = StepFeatures(prompt, prompt * prompt / 2.0, seqs, seqs * context)
    model = spread(data, data)
    assert sum(part.seconds for part in roofline_parts(model, features)) == pytest.approx(
        model.seconds(*features))
    assert sum(model.predict(features).parts.values()) == pytest.approx(model.seconds(*features))
    assert model.seconds(*features) >= model.bound_seconds(features)
