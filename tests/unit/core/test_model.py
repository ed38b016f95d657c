import pytest

from penstock.catalog.catalog import load_catalog
from penstock.core.model import ModelSpec

MIXTURE = {"num_experts": 8, "experts_per_token": 2, "expert_intermediate_size": 1000}


@pytest.mark.parametrize(("model", "possible"), [
    ("llama-2-13b", {1, 2, 4, 8}), ("falcon-7b", {1}), ("qwen2.5-7b", {1, 2, 4}),
    ("llama-2-70b", {1, 2, 4, 8, 16}), ("phi-4", {1, 2}), ("deepseek-v2", {1, 2, 4, 8, 16}),
    ("gpt-oss-20b", {1, 2, 4, 8, 16}), ("granite-20b-code", {1, 2, 3, 4, 6, 8, 12, 16}),
    ("opt-125m", {1, 2, 3, 4, 6, 12})])
def test_ranks_share_what_they_cannot_split(model: str, possible: set[int]) -> None:
    spec = load_catalog().model(model)
    assert {tensor for tensor in range(1, 17) if not spec.indivisible(tensor)} == possible


def test_layers_before_the_first_with_experts() -> None:
    catalog = load_catalog()
    known = {name: catalog.model(name).leading_dense_layers
             for name in ("deepseek-v3", "deepseek-v2-lite", "mixtral-8x7b", "llama-3-8b")}
    assert known == {"deepseek-v3": 3, "deepseek-v2-lite": 1, "mixtral-8x7b": 0, "llama-3-8b": 0}
    assert spec(**MIXTURE, num_dense_layers=4).leading_dense_layers == 0, "a cut without experts"


def spec(**changes: int) -> ModelSpec:
    sizes = {"num_layers": 4, "hidden_size": 768, "num_heads": 12, "num_kv_heads": 6,
             "head_dim": 64, "intermediate_size": 3072, "vocab_size": 49_152,
             "max_context_tokens": 4096}
    return ModelSpec("tiny", **(sizes | changes))


@pytest.mark.parametrize(("changes", "tensor", "what"), [
    ({}, 5, "12 attention heads"),
    ({}, 24, "12 attention heads"),
    ({}, 4, "6 heads of keys and values"),
    ({"intermediate_size": 3076}, 3, "feed-forward of 3076"),
    ({"vocab_size": 50_000}, 3, "vocabulary of 50048"),
    ({**MIXTURE, "shared_intermediate_size": 100}, 3, "shared experts of 100"),
    ({**MIXTURE, "num_dense_layers": 1, "intermediate_size": 100}, 3, "feed-forward of 100"),
])
def test_what_ranks_cannot_share_is_said(changes: dict[str, int], tensor: int, what: str) -> None:
    assert spec(**changes).indivisible(tensor) == (
        f"{tensor} ranks do not divide the {what} of tiny")


@pytest.mark.parametrize(("changes", "tensor"), [
    ({}, 3), ({}, 6), ({}, 12),  # with 12, two ranks hold a copy of the same KV head
    ({"num_kv_heads": 1}, 12),
    ({"vocab_size": 49_151}, 6),  # filled up to 49,152
    ({**MIXTURE, "intermediate_size": 100}, 3),  # no layer is dense, and experts are dealt out
    ({"num_kv_heads": 12, "kv_latent_size": 576}, 6),
])
def test_what_ranks_can_share(changes: dict[str, int], tensor: int) -> None:
    assert spec(**changes).indivisible(tensor) == ""


@pytest.mark.parametrize(("name", "purposes"), [
    ("llama-3-8b", ["QKV projection", "output projection", "feed-forward"]),
    ("mixtral-8x7b", ["QKV projection", "output projection", "router"]),
    ("deepseek-v3", ["QKV projection", "output projection", "feed-forward", "router",
                     "shared experts"]),
    ("qwen3.5-9b", ["QKV projection", "linear-attention input", "output projection",
                    "linear-attention output", "feed-forward"])])
def test_matrices_of_layers_are_all_but_experts_and_embeddings(name: str,
                                                               purposes: list[str]) -> None:
    model = load_catalog().model(name)
    assert [one.name for one in model.layer_matrices] == purposes
    assert sum(one.params for one in model.layer_matrices) == (
        model.num_params - model.embedding_params - model.routed_params)


def test_matrices_of_latent_attention() -> None:
    by_name = {one.name: one for one in load_catalog().model("deepseek-v3").layer_matrices}
    # 61 layers: down to 1,536 and 576 values, up to 128 heads of 192 and of 128 + 128 values.
    inward = 7168 * (1536 + 576) + 1536 * 128 * 192 + 512 * 128 * 256
    assert by_name["QKV projection"].params == 61 * inward
    assert by_name["output projection"].params == 61 * 128 * 128 * 7168
    assert (by_name["router"].calls, by_name["shared experts"].calls) == (58, 116)
