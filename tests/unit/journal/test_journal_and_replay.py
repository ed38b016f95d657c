"""Journals: what is written comes back, and what is broken is named."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.step import Chunk, StepFeatures, StepPlan, StepResult
from penstock.journal.journal import VERSION, Journal, read_journal, read_plan, read_request
from penstock.journal.replay import replay, scheduler_of
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.options import scheduler_options
from support.scheduler_runs import Journaled, jump, step_by_step
from support.strategies import EVIDENCE, SERVICE_CLASSES, Case, cases

PLAN = StepPlan(3, (Chunk(1, 20, 5, False), Chunk(2, 1, 0, True)), (7, 8),
                StepFeatures(21, 300.5, 2, 99), (0, 2), ((2, 1),), (9,), (9,), (4,), (5,),
                ((6, "too late"),))
STEP_TIME = LinearStepTime(0.01, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)
CASE = Case(scheduler_options("sarathi", chunk_tokens=16), STEP_TIME, 4, 25, prefix_caching=False,
            requests=tuple(Request(i, 0.05 * i, 30, 40, SERVICE_CLASSES[i]) for i in range(4)),
            output_tokens=dict.fromkeys(range(4), 40), aborts=((0.3, 1),))


def written(*calls: Any) -> list[dict[str, Any]]:
    stream = BytesIO()
    journal = Journal(stream, {"replica": 0})
    for name, *arguments in calls:
        getattr(journal, name)(*arguments)
    path_free = stream.getvalue().splitlines()
    import orjson

    return [orjson.loads(line) for line in path_free]


def test_a_plan_comes_back_equal() -> None:
    _, record = written(("plan", PLAN, 1.5))
    assert record["now_s"] == 1.5
    assert read_plan(record["plan"]) == PLAN
    assert isinstance(read_plan(record["plan"]).chunks[0], Chunk)


@pytest.mark.parametrize("service_class", SERVICE_CLASSES, ids=lambda c: c.name)
def test_a_request_comes_back_equal(service_class: Any) -> None:
    request = Request(5, 1 / 3, 100, 20, service_class, "llama", "tenant", (1, 2**62), 16)
    _, record = written(("add", request, 0.5))
    assert read_request(record["request"]) == request


def test_a_commit_says_what_ran_and_how_often() -> None:
    _, record = written(("commit", PLAN, StepResult((7,), 12), 2.5))
    assert record["step"] == PLAN.step
    assert (record["finished"], record["num_steps"]) == ([7], 12)
    assert StepFeatures(*record["features"]) == PLAN.features


def test_a_file_comes_back_record_by_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with path.open("wb") as stream:
        journal = Journal(stream, {"replica": 3})
        journal.abort(4, 1.0)
        journal.plan(PLAN, 2.0)
    kinds = [record["kind"] for record in read_journal(path)]
    assert kinds == ["header", "abort", "plan"]


HEADER = b'{"kind": "header", "version": %d}\n' % VERSION


@pytest.mark.parametrize(("text", "complaint"), [
    (b"", "the journal is empty"),
    (b"not json\n", ":1: not a JSON record"),
    (HEADER + b"{\n", ":2: not a JSON record"),
    (b"[1]\n", ":1: expected a record of kind"),
    (b'{"kind": "dance"}\n', ":1: expected a record of kind"),
    (b'{"kind": "abort"}\n', ":1: expected the header on the first line only"),
    (HEADER + HEADER, ":2: expected the header on the first line only"),
    (b'{"kind": "header", "version": 99}\n', "journal version 99, expected 1"),
])
def test_bad_journals_are_named(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        list(read_journal(path))
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the journal"):
        list(read_journal(tmp_path / "none.jsonl"))


def journal_of_case() -> list[dict[str, Any]]:
    step_by_step(CASE, journaled := Journaled(CASE))
    return journaled.records


def test_replay_reproduces_preemptions_and_aborts() -> None:
    records = journal_of_case()
    assert any(record["kind"] == "abort" for record in records)
    assert any(r["kind"] == "plan" and r["plan"]["preempted"] for r in records)
    report = replay(records, scheduler_of(records[0], STEP_TIME))
    assert report.mismatch is None
    assert report.num_plans == sum(record["kind"] == "plan" for record in records)


def test_replay_stops_at_the_first_different_plan() -> None:
    records = journal_of_case()
    changed = [r for r in records if r["kind"] == "plan"][4]
    expected_step = changed["plan"]["step"]
    changed["plan"]["decode_ids"] = [99]
    report = replay(records, scheduler_of(records[0], STEP_TIME))
    assert report.num_plans == 4
    assert report.mismatch is not None
    step, expected, got = report.mismatch
    assert step == expected_step == expected.step
    assert expected.decode_ids == (99,)
    assert got is not None
    assert got.step == step


def test_replay_with_another_budget_differs() -> None:
    records = journal_of_case()
    records[0]["schedule"]["chunk_tokens"] = 8
    assert replay(records, scheduler_of(records[0], STEP_TIME)).mismatch is not None


def test_replay_of_a_plan_that_nothing_calls_for_differs() -> None:
    records = [r for r in journal_of_case() if r["kind"] != "add"]
    mismatch = replay(records, scheduler_of(records[0], STEP_TIME)).mismatch
    assert mismatch is not None
    assert mismatch[2] is None


def test_replay_refuses_a_commit_out_of_nowhere() -> None:
    records = journal_of_case()
    commits = [r for r in records if r["kind"] == "commit"]
    with pytest.raises(InputError, match=r"record \d+: commits step 0, which is not in flight"):
        replay([*records, commits[0]], scheduler_of(records[0], STEP_TIME))


@pytest.mark.parametrize(("kind", "field"), [("add", "request"), ("abort", "request_id"),
                                             ("plan", "plan"), ("commit", "finished")])
def test_replay_names_a_broken_record(kind: str, field: str) -> None:
    records = journal_of_case()
    number = next(n for n, record in enumerate(records, 1) if record["kind"] == kind)
    del records[number - 1][field]
    with pytest.raises(InputError, match=rf"record {number}: broken {kind} record .*{field}"):
        replay(records, scheduler_of(records[0], STEP_TIME))


@pytest.mark.parametrize("field", ["schedule", "kv_tokens", "block_tokens", "prefix_caching",
                                   "max_in_flight"])
def test_a_header_must_describe_the_scheduler(field: str) -> None:
    header = journal_of_case()[0]
    del header[field]
    with pytest.raises(InputError, match=f"journal header has no '{field}'"):
        scheduler_of(header, STEP_TIME)


@pytest.mark.parametrize("factor", [0, -1.0, "1", None, True, float("inf")])
def test_a_belief_is_a_positive_factor(factor: object) -> None:
    header = journal_of_case()[0]
    with pytest.raises(InputError, match=r"step_time_factor is .*expected a positive number"):
        scheduler_of({**header, "step_time_factor": factor}, STEP_TIME)
    assert "step_time_factor" not in header, "journals of release 0.1 have none"


@given(cases())
def test_a_jump_is_one_commit_of_many_steps(case: Case) -> None:
    steps = sum(record["num_steps"] for record in jump(case).records
                if record["kind"] == "commit" and any(record["features"]))
    assert steps == sum(plan.num_tokens > 0 for plan in step_by_step(case).plans)
