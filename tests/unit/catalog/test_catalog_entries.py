"""The shipped data: complete, sourced, and equal to what vendors and authors publish."""

from collections import Counter
from dataclasses import fields
from datetime import date

import pytest

from penstock.catalog import Catalog, load_catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.prices import is_old
from penstock.core.units import GIB

# Billions of parameters as published: the safetensors count on the model's Hugging Face page, or
# the authors' report.
PUBLISHED_PARAMS = {
    "llama-2-7b": 6.74, "llama-2-13b": 13.02, "llama-2-70b": 68.98, "llama-3-8b": 8.03,
    "llama-3-70b": 70.55, "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.55, "llama-3.1-405b": 405.85,
    "llama-3.2-1b": 1.24, "llama-3.2-3b": 3.21, "llama-3.3-70b": 70.55, "llama-4-scout": 109.0,
    "codellama-34b": 33.74, "mistral-7b": 7.25, "mistral-small-24b": 23.57, "mixtral-8x7b": 46.70,
    "mixtral-8x22b": 140.62, "qwen2.5-0.5b": 0.494, "qwen2.5-1.5b": 1.54, "qwen2.5-3b": 3.09,
    "qwen2.5-7b": 7.62, "qwen2.5-14b": 14.77, "qwen2.5-32b": 32.76, "qwen2.5-72b": 72.71,
    "qwen3-4b": 4.02, "qwen3-8b": 8.19, "qwen3-14b": 14.77, "qwen3-32b": 32.76,
    "qwen3-30b-a3b": 30.53, "qwen3-235b-a22b": 235.09, "qwen-7b": 7.72, "qwen-72b": 72.29,
    "deepseek-v2-lite": 15.71, "deepseek-v2": 235.74, "deepseek-v3": 671.03, "deepseek-r1": 671.03,
    "phi-2": 2.78, "phi-3-mini": 3.82, "phi-3-mini-128k": 3.82, "phi-3-medium": 13.96,
    "phi-4": 14.66, "gemma-7b": 8.54, "gemma-2-2b": 2.61, "gemma-2-9b": 9.24, "gemma-2-27b": 27.23,
    "gemma-3-12b": 11.77, "gpt-oss-20b": 20.91, "gpt-oss-120b": 116.83, "granite-7b": 6.74,
    "granite-3.1-8b": 8.17, "granite-20b-code": 20.07, "granite-34b-code": 33.74,
    "internlm-20b": 20.09, "internlm2-20b": 19.86, "falcon-7b": 6.92, "falcon-40b": 41.30,
    "gpt-j-6b": 6.05,
    "minimax-m2.5": 230.0, "qwen3.5-397b-a17b": 397.0, "qwen3.5-35b-a3b": 35.0, "kimi-k2.5": 1026.0,
    "glm-5": 744.0, "glm-4.5-air": 106.0, "glm-4.6": 355.0, "deepseek-v3.2": 671.03,
    "qwen3.5-9b": 8.95, "qwen3.5-27b": 26.9, "smollm3-3b": 3.08, "opt-125m": 0.125,
    "opt-6.7b": 6.66, "opt-13b": 12.85,
}
# Billions of parameters that one token uses, and whether the authors count the input embedding,
# which ModelSpec.active_params leaves out; None where they count the output head neither.
PUBLISHED_ACTIVE = {
    "mixtral-8x7b": (12.9, True), "mixtral-8x22b": (39.1, True), "qwen3-30b-a3b": (3.3, True),
    "qwen3-235b-a22b": (22.0, True), "deepseek-v2-lite": (2.4, False), "deepseek-v2": (21.0, False),
    "deepseek-v3": (37.0, False), "deepseek-r1": (37.0, False), "gpt-oss-20b": (3.61, False),
    "gpt-oss-120b": (5.13, False), "llama-4-scout": (17.2, True), "minimax-m2.5": (10.0, False),
    "qwen3.5-397b-a17b": (17.0, True), "qwen3.5-35b-a3b": (3.0, False), "kimi-k2.5": (32.0, False),
    "glm-5": (40.0, False), "glm-4.5-air": (12.0, None), "glm-4.6": (32.0, False),
    "deepseek-v3.2": (37.0, False),
}
# KV bytes of one token at 16 bits, from the papers or model cards.
PUBLISHED_KV_BYTES = {"llama-2-7b": 512 << 10, "llama-3-8b": 128 << 10, "llama-2-70b": 320 << 10,
                      "deepseek-v3": 61 * 576 * 2, "falcon-7b": 8 << 10}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_every_model_has_a_published_count_to_be_held_against(catalog: Catalog) -> None:
    assert set(PUBLISHED_PARAMS) == set(catalog.models)
    mixtures = {name for name, model in catalog.models.items() if model.num_experts}
    assert set(PUBLISHED_ACTIVE) == mixtures


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_PARAMS.items())
def test_computed_params_are_the_published_ones(catalog: Catalog, name: str,
                                                billions: float) -> None:
    assert catalog.model(name).num_params / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize(("name", "published"), PUBLISHED_ACTIVE.items())
