"""Lookup by name, and a user's own files: what they add, what they replace, how they fail."""

from pathlib import Path

import pytest

from penstock.catalog import Catalog, load_catalog
from penstock.catalog.documents import parse_document
from penstock.core.errors import InputError

CHIP = """
accelerators:
  my-chip: {memory_gib: 10, bandwidth_gb_per_s: 500, peak_tflops: {fp16: 100, fp8: 200},
            power_w: 90, pcie_gb_per_s: 32, price_per_hour: 1e0}
"""
MODEL = """
models:
  my-model: {num_layers: 2, hidden_size: 64, num_heads: 4, num_kv_heads: 2, head_dim: 16,
             intermediate_size: 128, vocab_size: 100, max_context_tokens: 256}
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def loaded(tmp_path: Path, text: str) -> Catalog:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return load_catalog(file)


def failure(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/")


def test_lookup_ignores_case_and_follows_aliases(catalog: Catalog) -> None:
    assert catalog.model("LLAMA-3-8B").name == "llama-3-8b"
    assert catalog.model("meta-llama/Meta-Llama-3-8B").name == "llama-3-8b"
    assert catalog.accelerator("H100").name == "h100-80gb"
    assert catalog.accelerator(" A100-SXM4-40GB ").name == "a100-40gb"


@pytest.mark.parametrize(("name", "near"), [
    ("llama-3-8", "llama-3-8b"), ("mixtral", "mixtral-8x7b"),
    ("meta-llama/Llama-3.1-8B-Instuct", "meta-llama/llama-3.1-8b-instruct")])
def test_unknown_model_names_the_nearest(catalog: Catalog, name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"unknown model {name!r}; did you mean {near!r}"):
        catalog.model(name)


def test_unknown_accelerator(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="unknown accelerator 'h10'; did you mean 'h100'"):
        catalog.accelerator("h10")
    with pytest.raises(InputError, match="unknown accelerator 'zzz'; expected one of: a100-40gb,"):
        catalog.accelerator("zzz")
    with pytest.raises(InputError, match="unknown model ''"):
        catalog.model("")


def test_frozen(catalog: Catalog) -> None:
    with pytest.raises(TypeError):
        catalog.models["x"] = catalog.model("phi-2")  # type: ignore[index]
    with pytest.raises(AttributeError):
        catalog.models = {}  # type: ignore[misc]


def test_own_entries_extend_the_catalog(tmp_path: Path, catalog: Catalog) -> None:
    mine = loaded(tmp_path, CHIP + MODEL)
    chip, model = mine.accelerator("My-Chip"), mine.model("my-model")
    assert (chip.memory_bytes, chip.price_per_hour, chip.vendor) == (10 << 30, 1.0, "")
    assert chip.peak_flops == {"fp16": 100e12, "fp8": 200e12}
    assert model.num_kv_heads == 2
    assert model.source == str(tmp_path / "mine.yaml")
    assert list(mine.models) == [*catalog.models, "my-model"]
    assert mine.accelerator("a100-80gb") == catalog.accelerator("a100-80gb")


def test_an_accelerator_without_links_talks_over_pcie(tmp_path: Path) -> None:
    chip = loaded(tmp_path, CHIP).accelerator("my-chip")
    assert chip.link_bytes_per_s == chip.pcie_bytes_per_s == 32e9
    assert chip.sources["link_bytes_per_s"].startswith("no direct link, so PCIe")


def test_an_override_replaces_only_what_it_states(tmp_path: Path, catalog: Catalog) -> None:
    mine = loaded(tmp_path, "accelerators: {H100-80GB: {price_per_hour: 2.5, aliases: [big]}}")
    before, after = catalog.accelerator("h100-80gb"), mine.accelerator("big")
    assert (after.name, after.price_per_hour, after.price_date) == ("h100-80gb", 2.5, "")
    assert after.sources["price_per_hour"] == str(tmp_path / "mine.yaml")
    assert after.peak_flops == before.peak_flops
    assert after.sources["power_w"] == before.sources["power_w"]
    assert mine.accelerator("h100") is after


def test_an_override_may_state_its_source_and_date(tmp_path: Path) -> None:
    after = loaded(tmp_path, "accelerators: {l4: {price_per_hour: 0.3, price_date: 2026-02-01,"
                             " sources: {price_per_hour: our contract}}}").accelerator("l4")
    assert (after.price_date, after.sources["price_per_hour"]) == ("2026-02-01", "our contract")


def test_a_price_without_a_basis_is_the_users_and_wins_on_every_basis(tmp_path: Path) -> None:
    mine = loaded(tmp_path, "accelerators: {h100-80gb: {price_per_hour: 2.5}}")
    after = mine.on_basis("lambda").accelerator("h100")
    assert (after.price_per_hour, after.price_basis) == (2.5, "yours")
    assert [price.basis for price in after.prices][:2] == ["yours", "AWS on-demand us-east-1"]


def test_own_prices_join_the_listed_ones_and_may_be_the_usual_basis(tmp_path: Path) -> None:
    mine = loaded(tmp_path, "price_basis: Acme 2026\naccelerators: {h100-80gb: {prices: ["
                            "{price_basis: Acme 2026, price_per_hour: 2, price_date: 2026-02-01}, "
                            "{price_basis: Lambda on-demand, price_per_hour: 3, source: seen}]}}")
    h100, a100 = mine.accelerator("h100"), mine.accelerator("a100")
    assert (h100.price_per_hour, h100.price_date) == (2.0, "2026-02-01")
    assert h100.sources["price_per_hour"] == str(tmp_path / "mine.yaml")
    assert a100.price_basis == "AWS on-demand us-east-1"
    there = mine.on_basis("lambda").accelerator("h100")
    assert (there.price_per_hour, there.sources["price_per_hour"]) == (3.0, "seen")


@pytest.mark.parametrize(("text", "problem"), [
    ("price_basis: 3", "mine.yaml: price_basis: found 3; expected text"),
    ("price_basis: Lamda on-demand",
     "mine.yaml: price_basis: unknown basis 'Lamda on-demand'; did you mean 'Lambda on-demand'?")])
def test_a_basis_that_no_price_has(tmp_path: Path, text: str, problem: str) -> None:
    assert failure(tmp_path, text) == problem


def test_own_name_wins_over_a_built_in_alias(tmp_path: Path) -> None:
    mine = loaded(tmp_path, CHIP.replace("my-chip", "a100"))
    assert mine.accelerator("a100").memory_bytes == 10 << 30
    assert mine.accelerator("a100-sxm").name == "a100-80gb"


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(CHIP)
    (tmp_path / "2.yml").write_text("accelerators: {my-chip: {power_w: 80}}")
    (tmp_path / "notes.txt").write_text("not: [read")
    chip = load_catalog(str(tmp_path)).accelerator("my-chip")
    assert (chip.power_w, chip.pcie_bytes_per_s) == (80.0, 32e9)


def test_an_empty_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no catalog files"):
        load_catalog(tmp_path)
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read \(No such file"):
        load_catalog(tmp_path / "none.yaml")


@pytest.mark.parametrize(("change", "problem"), [
    ("memory_gib: 10, |mem_gib: 10, ", "unknown key 'mem_gib'; did you mean 'memory_gib'?"),
    ("memory_gib: 10, |", "memory_gib is missing; expected GiB, above 0 and at most 100,000"),
    ("memory_gib: 10|memory_gib: 85899345920", "memory_gib: found 85899345920; expected GiB"),
    ("power_w: 90|power_w: -90", "power_w: found -90; expected watts, above 0"),
    ("power_w: 90|power_w: .nan", "power_w: found nan; expected watts"),
    ("power_w: 90|power_w: yes", "power_w: found True; expected watts"),
    ("power_w: 90|power_w: 90 W", "power_w: found '90 W'; expected watts"),
    ("power_w: 90|power_w: null", "power_w: found nothing; expected watts"),
    ("price_per_hour: 1e0|price_per_hour: .inf", "price_per_hour: found inf; expected a price"),
    ("fp16: 100|fp61: 100", "peak_tflops: unknown precision 'fp61'; did you mean 'fp16'?"),
    ("fp16: 100|fp16: 0", "peak_tflops: fp16: found 0; expected TFLOP/s, above 0"),
    ("fp16: 100, |", "peak_tflops: found fp8 only; expected fp16 or fp32 among them"),
    ("{fp16: 100, fp8: 200}|100", "peak_tflops: found 100; expected a mapping from precisions"),
    ("power_w: 90|power_w: 90, max_per_node: 0", "max_per_node: found 0; expected a whole number"),
    ("power_w: 90|power_w: 90, aliases: chip", "aliases: found 'chip'; expected a list of names"),
    ("power_w: 90|power_w: 90, sources: {power: x}",
     "sources: unknown key 'power'; did you mean 'power_w'?"),
    ("price_per_hour: 1e0|prices: 3", "prices: found 3; expected a list of prices"),
    ("price_per_hour: 1e0|prices: [3]", "prices[0]: found 3; expected a mapping of fields"),
    ("price_per_hour: 1e0|prices: [{price: 3}]",
     "prices[0]: unknown key 'price'; did you mean 'price_date'?"),
    ("price_per_hour: 1e0|prices: [{price_basis: Acme}]",
     "prices[0]: price_per_hour is missing; expected a price for one accelerator"),
    ("price_per_hour: 1e0|prices: [{price_basis: Acme, price_per_hour: -1}]",
     "prices[0]: price_per_hour: found -1; expected a price for one accelerator, at least 0"),
])
def test_accelerator_errors_name_file_entry_and_field(tmp_path: Path, change: str,
                                                      problem: str) -> None:
    old, new = change.split("|")
    assert old in CHIP
    message = failure(tmp_path, CHIP.replace(old, new))
    assert message.startswith(f"mine.yaml: accelerators: my-chip: {problem}")


@pytest.mark.parametrize(("change", "problem"), [
    ("num_layers: 2|num_layer: 2", "unknown key 'num_layer'; did you mean 'num_layers'?"),
    ("num_layers: 2|num_layers: 2.5", "num_layers: found 2.5; expected a whole number from 1"),
    ("num_kv_heads: 2|num_kv_heads: 3",
     "num_kv_heads: found 3; expected a divisor of num_heads, 4"),
    ("num_layers: 2|num_layers: 2, num_experts: 4",
     "experts_per_token: found 0; expected 1 to num_experts, 4"),
    ("num_layers: 2|num_layers: 2, experts_per_token: 4",
     "experts_per_token: found 4; expected 0 for a dense model"),
    ("num_layers: 2|num_layers: 2, kv_layers: 3",
     "kv_layers: found 3; expected at most num_layers, 2"),
    ("num_layers: 2|num_layers: 2, kv_latent_size: 8, rope_head_dim: 8",
     "kv_latent_size: found 8; expected 0, or more than rope_head_dim, 8"),
])
def test_model_errors_name_file_entry_and_field(tmp_path: Path, change: str,
                                                problem: str) -> None:
    old, new = change.split("|")
    assert old in MODEL
    message = failure(tmp_path, MODEL.replace(old, new))
    assert message.startswith(f"mine.yaml: models: my-model: {problem}")


@pytest.mark.parametrize(("text", "problem"), [
    ("", "mine.yaml: found nothing; expected a mapping with accelerators, models or both"),
    ("- 1", "mine.yaml: found a list; expected a mapping with"),
    ("model: {}", "mine.yaml: unknown key 'model'; did you mean 'models'?"),
    ("models: [x]", "mine.yaml: models: found a list; expected a mapping from names"),
    ("models: {x: 3}", "mine.yaml: models: x: found 3; expected a mapping of fields"),
    ("models: {3: {}}", "mine.yaml: models: 3: found 3 as a name; expected text"),
    ("models: {a: {},\n a: {}}", "mine.yaml:2: not valid YAML: key 'a' appears twice"),
    ("models:\n  x: [1", "mine.yaml:3: not valid YAML: "),
    ("models: !!python/object:os.system {}", "mine.yaml:1: not valid YAML: could not determine"),
    ("models: {x: " + "[" * 3000, "mine.yaml:1: nested more than 20 levels"),
    ("models:\n  " + "- " * 30, "mine.yaml:2: nested more than 20 levels deep"),
    ("models: {x: \x00}", "mine.yaml: not valid YAML: "),
    ("models: {x: 2026-13-45}", "mine.yaml: not valid YAML: month must be in 1..12"),
    ("accelerators: {x: {aliases: [Y]}, y: {}}",
     "mine.yaml: accelerators: y: 'y' already names x; expected a name or alias of its own"),
    ("accelerators: {l4: {aliases: [l40s]}}",
     "mine.yaml: accelerators: l4: 'l40s' already names l40s; expected a name"),
])
def test_file_errors(tmp_path: Path, text: str, problem: str) -> None:
    assert failure(tmp_path, text).startswith(problem)


def test_numbers_are_read_as_yaml_1_2_writes_them() -> None:
    document = parse_document(b"models: {a: {x: 1e3, y: 2.5E-1, z: '1e3', w: 0.5}}", "text")
    assert document.sections["models"]["a"] == {"x": 1000.0, "y": 0.25, "z": "1e3", "w": 0.5}
