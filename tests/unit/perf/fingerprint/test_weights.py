"""Weights of terms, and the terms themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.physics import (
    ANCHOR,
    BATCH,
    BATCH_MEMORY,
    DECODE,
    MEMORY,
    Term,
    anchor_terms,
    batch_memory_terms,
    batch_terms,
    decode_terms,
    kind_of,
    memory_terms,
    rank_shares,
    width_of,
)
from penstock.perf.fingerprint.weights import Rows, fit_weights
from support.fingerprint_world import SUBJECTS

TERMS = (Term("a", 1.0), Term("b", 0.5))


def test_weights_are_found_where_the_rows_tell_them() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(1.0, 10.0, (200, 2))
    target = amounts @ np.array([2.0, 0.25])
    assert fit_weights(TERMS, amounts, target, target) == pytest.approx([2.0, 0.25], rel=0.03)


def test_a_few_wild_rows_move_them_little() -> None:
    rng = np.random.default_rng(1)
    amounts = rng.uniform(1.0, 10.0, (200, 2))
    target = amounts @ np.array([2.0, 0.25]) * rng.normal(1.0, 0.01, 200)
    wild = target.copy()
    wild[:10] *= 5.0
    assert fit_weights(TERMS, amounts, wild, target) == pytest.approx([2.0, 0.25], rel=0.1)


def test_what_no_row_tells_apart_stays_in_its_usual_proportion() -> None:
    amounts = np.array([[1.0, 2.0]] * 20)  # both usual: 1 + 1
    target = np.full(20, 4.0)
    found = fit_weights(TERMS, amounts, target, target)
    assert amounts[0] @ found == pytest.approx(4.0, rel=0.01)
    assert found[0] / found[1] == pytest.approx(2.0, rel=0.01)


def test_no_weight_is_negative_and_none_measured_is_the_usual_one() -> None:
    amounts = np.array([[1.0, 1.0], [1.0, 2.0]] * 10)
    target = np.array([2.0, 1.0] * 10)  # falls as b grows
    assert fit_weights(TERMS, amounts, target, target).min() >= 0.0
    assert Rows(TERMS).weights() == (1.0, 0.5)


@given(st.sampled_from(sorted(SUBJECTS)), st.integers(1, 8), st.integers(1, 8),
       st.sampled_from(["fp16", "int8", "int4", "int4_gptq"]), st.sampled_from(["fp16", "int8"]),
       st.integers(1, 400), st.integers(2, 64))
def test_there_is_an_amount_for_every_term_and_none_is_negative(
        model: str, tensor: int, pipeline: int, precision: str, kv: str, output: int,
        batch: int) -> None:
    subject = SUBJECTS[model]
    configuration = Configuration(Parallelism(tensor, pipeline), precision, kv)
    for terms, amounts in (
            (DECODE, decode_terms(subject, configuration, 100.0)),
            (ANCHOR, anchor_terms(subject, configuration, 0.001, 0.01)),
            (BATCH, batch_terms(subject, configuration, output, batch)),
            (MEMORY, memory_terms(subject, configuration, 10)),
            (BATCH_MEMORY, batch_memory_terms(subject, configuration, output, batch))):
        assert len(terms) == len(amounts)
        assert min(amounts) >= 0.0


@given(st.integers(2, 64))
def test_a_number_of_ranks_is_shared_between_its_neighbours(ranks: int) -> None:
    assert sum(rank_shares(ranks)) == pytest.approx(1.0)


def test_ranks_that_have_a_weight_of_their_own() -> None:
    assert rank_shares(1) == [0.0] * 4
    assert rank_shares(4) == [0.0, 1.0, 0.0, 0.0]
    assert rank_shares(3)[0] > 0.0 < rank_shares(3)[1]


def test_precisions_by_name() -> None:
    assert kind_of("bf16") == kind_of("fp16")
    assert width_of("int4_gptq") == 0.5
    with pytest.raises(InputError, match=r"int7.*int8"):
        kind_of("int7")
