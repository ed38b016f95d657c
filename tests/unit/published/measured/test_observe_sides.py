"""Runs of both sides of a point."""

from pathlib import Path

import numpy as np
import pytest

from penstock.published.measured.observe import observe
from penstock.published.measured.rows import read_measured
from support.measured_rows import write_measured

APART = {"disaggregated": 1, "model": "Qwen/Qwen3-32B", "hardware": "h200", "tp": "",
         "num_gpus": "", "notes": "prefill workers/tp/pp/dp 1/2/1/1, decode 2/2/1/1",
         "load_value": 8, "ttft_mean": 0.2, "tpot_mean": 0.02}


def test_each_side_is_a_run_of_its_role(tmp_path: Path) -> None:
    write_measured(tmp_path, APART)
    prefill, decode = observe(read_measured(tmp_path)[0])
    assert (prefill.of.role, decode.of.role) == ("prefill", "decode")
    assert np.isnan(prefill.tpot.measured_s)
    assert np.isnan(decode.ttft.measured_s)
    assert decode.tpot.measured_s == 0.02
    assert decode.tpot.weights.sum() == pytest.approx(1.0)


def test_longer_times_to_first_token_ask_for_longer_steps(tmp_path: Path) -> None:
    write_measured(tmp_path, APART, {**APART, "ttft_mean": 0.4})
    short, long = (observe(row)[0].ttft for row in read_measured(tmp_path))
    assert short.measured_s < long.measured_s


def test_the_times_of_a_row_tell_its_batches(tmp_path: Path) -> None:
    write_measured(tmp_path, APART, {**APART, "ttft_mean": 20.0})
    batches = []
    for row in read_measured(tmp_path):
        decode = observe(row)[1]
        # The last part of a step is its decodes.
        batches.append(float((decode.parts[-1] * decode.tpot.weights).sum()))
    assert batches[0] == pytest.approx(3.5, rel=0.05)  # nearly all of eight clients on two workers
    assert batches[1] == 1.0  # most wait for their prompt
