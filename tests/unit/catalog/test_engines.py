import pytest

from penstock.catalog import load_catalog
from penstock.catalog.engines import (
    EngineDefaults,
    engine_defaults,
    engine_names,
    oldest_version,
)
from penstock.core.errors import InputError


def of(engine: str, chip: str, version: str | None = None) -> EngineDefaults:
    return engine_defaults(engine, load_catalog().accelerator(chip), version)


@pytest.mark.parametrize(("version", "chip", "step_tokens", "max_num_seqs"), [
    ("0.8.5", "a100-80gb", 8192, 1024), ("0.9.0", "a100-80gb", 2048, 256),
    ("0.11.0", "h100-80gb", 8192, 1024), ("v0.19.0", "b200", 8192, 1024),
    ("0.28.1", "b200", 16384, 1024), (None, "h200", 8192, 1024), (None, "l40s", 2048, 256),
    (None, "a100-80gb", 2048, 256)])
def test_vllm_budgets_go_by_version_and_memory(version: str | None, chip: str, step_tokens: int,
                                               max_num_seqs: int) -> None:
    found = of("vllm", chip, version)
    assert (found.step_tokens, found.max_num_seqs) == (step_tokens, max_num_seqs)


@pytest.mark.parametrize(("engine", "version", "overlaps"), [
    ("vllm", "0.13.0", False), ("vllm", "0.14.0", True), ("sglang", "0.5.9", True),
    ("tensorrt-llm", "0.19", False), ("tensorrt-llm", "1.0.0rc3", True)])
def test_hosts_overlap_from_a_version_on(engine: str, version: str, overlaps: bool) -> None:
    assert of(engine, "h100-80gb", version).overlaps is overlaps


def test_engines_share_steps_in_three_ways() -> None:
    assert {name: of(name, "h100-80gb").batching for name in engine_names()} == {
        "vllm": "mixed", "sglang": "alone", "tensorrt-llm": "whole", "atom": "alone"}
    assert of("tensorrt-llm", "h100-80gb", "0.18").batching == "mixed"  # chunked by default, then
    assert [name for name in engine_names() if of(name, "h100-80gb").reserves_max_tokens] == [
        "tensorrt-llm"]


@pytest.mark.parametrize("name", engine_names())
def test_every_version_is_whole(name: str) -> None:
    for version in (oldest_version(name), None):
        for chip in ("t4", "l40s", "a100-80gb", "h200", "b300"):
            found = of(name, chip, version)
            assert found.step_tokens >= 2048
            assert 0.5 < found.memory_fraction < 1.0
            assert found.source


@pytest.mark.parametrize(("engine", "version", "why"), [
    ("vlm", None, "did you mean 'vllm'"), ("vllm", "nightly", "expected a version of vllm"),
    ("vllm", "0.6.4", "older than 0.8.0")])
def test_unknown_engines_and_versions_are_named(engine: str, version: str | None,
                                                why: str) -> None:
    with pytest.raises(InputError, match=why):
        of(engine, "h100-80gb", version)
