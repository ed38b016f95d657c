"""Penstock's scheduler inside vLLM, one step at a time: real tokens from a tiny model."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from vllm_engine import Engine, prompt, scheduler_class

from penstock.journal.journal import read_journal
from penstock.journal.replay import ReplayReport, replay, scheduler_of
from penstock.registry.step_times import step_time_from

pytestmark = pytest.mark.filterwarnings("default")  # vLLM and torch have warnings of their own

CLASSES = [{"name": "interactive", "priority": 1, "slo": {"ttft_s": 0.05, "itl_s": 0.02}},
           {"name": "batch", "priority": 3, "slo": {"e2e_s": 300}},
           {"name": "free", "priority": 5}]
BASE = {"service_classes": CLASSES, "default_class": "batch", "schedule": {"max_step_tokens": 100}}


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> Engine:
    return Engine(tiny_llama)


def options(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


def replayed(folder: Path) -> ReplayReport:
    records = read_journal(folder / "journal-0.jsonl")
    header = next(records)
    return replay(records, scheduler_of(header, step_time_from(header["step_time"], "header")))


def kinds(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder / "journal-0.jsonl")
            if record["kind"] == kind]


def mixed_load(engine: Engine, num: int = 24, seed: int = 3, *, leave: bool = True,
               shared: int = 0) -> None:
    """Requests of all classes that come, and some that go, at steps drawn by chance."""
    rng = Random(seed)
    common = prompt(shared, 999)
    arrivals = sorted((rng.randrange(40), number) for number in range(num))
    leavers = {rng.randrange(num): rng.randrange(10, 50) for _ in range(3)} if leave else {}
    for step in range(2000):
        while arrivals and arrivals[0][0] <= step:
            _, number = arrivals.pop(0)
            length = rng.choice((5, 40, 130, 500))
            name = rng.choice(("interactive", "batch", "free"))
            engine.add(f"r{number}", common + prompt(length, number), rng.randrange(1, 30),
                       service_class=name)
        for number, moment in leavers.items():
            if moment == step:
                engine.abort(f"r{number}")
        if not arrivals and not engine.engine.has_unfinished_requests():
            return
        engine.step()
    raise AssertionError("requests are stuck")


@pytest.fixture(scope="module")
def undisturbed(engine: Engine) -> dict[str, list[int]]:
    """Answers of vLLM's own scheduler to the mixed load, nobody leaving."""
    engine.begin()
    mixed_load(engine, leave=False)
    return engine.tokens


def test_urgent_prompt_displaces_a_long_one_and_no_token_changes(engine: Engine) -> None:
    alone = {}
    for name, length, seed in (("long", 1000, 1), ("urgent", 250, 2)):
        engine.begin()
        engine.add(name, prompt(length, seed), 5)
        engine.run()
        alone |= engine.tokens

    engine.begin(scheduler_class(), options())
    engine.add("long", prompt(1000, 1), 5, service_class="batch")
    for _ in range(3):
        engine.step()
    engine.add("urgent", prompt(250, 2), 5, service_class="interactive")
    engine.run()

    assert engine.tokens == alone
    assert len(set(alone["long"])) > 1  # the model says something that could differ
    assert engine.first_step("urgent") == 3
    assert "long" not in engine.steps[3]
    assert "long" not in engine.steps[4]
    assert sum(step.get("long", 0) for step in engine.steps) == 1004  # nothing computed twice
    assert engine.scheduler.driver.num_amended == 0


def test_vllm_alone_serves_the_long_prompt_first(engine: Engine) -> None:
    engine.begin()
    engine.scheduler.max_num_scheduled_tokens = 100
    engine.add("long", prompt(1000, 1), 5)
    for _ in range(3):
        engine.step()
    engine.add("urgent", prompt(250, 2), 5, priority=-5)
    engine.run()
    assert engine.first_step("urgent") >= 10


@pytest.mark.parametrize(("base", "queue"), [
    ("PenstockScheduler", "fcfs"), ("PenstockScheduler", "priority"),
    ("PenstockAsyncScheduler", "fcfs")])
