"""Speculative decoding in the fleet file."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from penstock.fleet.fields import (
    LIST_TAG,
    NAME_TAG,
    SETTINGS_TAG,
    AsName,
    CountOrZero,
    Name,
    Section,
    ShareOrZero,
    described,
)
from penstock.perf.speculation.draft import Method

Depth = Annotated[int, Field(ge=1, le=32)]
Rates = Annotated[list[ShareOrZero], Field(min_length=1, max_length=32)]
Length = Annotated[float, Field(ge=1, le=33, allow_inf_nan=False)]
DepthName = Annotated[str, Field(pattern=r"^[1-9][0-9]?$")]
Row = Annotated[list[CountOrZero], Field(min_length=3, max_length=3)]


def _form(value: object) -> str:
    if isinstance(value, str):
        return NAME_TAG
    return LIST_TAG if isinstance(value, list) else SETTINGS_TAG


AcceptanceChoice = Annotated[
    AsName | Annotated[Rates, Tag(LIST_TAG)] | Annotated[dict[Name, Rates], Tag(SETTINGS_TAG)],
    Discriminator(_form)]


class DraftModelSection(Section):
    """A smaller model that drafts."""

    model: Name = described("Name in the catalog, or of `models`.", "llama-3.2-1b", default=...)
    precision: Name = described("Number format of its weights.", "bf16", default="bf16")


class SpeculationSection(Section):
    """Speculative decoding: a draft proposes tokens, of which one step verifies all."""

    method: Method = described("How tokens are drafted.", "eagle3", default=...)
    tokens: Depth = described("Drafted tokens of a turn.", 3, default=...)
    acceptance: AcceptanceChoice | None = described(
        "Share of turns that accept the drafts up to each position, the first position first, one "
        "list or one for each service class; or the name of a published acceptance. Left out, what "
        "is published for model and method.", [0.8, 0.6, 0.45],
        {"chat": [0.7, 0.5, 0.3], "code": [0.9, 0.8, 0.7]}, "kimi-k2.5-eagle3")
    accepted_length: dict[DepthName, Length] | None = described(
        "Mean tokens of a turn, the model's own included, by drafted tokens; in the place of "
        "`acceptance`.", {"1": 1.8, "3": 2.9})
    draft: DraftModelSection | None = described(
        "The draft model (method draft_model).", {"model": "llama-3.2-1b"})
    by_batch: list[Row] | None = described(
        "Other numbers of drafted tokens by decoding sequences: rows of fewest sequences, most "
        "sequences and tokens, 0 tokens for none; left out, always `tokens`.",
        [[1, 8, 3], [9, 32, 1], [33, 1024, 0]])
