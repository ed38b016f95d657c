"""How plans are carried out, against a stand-in for vLLM; tests/engines has the real one."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.journal.journal import read_journal
from penstock.journal.replay import replay, scheduler_of
from penstock.registry.step_times import step_time_from
from support import fake_vllm
from support.fake_vllm import FinishReason, Request, RequestStatus, configuration

CLASSES = [{"name": "interactive", "slo": {"ttft_s": 0.05, "itl_s": 0.02}},
           {"name": "batch", "slo": {"e2e_s": 300}}]
OPTIONS = {"service_classes": CLASSES, "default_class": "batch", "calibrate": False}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    name = "penstock.engines.vllm.scheduler"
    monkeypatch.delitem(sys.modules, name, raising=False)
    import importlib

    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_the_scheduler_knows_the_session(plugin: ModuleType) -> None:
    engine, known = Engine(plugin), {}
    add = engine.driver.add
    engine.driver.add = lambda request: known.update(
        {request.request_id: request.session}) or add(request)
    for said in ({"session": "s"}, {"session": 7}, {"session": "s" * 201}, None):
        engine.scheduler.add_request(Request(str(len(known)), 8, 2, said))
    assert list(known.values()) == ["s", "", "", ""]


class Engine:
    """Steps a scheduler, with up to ``depth`` steps planned ahead."""

    def __init__(self, plugin: ModuleType, base: str = "PenstockScheduler", depth: int = 1,
                 **options: Any) -> None:
        ticks = count()
        timed = type("Timed", (getattr(plugin, base),),
                     {"clock": lambda: next(ticks) / 1000, "wall": lambda: 0.0})
        self.scheduler = timed(configuration({**OPTIONS, **options},
                                             max_concurrent_batches=depth))
        self.depth = depth
        self.in_flight: list[Any] = []
        self.steps: list[dict[str, int]] = []
        self.counted: list[dict[str, int]] = []
        self.ends: dict[str, tuple[FinishReason, str | None]] = {}

    @property
    def driver(self) -> Any:
        return self.scheduler.driver

    def add(self, name: str, prompt_tokens: int, max_tokens: int, service_class: str = "batch",
            **changes: Any) -> Request:
        request = Request(name, prompt_tokens, max_tokens, {"service_class": service_class},
                          **changes)
        self.scheduler.add_request(request)
        return request

    def step(self) -> None:
        output = self.scheduler.schedule()
        self.in_flight.append(output)
        if output.num_scheduled_tokens:
            self.steps.append(output.num_scheduled_tokens)
            self.counted.append(output.num_output_tokens)
        if len(self.in_flight) == self.depth or not output.num_scheduled_tokens:
            outputs = self.scheduler.update_from_output(self.in_flight.pop(0), None)
            for one in (one for group in outputs.values() for one in group.outputs):
                if one.finish_reason is not None:
                    self.ends[one.request_id] = one.finish_reason, one.stop_reason
        self.driver.scheduler.check_integrity()

    def run(self) -> None:
        for _ in range(3000):
            if not self.scheduler.requests and not any(output.num_scheduled_tokens
                                                       for output in self.in_flight):
                return
            self.step()
        raise AssertionError("requests are stuck")


def test_an_urgent_prompt_displaces_a_long_one_that_keeps_what_it_computed(
        plugin: ModuleType) -> None:
    engine = Engine(plugin)
    engine.add("long", 400, 3)
    engine.step()
    engine.step()
    engine.add("urgent", 100, 3, "interactive")
    engine.run()
    assert engine.steps[:6] == [{"long": 64}, {"long": 64}, {"urgent": 64},
                                {"urgent": 36, "long": 28}, {"urgent": 1, "long": 63},
                                {"urgent": 1, "long": 63}]
    assert sum(step.get("long", 0) for step in engine.steps) == 402
    assert engine.driver.num_amended == 0


def test_a_started_prompt_is_held_to_its_part_while_one_that_starts_goes_first(
        plugin: ModuleType) -> None:
    # vLLM serves those that hold KV before any that wait: "long" would take the whole step.
    engine = Engine(plugin)
    long = engine.add("long", 400, 2)
    engine.step()
    engine.add("urgent", 50, 2, "interactive")
    engine.step()
    assert engine.steps[1] == {"urgent": 50, "long": 14}
    assert long.num_output_placeholders == 0
    assert engine.counted[1] == {"urgent": 0, "long": 0}  # read while placeholders were true


@pytest.mark.parametrize(("base", "depth"), [("PenstockScheduler", 1),
                                             ("PenstockAsyncScheduler", 1),
                                             ("PenstockAsyncScheduler", 2)])
@pytest.mark.parametrize("seed", range(8))
def test_random_loads_end_and_replay(plugin: ModuleType, tmp_path: Path, base: str, depth: int,
                                     seed: int) -> None:
    rng = Random(seed)
    engine = Engine(plugin, base, depth, journal=str(tmp_path), schedule={"kv_watermark": 0.0},
                    calibrate=True)
    wanted = {}
    for number in range(30):
        request = engine.add(f"r{number}", rng.randrange(1, 300), rng.randrange(1, 40),
                             rng.choice(("interactive", "batch")),
                             cached=rng.choice((0, 0, 32, 100)))
        wanted[request.request_id] = request
        for _ in range(rng.randrange(6)):
            live = sorted(engine.scheduler.requests)
            if live and rng.random() < 0.1:
                engine.scheduler.finish_requests(rng.choice(live), RequestStatus.FINISHED_ABORTED)
            if depth == 1 and rng.random() < 0.1:
                engine.scheduler.take_away = set(live[:3])
            engine.scheduler.refuse = set(rng.sample(live, min(2, len(live))))
            engine.step()
    engine.scheduler.refuse = set()
    engine.run()
    assert all(request.is_finished() for request in wanted.values())
    assert all(request.num_output_tokens == request.max_tokens for request in wanted.values()
               if request.status == RequestStatus.FINISHED_LENGTH)
    assert engine.driver.num_amended > 0
    assert engine.driver.scheduler.kv_used_tokens == 0
    engine.scheduler.shutdown()
    assert engine.scheduler.stopped
    records = read_journal(tmp_path / "journal-0.jsonl")
    header = next(records)
    found = replay(records, scheduler_of(header, step_time_from(header["step_time"], "header")))
    assert found.mismatch is None
    assert found.num_plans > 100


def test_an_end_that_an_engine_knows_ahead_is_no_step(plugin: ModuleType) -> None:
    engine = Engine(plugin, "PenstockAsyncScheduler", 2)
    engine.add("one", 20, 1)
    engine.run()
    assert [step for step in engine.steps if "one" in step] == [{"one": 20}]
    assert engine.ends == {"one": (FinishReason.LENGTH, None)}


def test_little_kv_means_preemption_that_vllm_carries_out(plugin: ModuleType) -> None:
    engine = Engine(plugin, schedule={"kv_watermark": 0.0})
    requests = [engine.add(f"r{number}", 300, 100) for number in range(4)]
    lost = []
    inner = engine.scheduler._preempt_request

    def noted(request: Request, timestamp: float) -> None:
        lost.append(request.request_id)
        inner(request, timestamp)

    engine.scheduler._preempt_request = noted
    engine.run()
    assert lost
    assert engine.driver.num_amended == 0
    assert all(request.num_output_tokens == 100 for request in requests)


def test_a_grammar_is_waited_for(plugin: ModuleType) -> None:
    engine = Engine(plugin)
    waiting = engine.add("json", 10, 2,
                         status=RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR)
    engine.add("plain", 10, 2)
    engine.step()
    assert engine.steps == [{"plain": 10}]
    assert waiting in engine.scheduler.deferred_waiting
    engine.scheduler.grammars.add("json")
    engine.run()
    assert engine.ends.keys() == {"plain", "json"}
    assert not engine.scheduler.deferred_waiting


def test_what_is_refused_is_told_with_the_reason(plugin: ModuleType) -> None:
    engine = Engine(plugin)
    engine.add("session", 10, 2, resumable=True)
    engine.add("plain", 10, 2)
    engine.run()
    reason, text = engine.ends["session"]
    assert reason == FinishReason.ABORT
    assert text is not None
    assert "streamed input" in text
    assert engine.ends["plain"] == (FinishReason.LENGTH, None)


def test_what_waits_past_its_deadline_is_shed(plugin: ModuleType) -> None:
    engine = Engine(plugin, schedule={"queue_timeout_s": 0.01, "review_s": 0.001,
                                      "max_num_seqs": 1})
    for number in range(5):
        engine.add(f"r{number}", 400, 20, "interactive")
    engine.run()
    shed = {name for name, (reason, _) in engine.ends.items() if reason == FinishReason.ABORT}
    assert shed
    assert all("deadline" in (engine.ends[name][1] or "") for name in shed)


def test_time_already_waited_counts(plugin: ModuleType, tmp_path: Path) -> None:
    engine = Engine(plugin, journal=str(tmp_path))
    engine.add("early", 10, 1, arrival_time=-3.0)
    engine.add("clock ahead", 10, 1, arrival_time=99.0)
    engine.run()
    engine.scheduler.shutdown()
    adds = [record for record in read_journal(tmp_path / "journal-0.jsonl")
            if record["kind"] == "add"]
    waited = [round(record["now_s"] - record["request"]["arrival_s"]) for record in adds]
    assert waited == [3, 0]


@pytest.mark.parametrize(("changes", "said"), [
    ({"speculative_config": object()}, "speculative decoding"),
    ({"kv_transfer_config": object()}, "KV connector")])
def test_features_that_do_not_go_together(plugin: ModuleType, changes: dict[str, Any],
                                          said: str) -> None:
    with pytest.raises(InputError, match=said):
        plugin.PenstockScheduler(configuration(OPTIONS, **changes))


def test_a_journal_is_never_written_over(plugin: ModuleType, tmp_path: Path) -> None:
    first = Engine(plugin, journal=str(tmp_path))
    with pytest.raises(InputError, match="holds one already"):
        Engine(plugin, journal=str(tmp_path))
    first.scheduler.shutdown()


def test_a_cap_of_vllms_own_is_lifted(plugin: ModuleType) -> None:
    engine = Engine(plugin)
    assert engine.scheduler.scheduler_config.long_prefill_token_threshold == 0


def test_emptying_the_prefix_cache_leaves_running_requests_alone(plugin: ModuleType) -> None:
    engine = Engine(plugin)
    engine.add("one", 100, 3)
    engine.step()
    assert not engine.scheduler.reset_prefix_cache(True)
    assert engine.scheduler.reset_prefix_cache()
    engine.run()


def test_what_cannot_be_in_time_goes_last_and_comes_back_when_there_is_room(
        plugin: ModuleType, tmp_path: Path) -> None:
    slo = {"name": "soon", "slo": {"ttft_s": 0.6}}
    engine = Engine(plugin, journal=str(tmp_path), service_classes=[slo], default_class="soon",
                    schedule={"review_s": 0.001})
    for number in range(40):
        engine.add(f"r{number}", 400, 2, "soon")
    for _ in range(3):
        engine.step()
    for number in range(5, 35):
        engine.scheduler.finish_requests(f"r{number}", RequestStatus.FINISHED_ABORTED)
    engine.run()
    engine.scheduler.shutdown()
    plans = [record["plan"] for record in read_journal(tmp_path / "journal-0.jsonl")
             if record["kind"] == "plan"]
    relegated = {number for plan in plans for number in plan["relegated"]}
    restored = {number for plan in plans for number in plan["restored"]}
    assert restored
    assert restored <= relegated
    assert engine.driver.num_amended == 0
