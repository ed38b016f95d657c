"""What is left for keys and values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.units import GIB
from penstock.perf.memory import (
    kv_capacity_tokens,
    kv_tensor_share,
    tensor_share,
    weight_bytes_per_accelerator,
)

A100 = Accelerator("a100-80gb", "nvidia", 80 * GIB, 2.039e12, {"bf16": 312e12}, 400.0, 300e9,
                   32e9, 1.0)
LLAMA_3_8B = ModelSpec("llama-3-8b", 32, 4096, 32, 8, 128, 14_336, 128_256, 8192)
LLAMA_3_70B = ModelSpec("llama-3-70b", 80, 8192, 64, 8, 128, 28_672, 128_256, 8192)


@pytest.mark.parametrize("memory_bytes", [80_000_000_000, 80 * GIB])
def test_a100_holds_about_410_thousand_tokens_of_llama_3_8b(memory_bytes):
    budget = kv_capacity_tokens(LLAMA_3_8B, replace(A100, memory_bytes=memory_bytes))
    assert budget.tokens == pytest.approx(410_000, rel=0.08)
    assert budget.low_tokens < budget.tokens < budget.high_tokens
    assert budget.tokens == budget.blocks * budget.block_tokens


def test_published_overhead_gives_the_published_figure():
    budget = kv_capacity_tokens(LLAMA_3_8B, replace(A100, memory_bytes=80_000_000_000),
                                overhead_bytes=2_000_000_000)
    assert budget.tokens == pytest.approx(411_400, rel=0.002)
    assert budget.low_tokens == budget.tokens == budget.high_tokens


def test_parts_account_for_the_usable_memory_up_to_one_block():
    budget = kv_capacity_tokens(LLAMA_3_8B, A100)
    parts = budget.parts
    assert parts["usable"] == pytest.approx(0.9 * A100.memory_bytes)
    left = parts["usable"] - parts["weights"] - parts["overhead"] - parts["kv_cache"]
    assert 0.0 <= left < 16 * LLAMA_3_8B.kv_bytes_per_token("bf16")


def test_half_the_kv_width_doubles_the_tokens():
    wide = kv_capacity_tokens(LLAMA_3_8B, A100)
    narrow = kv_capacity_tokens(LLAMA_3_8B, A100, kv_precision="fp8")
    assert narrow.tokens == pytest.approx(2 * wide.tokens, rel=1e-3)


@given(tensor=st.sampled_from([2, 4, 8]), pipeline=st.sampled_from([1, 2, 4]))
def test_more_accelerators_hold_more(tensor, pipeline):
    few = kv_capacity_tokens(LLAMA_3_8B, A100, Parallelism(tensor // 2, pipeline))
    many = kv_capacity_tokens(LLAMA_3_8B, A100, Parallelism(tensor, pipeline))
    assert many.tokens > 2 * few.tokens


def test_weights_of_all_ranks_cover_the_model():
    for parallelism in (Parallelism(), Parallelism(4), Parallelism(2, 4), Parallelism(1, 3)):
        each = weight_bytes_per_accelerator(LLAMA_3_70B, parallelism, "bf16")
        assert each * parallelism.num_accelerators >= LLAMA_3_70B.weight_bytes("bf16") * (1 - 1e-9)


def test_heads_are_copied_never_split():
    assert tensor_share(8, 4) == 0.25
    assert tensor_share(8, 16) == 0.125
    assert tensor_share(5, 4) == 0.4
    assert kv_tensor_share(replace(LLAMA_3_8B, kv_latent_size=576), 8) == 1.0


def test_a_model_that_does_not_fit_names_shortfall_and_remedies():
    with pytest.raises(InputError) as caught:
        kv_capacity_tokens(LLAMA_3_70B, A100)
    message = str(caught.value)
    assert message.startswith("model does not fit: llama-3-70b in bf16 on a100-80gb (tensor 1) ")
    assert "lacks 62.9 GiB" in message
    assert message.endswith("; tensor 2 or precision fp8 would fit")


def test_the_advice_does_fit():
    assert kv_capacity_tokens(LLAMA_3_70B, A100, Parallelism(2)).tokens > 0
    assert kv_capacity_tokens(LLAMA_3_70B, A100, precision="fp8").tokens > 0


def test_nothing_fits_is_said():
    tiny = replace(A100, memory_bytes=GIB)
    with pytest.raises(InputError, match="no tensor parallelism"):
        kv_capacity_tokens(LLAMA_3_70B, tiny)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01])
def test_memory_fraction_must_be_a_share(fraction):
    with pytest.raises(InputError, match="memory_fraction"):
        kv_capacity_tokens(LLAMA_3_8B, A100, memory_fraction=fraction)


def test_unknown_kv_precision():
    with pytest.raises(InputError, match="did you mean 'fp8'"):
        kv_capacity_tokens(LLAMA_3_8B, A100, kv_precision="fp9")


MIXTURE = ModelSpec("mixture", 8, 4096, 32, 8, 128, 4096, 64_000, 8192, num_experts=64,
                    experts_per_token=4, expert_intermediate_size=2048)


def test_data_ranks_share_the_experts_and_copy_the_rest():
    one = weight_bytes_per_accelerator(MIXTURE, Parallelism(), "bf16")
    routed = 2.0 * MIXTURE.routed_params
    assert routed == 2.0 * 8 * 64 * 3 * 4096 * 2048
    for data in (2, 4, 8):
        found = weight_bytes_per_accelerator(MIXTURE, Parallelism(data=data), "bf16")
        assert found == pytest.approx(one - routed + routed / data)
    both = weight_bytes_per_accelerator(MIXTURE, Parallelism(2, 1, 4), "bf16")
    assert both == pytest.approx((one - routed) / 2 + routed / 8)


def test_every_data_rank_has_a_cache_of_its_own():
    one = kv_capacity_tokens(MIXTURE, A100, Parallelism(data=1))
    four = kv_capacity_tokens(MIXTURE, A100, Parallelism(data=4))
    assert four.tokens > 4 * one.tokens  # four caches, and less of each taken by experts
    assert four.tokens == four.blocks * four.block_tokens
    assert Parallelism(2, 3, 4).num_accelerators == 24