def test_mixed_classes_get_the_tokens_of_vllms_own_scheduler(
        engine: Engine, undisturbed: dict[str, list[int]], base: str, queue: str) -> None:
    engine.begin(scheduler_class(base), options(), queue=queue)
    mixed_load(engine, leave=False)
    assert engine.tokens == undisturbed
    assert all(sum(step.values()) <= 100 for step in engine.steps)
    assert engine.scheduler.driver.num_amended == 0
    engine.scheduler.driver.scheduler.check_integrity()
    assert engine.scheduler.driver.scheduler.kv_used_tokens == 0


def test_same_calls_make_the_same_steps(engine: Engine, tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        engine.begin(scheduler_class(), options(journal=str(tmp_path / name)))
        mixed_load(engine)
        runs.append((engine.steps, engine.tokens))
    assert runs[0] == runs[1]
    journals = [(tmp_path / name / "journal-0.jsonl").read_bytes() for name in ("first", "second")]
    assert journals[0] == journals[1]


def test_journal_replays_with_aborts_and_calibration(engine: Engine, tmp_path: Path) -> None:
    engine.begin(scheduler_class(), options(journal=str(tmp_path / "run")))
    mixed_load(engine)
    report = replayed(tmp_path / "run")
    assert report.mismatch is None
    assert report.num_plans == len(engine.steps)
    assert kinds(tmp_path / "run", "abort")
    assert kinds(tmp_path / "run", "believe")


def test_too_little_kv_means_preemption_and_the_same_tokens(
        engine: Engine, undisturbed: dict[str, list[int]], tmp_path: Path) -> None:
    engine.begin(scheduler_class(), options(journal=str(tmp_path / "run"),
                                            schedule={"max_step_tokens": 100,
                                                      "kv_watermark": 0.0}), num_blocks=65)
    mixed_load(engine, leave=False)
    assert engine.tokens == undisturbed
    assert replayed(tmp_path / "run").mismatch is None
    engine.scheduler.driver.scheduler.check_integrity()


def test_cached_prefixes_are_told_to_the_scheduler(engine: Engine, tmp_path: Path) -> None:
    engine.begin()
    mixed_load(engine, leave=False, shared=200)
    expected = engine.tokens
    engine.begin(scheduler_class(), options(journal=str(tmp_path / "run")), prefix_caching=True)
    mixed_load(engine, leave=False, shared=200)
    assert engine.tokens == expected
    assert kinds(tmp_path / "run", "amend")
    assert replayed(tmp_path / "run").mismatch is None
    engine.scheduler.driver.scheduler.check_integrity()


def test_a_request_that_waited_too_long_is_shed_with_a_reason(engine: Engine) -> None:
    engine.begin(scheduler_class(), options(schedule={"max_step_tokens": 20,
                                                      "queue_timeout_s": 0.01, "review_s": 0.001}))
    engine.add("first", prompt(1500, 1), 3, service_class="interactive")
    for number in range(4):
        engine.add(f"late{number}", prompt(1500, number), 3, service_class="interactive")
    engine.run()
    shed = [name for name, (reason, _) in engine.ends.items() if reason == "abort"]
    assert shed
    assert all("deadline" in engine.ends[name][1] for name in shed)
    assert not engine.scheduler.requests


def test_targets_in_the_request_count(engine: Engine, tmp_path: Path) -> None:
    engine.begin(scheduler_class(), options(journal=str(tmp_path / "run")))
    engine.add("a", prompt(10, 1), 2, service_class="interactive", ttft_s=0.5)
    engine.add("b", prompt(10, 2), 2, service_class="nobody knows it", itl_s="0.033")
    engine.add("c", prompt(10, 3), 2, priority=5)
    engine.run()
    said = [record["request"]["service_class"] for record in kinds(tmp_path / "run", "add")]
    assert [one["name"] for one in said] == ["interactive", "batch@0.033", "free"]
    assert said[0]["slo"]["ttft_s"] == 0.5
    assert said[0]["slo"]["itl_s"] == 0.02
    assert said[1]["slo"]["e2e_s"] == 300


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        assert not engine.engine.has_unfinished_requests()
