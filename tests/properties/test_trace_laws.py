"""What holds of every trace: a log in other words and units is the same traffic."""

import csv
import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given

from penstock.workload.column_map import column_map
from penstock.workload.readers import read_trace
from penstock.workload.trace import Trace
from penstock.workload.writers import write_trace
from support.scaled_examples import examples
from support.strategies import LoggedTrace, logged_traces

PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def as_text(log: LoggedTrace, form: str) -> str:
    header = list(log.names.values())
    rows = list(zip(log.stamps, log.prompts, log.outputs, log.classes, strict=True))
    if form == "jsonl":
        return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


def classes_of(trace: Trace) -> list[str]:
    assert trace.service_class is not None
    return [trace.service_class.names[i] for i in trace.service_class.index]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("stated", [False, True])
@given(log=logged_traces())
@examples(40)
def test_a_mapped_log_is_its_requests_in_order(form: str, stated: bool, log: LoggedTrace) -> None:
    order = np.argsort(np.array(log.stamps), kind="stable")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"log.{form}.gz"
        path.write_bytes(gzip.compress(as_text(log, form).encode()))
        trace = read_trace(path, mapping=column_map(log.names, log.unit if stated else None))
        write_trace(trace, Path(folder) / "plain.csv")
        back = read_trace(Path(folder) / "plain.csv")
    assert trace.arrival_s is not None
    passed = [(log.stamps[i] - min(log.stamps)) / PER_S[log.unit] for i in order]
    assert trace.arrival_s.tolist() == passed  # exact, in nanoseconds too
    assert trace.prompt_tokens.tolist() == [log.prompts[i] for i in order]
    assert trace.output_tokens.tolist() == [log.outputs[i] for i in order]
    assert classes_of(trace) == [log.classes[i] for i in order]
    assert bool(trace.assumed) is not stated
    assert back.arrival_s is not None
    assert back.arrival_s.tolist() == passed
    assert back.prompt_tokens.tolist() == trace.prompt_tokens.tolist()
    assert classes_of(back) == classes_of(trace)
    assert not back.assumed