def test_active_params_of_mixtures(catalog: Catalog, name: str,
                                   published: tuple[float, bool | None]) -> None:
    model = catalog.model(name)
    billions, counts_lookup = published
    lookup = model.vocab_size * model.hidden_size
    counted = {True: lookup, False: 0, None: -lookup}[counts_lookup]
    assert (model.active_params + counted) / 1e9 == pytest.approx(billions, rel=0.05)


@pytest.mark.parametrize(("name", "num_bytes"), PUBLISHED_KV_BYTES.items())
def test_kv_bytes_per_token(catalog: Catalog, name: str, num_bytes: int) -> None:
    assert catalog.model(name).kv_bytes_per_token("bf16") == num_bytes


def test_every_model_names_its_config_and_answers_to_its_repository(catalog: Catalog) -> None:
    for name, model in catalog.models.items():
        repository, file = model.source.split(" ")
        assert file == "config.json"
        assert catalog.model(repository).name == name


def test_every_number_of_an_accelerator_has_a_source(catalog: Catalog) -> None:
    facts = {field.name for field in fields(Accelerator)} - {"name", "sources", "prices"}
    prices = {"price_per_hour", "price_basis", "price_date"}
    for accelerator in catalog.accelerators.values():
        known = facts if accelerator.price_per_hour is not None else facts - prices
        power = {name for name in ("idle_w", "mid_w", "mid_utilization")
                 if getattr(accelerator, name) is None}
        assert set(accelerator.sources) == known - power
        assert all(accelerator.sources.values())
        assert all(price.source for price in accelerator.prices)


def test_prices_have_a_date_and_a_source_of_their_own(catalog: Catalog) -> None:
    priced = [one for one in catalog.accelerators.values() if one.price_per_hour is not None]
    assert len(priced) > 20
    for accelerator in priced:
        assert accelerator.price_per_hour > 0
        assert accelerator.price_date[:2] == "20"
        assert accelerator.sources["price_per_hour"] != accelerator.sources["power_w"]
        assert all(is_old(price.date, date(2030, 1, 1)) for price in accelerator.prices)


def test_the_usual_basis_lists_most_chips_and_comes_first(catalog: Catalog) -> None:
    listed = Counter(price.basis for one in catalog.accelerators.values() for price in one.prices)
    assert listed.most_common(1)[0][0] == catalog.price_basis == "AWS on-demand us-east-1"
    for accelerator in catalog.accelerators.values():
        bases = [price.basis for price in accelerator.prices]
        assert len(bases) == len(set(bases))
        if catalog.price_basis in bases:
            assert accelerator.price_basis == bases[0] == catalog.price_basis


def test_chips_off_the_usual_basis_say_which_they_show(catalog: Catalog) -> None:
    shown = {one.name: one.price_basis for one in catalog.accelerators.values()
             if one.price_basis != catalog.price_basis}
    assert {name for name, basis in shown.items() if not basis} == {
        "gb200", "gb300", "gh200", "h100-nvl", "mi355x", "rtx-pro-6000", "rtx-5090"}
    assert {name for name, basis in shown.items() if basis == "Penstock estimate"} == {
        "mi210", "mi250", "a30"}
    assert shown["a6000"] == shown["h100-pcie-80gb"] == "Lambda on-demand"


