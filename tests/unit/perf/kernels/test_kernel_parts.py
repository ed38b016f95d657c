"""Operations of a composed step: each has the table, the shape and the rows of its time."""

import math

import pytest

from penstock.core.hardware import Parallelism
from penstock.fleet.lone_replica import step_of
from penstock.perf.kernels.compose import KernelStepTime, kernel_step_time
from penstock.perf.kernels.kernel_parts import kernel_parts
from penstock.perf.step_time.breakdown import Part
from support.kernel_tables import BANDWIDTH, CHIP, MIXTURE, MODEL, gemm_ms, made_tables

TABLES = made_tables(lambda _, ms: ms)


def parts(model: KernelStepTime, *step: int) -> dict[str, Part]:
    return {part.name: part for part in kernel_parts(model, step_of(*step))}


def test_operations_and_the_rows_of_their_tables() -> None:
    model = kernel_step_time(TABLES, MODEL, CHIP)
    found = parts(model, 448, 0, 64, 1000)
    assert list(found) == [
        "QKV projection", "output projection", "feed-forward", "norms and activations",
        "token embedding", "LM head", "attention of prompts", "attention of decodes", "host"]
    out = found["output projection"]
    assert out.seconds == pytest.approx(4 * gemm_ms(512, 1024, 1024) / 1e3)
    assert out.source == "gemm: n 1024, k 1024, 512 tokens"
    assert out.calls == 4
    assert found["feed-forward"].source == ("gemm: n 4096, k 1024, 512 tokens; "
                                            "gemm: n 1024, k 2048, 512 tokens")
    assert found["LM head"].source == "gemm: n 4096, k 1024, 64 to 512 tokens"
    assert found["attention of decodes"].source == (
        "generation_attention: 16 heads over 4 of keys and values")
    assert found["token embedding"].num_bytes == 512 * 1024 * 2 * 2


def test_a_part_beyond_its_table_says_so() -> None:
    model = kernel_step_time(TABLES, MODEL, CHIP)
    found = parts(model, 5000, 0, 10, 20_000)
    assert found["QKV projection"].source.endswith("4096 tokens, beyond the table")
    assert found["attention of decodes"].source.endswith(", beyond the table")
    assert not found["norms and activations"].source.endswith("beyond the table")


def test_a_mixture_over_ranks_and_stages() -> None:
    model = kernel_step_time(TABLES, MIXTURE, CHIP, Parallelism(2, 2))
    found = parts(model, 64, 0, 0, 1)
    assert {"router", "routed experts", "all-reduces", "sends between stages"} <= set(found)
    assert "feed-forward" not in found
    assert found["routed experts"].source == "moe: 2 of 8 experts of 1024 x 512, 64 tokens"
    # Even routing of 64 tokens touches all 8 experts; a single token's 2 are certain.
    expert_bytes = 4 * 3 * 1024 * 512 * 2 / 2
    assert found["routed experts"].num_bytes == pytest.approx(8 * expert_bytes)
    assert found["routed experts"].bound_s >= 2 * expert_bytes / BANDWIDTH
    assert found["all-reduces"].source.startswith("custom_allreduce: 2 ranks")
    assert found["all-reduces"].sent_bytes == 64 * 2 * 4 * 1024 * 2 / 2
    assert found["sends between stages"].sent_bytes == 64 * 1024 * 2
    assert math.fsum(part.seconds for part in found.values()) == pytest.approx(
        model.seconds(*step_of(64, 0, 0, 1)), rel=1e-12)
