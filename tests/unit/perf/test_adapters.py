"""Sizes of adapters, and the times that follow."""

import pytest

from penstock.catalog import Catalog, load_catalog
from penstock.core.hardware import Parallelism
from penstock.perf.adapters import adapter_bytes, adapter_bytes_per_accelerator, adapter_times
from penstock.perf.memory import kv_capacity_tokens

ONE = Parallelism()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_llama_8b_of_rank_16_has_84_mb(catalog: Catalog) -> None:
    """Every linear matrix: q and o 4096 + 4096, k and v 4096 + 1024, three of 4096 + 14336."""
    model = catalog.model("llama-3.1-8b")
    per_layer = 2 * 8192 + 2 * 5120 + 3 * 18432
    assert adapter_bytes(model, 16) == 2 * 16 * 32 * per_layer == 83_886_080
    assert adapter_bytes_per_accelerator(model, ONE, 16) == adapter_bytes(model, 16)


def test_ranks_split_one_half_and_copy_the_other(catalog: Catalog) -> None:
    model = catalog.model("llama-3.1-8b")
    columns = (4096 + 4096 / 2) + 2 * (4096 + 1024 / 2) + 2 * (4096 + 14336 / 2)
    rows = (4096 / 2 + 4096) + (14336 / 2 + 4096)
    assert adapter_bytes_per_accelerator(model, Parallelism(tensor=2), 16) == pytest.approx(
        2 * 16 * 32 * (columns + rows))
    assert adapter_bytes_per_accelerator(model, Parallelism(pipeline=4), 16) == pytest.approx(
        adapter_bytes(model, 16) / 4)


def test_every_model_of_the_catalog_has_targets(catalog: Catalog) -> None:
    for name in catalog.models:
        model = catalog.model(name)
        size = adapter_bytes(model, 16)
        assert 0 < size < 0.1 * model.weight_bytes("bf16"), name


def test_a_mixture_has_no_adapters_of_routed_experts(catalog: Catalog) -> None:
    model = catalog.model("mixtral-8x7b")
    attention = 2 * (model.hidden_size + model.num_heads * model.head_dim) + 2 * (
        model.hidden_size + model.num_kv_heads * model.head_dim)
    assert adapter_bytes(model, 8) == 2 * 8 * model.num_layers * attention


def test_times(catalog: Catalog) -> None:
    accelerator = catalog.accelerator("a100-80gb")
    found = adapter_times(catalog.model("llama-3.1-8b"), accelerator, ONE, 16, 1e9)
    size = 83_886_080
    assert found.fetch_s == size / 1e9
    assert found.copy_s == size / accelerator.pcie_bytes_per_s
    assert found.read_s == size / accelerator.bandwidth_bytes_per_s
    assert adapter_times(catalog.model("llama-3.1-8b"), accelerator, ONE, 16, 1e9,
                         2e9).copy_s == size / 2e9


def test_places_for_adapters_come_off_the_kv_cache(catalog: Catalog) -> None:
    model, accelerator = catalog.model("llama-3.1-8b"), catalog.accelerator("a100-80gb")
    plain = kv_capacity_tokens(model, accelerator)
    slots = 8 * adapter_bytes(model, 64)
    found = kv_capacity_tokens(model, accelerator, adapter_bytes=slots)
    gone = (plain.tokens - found.tokens) * model.kv_bytes_per_token("bf16")
    assert gone == pytest.approx(slots, rel=0.01)
    assert found.parts["adapters"] == slots