def test_another_basis_is_chosen_by_its_beginning(catalog: Catalog) -> None:
    there = catalog.on_basis("lambda")
    assert there.price_basis == "Lambda on-demand"
    assert there.accelerator("h100").price_per_hour == 3.99
    assert there.accelerator("h200").price_basis == "AWS on-demand us-east-1"
    with pytest.raises(InputError, match="'aws on' begins several bases; expected one of: AWS"):
        catalog.basis("aws on")
    with pytest.raises(InputError, match="unknown basis 'Lamda on-demand'; did you mean 'Lambda"):
        catalog.basis("Lamda on-demand")


def test_wanted_accelerators_are_there(catalog: Catalog) -> None:
    wanted = {"a100-40gb", "a100-80gb", "h100-pcie-80gb", "h100-80gb", "h200", "b200", "mi210",
              "mi250", "mi300x", "l4", "l40s", "a10g", "a40", "a6000", "v100-32gb", "v100-16gb",
              "gaudi2"}
    assert wanted <= set(catalog.accelerators)


SLOW_INTEGERS = {("b300", "int8"), ("gb300", "int8")}  # Blackwell Ultra gave its integer units up


def test_peaks_are_dense_and_grow_as_types_narrow(catalog: Catalog) -> None:
    for accelerator in catalog.accelerators.values():
        peaks = accelerator.peak_flops
        assert peaks.get("fp32", 0.0) < peaks["fp16"] == peaks.get("bf16", peaks["fp16"])
        # A sparse figure among dense ones would break the doubling per halved width.
        for narrow in ("fp8", "int8"):
            if (accelerator.name, narrow) in SLOW_INTEGERS:
                continue
            ratio = peaks.get(narrow, 2 * peaks["fp16"]) / peaks["fp16"]
            assert ratio in (pytest.approx(2.0, rel=0.02), pytest.approx(4.0, rel=0.02), 1.0)


def test_rates_are_one_way_and_ordered(catalog: Catalog) -> None:
    for accelerator in catalog.accelerators.values():
        assert accelerator.pcie_bytes_per_s in (16e9, 32e9, 64e9, 128e9)
        assert accelerator.pcie_bytes_per_s <= accelerator.link_bytes_per_s
        assert accelerator.link_bytes_per_s < accelerator.bandwidth_bytes_per_s


def test_planning_prices_and_units(catalog: Catalog) -> None:
    a100, h100 = catalog.accelerator("a100-80gb"), catalog.accelerator("h100-80gb")
    assert (a100.price_per_hour, h100.price_per_hour) == (3.4309, 6.88)
    azure, estimate = catalog.on_basis("azure"), catalog.on_basis("penstock estimate")
    assert azure.accelerator("a100").price_per_hour == 4.10
    assert estimate.accelerator("h100").price_per_hour == 8.20
    assert a100.memory_bytes == h100.memory_bytes == 80 * GIB
    assert a100.peak_flops["bf16"] == 312e12
    assert a100.bandwidth_bytes_per_s == 2.039e12
    assert (a100.confidential, h100.confidential) == (False, True)


@pytest.mark.parametrize(("name", "file"), [
    ("a100-80gb", "a100_sxm"), ("h100-80gb", "h100_sxm"), ("h200", "h200_sxm"), ("l40s", "l40s")])
def test_agrees_with_aiconfigurator(catalog: Catalog, shared_data, name: str, file: str) -> None:
    import yaml

    text = (shared_data / "aiconfigurator" / f"{file}.system.yaml").read_text()
    system = yaml.safe_load(text)
    gpu, node, ours = system["gpu"], system["node"], catalog.accelerator(name)
    assert ours.memory_bytes == gpu["mem_capacity"]
    assert ours.bandwidth_bytes_per_s == gpu["mem_bw"]
    assert ours.flops("bf16") == pytest.approx(gpu["bfloat16_tc_flops"], rel=1e-3)
    assert ours.flops("int8") == pytest.approx(gpu["int8_tc_flops"], rel=1e-3)
    assert ours.power_w == gpu["power"]
    assert ours.link_bytes_per_s == node["intra_node_bw"]
    assert ours.pcie_bytes_per_s == node["pcie_bw"]
