"""``penstock engine`` and journals of engines, as far as they go without an engine's library."""

from importlib.util import find_spec
from io import BytesIO

import pytest

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.engines.embedded.calibrate import GUESS, Calibrator
from penstock.engines.embedded.options import schedule_document
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.journal.journal import Journal
from penstock.perf.step_time.store import step_time_document
from penstock.policy.kv.counting import CountingKv
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import build_scheduler

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")


def engine_journal(*, amended: bool) -> bytes:
    """A journal as an engine with a will of its own leaves it."""
    options = scheduler_options("penstock", max_step_tokens=64)
    stream, moment = BytesIO(), [0.0]
    header = {"replica": 0, "schedule": schedule_document(options), "kv_tokens": 1600,
              "block_tokens": 16, "prefix_caching": False, "max_in_flight": 1,
              "step_time": step_time_document(GUESS)}

    def clock() -> float:
        moment[0] += 0.003
        return moment[0]

    pilot = EmbeddedScheduler(build_scheduler(options, GUESS, CountingKv(100, 16)), clock,
                  Journal(stream, header), Calibrator())
    pilot.add(Request(0, 0.0, 200, 100, ServiceClass("any")))
    for number in range(50):
        plan = pilot.plan()
        assert plan is not None
        if amended and number == 0:
            plan = pilot.amend(plan, {0: (64, 32)})  # the first 32 tokens were cached
        pilot.commit(plan, ())
    return stream.getvalue()


def test_an_engines_journal_replays_without_a_fleet_file(penstock, tmp_path) -> None:
    path = tmp_path / "journal-0.jsonl"
    path.write_bytes(engine_journal(amended=True))
    outcome = penstock("lab", "replay", path, "--json")
    assert outcome.status == 0
    assert outcome.json == {"num_plans": 50, "same": True}
    assert b'"amend"' in path.read_bytes()
    assert b'"believe"' in path.read_bytes()


def test_a_forgotten_amendment_is_noticed(penstock, tmp_path) -> None:
    path = tmp_path / "journal-0.jsonl"
    lines = engine_journal(amended=True).splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"amend"' not in line))
    assert penstock("lab", "replay", path).status == 1


@pytest.mark.parametrize(("record", "said"), [
    (b'{"kind":"amend","step":7,"ran":[],"lost":[]}', "amends step 7, which is not in flight"),
    (b'{"kind":"amend","step":0}', "broken amend record"),
    (b'{"kind":"believe","step_time":{"kind":"linea"}}', "step_time")])
def test_broken_records_are_one_clear_error(penstock, tmp_path, record, said) -> None:
    path = tmp_path / "journal-0.jsonl"
    first, *_ = engine_journal(amended=False).splitlines(keepends=True)
    path.write_bytes(first + record + b"\n")
    outcome = penstock("lab", "replay", path)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_journal_of_an_engine_teaches_step_times(penstock, tmp_path) -> None:
    path = tmp_path / "journal-0.jsonl"
    path.write_bytes(engine_journal(amended=False))
    outcome = penstock("profile", "fit", "step-time", path, "--json")
    assert outcome.status == 0
    assert outcome.json["num_steps"] == 50


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama.cpp is installed")
def test_without_llama_cpp_the_extra_is_named(penstock) -> None:
    outcome = penstock("lab", "engine", "model.gguf", "--port", "0")
    assert outcome.status == 2
    assert "pip install '.[llamacpp]'" in outcome.err


@pytest.mark.parametrize(("arguments", "said"), [
    (["--kv-precision", "f8"], "expected f16 or f32"),
    (["--policy", "penstok"], "penstock"),
    (["--policy", "edf", "--fleet", "fleet.yaml"], "exclude each other"),
    (["--fleet", "no-such.yaml"], "no-such.yaml")])
def test_mistakes_are_one_clear_error(penstock, arguments, said) -> None:
    outcome = penstock("lab", "engine", "model.gguf", *arguments)
    assert outcome.status == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
