"""The tables of a step's parts."""

from typing import Any

from penstock.report.model.step_parts import step_blocks
from penstock.report.model.table import Note, Table

PART: dict[str, Any] = {
    "name": "feed-forward", "group": "dense", "seconds": 0.010, "alone_s": 0.010,
    "fixed_s": 0.001, "calls": 64, "bytes": 11.3e9, "flops": 6.5e12, "sent_bytes": 0.0,
    "intensity": 575.2, "bound_s": 0.0066, "bound_share": 0.66, "binds": "compute",
    "bytes_per_s": 2.5e12, "bytes_per_s_share": 0.75, "flops_per_s": 6.5e14,
    "flops_per_s_share": 0.66, "source": "fits"}
NOTHING = {**PART, "bytes": 0.0, "flops": 0.0, "intensity": None, "bound_s": 0.0,
           "bound_share": None, "binds": "", "bytes_per_s": None, "bytes_per_s_share": None,
           "flops_per_s": None, "flops_per_s_share": None}
PARTS = [PART, {**PART, "name": "QKV projection", "seconds": 0.005, "fixed_s": 0.0},
         {**NOTHING, "name": "all-reduces", "seconds": 0.003, "sent_bytes": 5e7, "bound_s": 0.001,
          "bound_share": 1 / 3, "binds": "link", "source": "nccl.csv: 2 ranks"},
         {**NOTHING, "name": "host", "seconds": 0.002, "fixed_s": 0.0, "source": "setting"}]
DOCUMENT: dict[str, Any] = {
    "model": "m", "accelerator": "chip", "precision": "fp8", "kv_precision": "bf16",
    "parallelism": {"tensor": 2, "pipeline": 1, "data": 1, "expert": 1},
    "step_time": {"kind": "measured", "engine": "vllm", "version": ""},
    "step": {"prefill_tokens": 512, "past_tokens": 1000, "attention_work": 1.0, "decodes": 64,
             "context_tokens": 2000},
    "total_s": 0.020, "low_s": 0.015, "high_s": 0.03, "simulated_s": 0.02, "compact_s": None,
    "bound_s": 0.009, "by_operation": True, "source": "fits", "extrapolated": False,
    "passes": {"prefill_s": 0.015, "decode_s": 0.010, "more_s": 0.005}, "parts": PARTS}


def tables(**changes: Any) -> tuple[Table, Table, list[str]]:
    first, second, *rest = step_blocks({**DOCUMENT, **changes})
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    return first, second, [line for one in rest if isinstance(one, Note) for line in one.lines]


def texts(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in found.rows]


def test_a_row_has_time_work_and_bound() -> None:
    first, _, _ = tables()
    assert first.title == ("m on chip (tensor 2), fp8, KV bf16: 512 prompt tokens behind 1,000 and "
                           "64 decodes at 2,000 tokens")
    assert [column.title for column in first.columns] == [
        "operation", "time", "share", "memory", "FLOP", "FLOP/B", "bound", "reached", "binds"]
    absent = "\N{EN DASH}"
    assert texts(first) == [
        ["feed-forward", "10 ms", "50.0 %", "11.3 GB", "6.5 T", "575", "6.6 ms", "66.0 %",
         "compute"],
        ["QKV projection", "5 ms", "25.0 %", "11.3 GB", "6.5 T", "575", "6.6 ms", "66.0 %",
         "compute"],
        ["all-reduces", "3 ms", "15.0 %", "50 MB sent", absent, absent, "1 ms", "33.3 %", "link"],
        ["host", "2 ms", "10.0 %", *[absent] * 6],
        ["step", "20 ms", "100 %", "22.6 GB", "13 T", absent, "9 ms", "45.0 %", ""]]


def test_operations_of_one_rate_are_named_together() -> None:
    _, second, _ = tables()
    assert texts(second) == [
        ["2.5 TB/s (75.0 % of peak), 650 TFLOP/s (66.0 % of peak)", "1 ms",
         "feed-forward, QKV projection"],
        ["nccl.csv: 2 ranks", "1 ms", "all-reduces"], ["setting", "\N{EN DASH}", "host"]]
    assert second.notes[1:] == ("step time: kind measured, engine vllm", "source: fits")


def test_a_mixed_step_is_compared_with_two_passes() -> None:
    assert tables()[2] == ["One pass computes all tokens in 20 ms. A pass of the prompts (15 ms) "
                           "and one of the decodes (10 ms) would take 25 ms: 5 ms more (+25%)."]
    assert tables(passes={"prefill_s": 0.01, "decode_s": 0.009})[2][0].endswith(
        "would take 19 ms: 1 ms less (-5%).")
    assert tables(passes=None)[2] == []


def test_coarse_parts_have_times_alone_and_say_so() -> None:
    first, note, _ = step_blocks({**DOCUMENT, "by_operation": False, "bound_s": None})
    assert isinstance(first, Table)
    assert note == Note(("step time: kind measured, engine vllm", "source: fits"))
    assert [column.title for column in first.columns] == ["operation", "time", "share"]
    assert texts(first)[-1] == ["step", "20 ms", "100 %"]
    assert "tells no operations apart" in first.notes[1]


def test_notes_say_what_limits_the_answer() -> None:
    first, _, _ = tables(extrapolated=True, compact_s=0.0201, simulated_s=0.0202)
    assert "whole picoseconds: 20.2 ms (+1.00%)" in first.notes[2]
    assert len(tables()[0].notes) == 2
    assert first.notes[0].endswith("by the stated error; beyond what was measured.")
    assert first.notes[-1] == ("Without exact: true a fleet takes the compact form, 20.1 ms "
                               "(+0.5%).")
