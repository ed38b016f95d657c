"""The draft of a method, as an architecture."""

from dataclasses import replace
from typing import Final, Literal, get_args

from penstock.core.model import ModelSpec

Method = Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"]
METHODS: Final[tuple[str, ...]] = get_args(Method)

_EAGLE3_VOCABULARY = 32_000
"""Tokens that published EAGLE-3 heads may draft (arXiv 2503.01840 and its checkpoints)."""


def head_of(model: ModelSpec, method: str) -> ModelSpec | None:
    """Return the head that drafts for a model, as a model of one layer; None for other methods.

    A multi-token-prediction head is a layer like the model's last one, with the model's output
    layer. An EAGLE head is a dense layer; that of EAGLE-3 has an output layer of its own with fewer
    tokens.
    """
    one_layer = replace(model, num_layers=1, num_dense_layers=0, kv_layers=0, window_layers=0,
                        linear_head_dim=0)
    if method == "mtp":
        return one_layer
    if method in ("eagle", "eagle3"):
        width = model.intermediate_size or 4 * model.hidden_size
        vocabulary = model.vocab_size
        if method == "eagle3":
            vocabulary = min(vocabulary, _EAGLE3_VOCABULARY)
        return replace(one_layer, num_experts=0, experts_per_token=0, expert_intermediate_size=0,
                       shared_intermediate_size=0, intermediate_size=width,
                       vocab_size=vocabulary)
    return None
