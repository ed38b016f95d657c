"""Options of the scheduler inside an engine: read, refused, limited."""

from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.core.slo import Slo
from penstock.engines.embedded.calibrate import GUESS
from penstock.engines.embedded.options import (
    ENVIRONMENT,
    embedded_options,
    limited,
    schedule_document,
)
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.options import scheduler_options
from penstock.registry.make import schedule_options

FLEET = """
accelerators: [{name: a100-80gb, count: 2}]
models: [{name: llama-3.1-8b}]
service_classes:
  - {name: chat, slo: {ttft_s: 1}}
  - {name: batch, slo: {e2e_s: 300}}
traffic:
  - {mix: {chat: 0.5, batch: 0.5}, lengths: {prompt: {fixed: 100}, output: {fixed: 10}},
     rate_per_s: 1, num_requests: 10}
replicas:
  - {model: llama-3.1-8b, accelerator: a100-80gb, count: 2, schedule: edf}
"""


def test_nothing_said_is_penstock_with_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    options = embedded_options(None)
    assert options.schedule == scheduler_options("penstock")
    assert (options.step_time, options.calibrate, options.journal) == (GUESS, True, None)
    assert options.default_class.slo == Slo()


def test_everything_in_place() -> None:
    options = embedded_options({
        "policy": "sarathi", "schedule": {"chunk_tokens": 64}, "calibrate": False,
        "service_classes": [{"name": "chat", "slo": {"ttft_s": 1, "itl_s": 0.05}}, {"name": "b"}],
        "default_class": "b", "journal": "somewhere",
        "step_time": {"kind": "linear", "coefficients": {
            "base_s": 0.01, "prefill_token_s": 1e-4, "work_s": 0, "decode_seq_s": 0,
            "context_s": 0}}})
    assert options.schedule.chunk_tokens == 64
    assert options.classes[0].slo == Slo(ttft_s=1, itl_s=0.05)
    assert options.default_class.name == "b"
    assert isinstance(options.step_time, LinearStepTime)
    assert options.journal == Path("somewhere")


def test_the_fleet_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    options = embedded_options({"fleet": str(tmp_path / "fleet.yaml"), "replica": 1})
    assert options.schedule.policy == "edf"
    assert [one.name for one in options.classes] == ["chat", "batch"]
    assert (options.default_class.name, options.replica) == ("chat", 1)
    assert options.step_time.seconds(1000, 0.0, 0, 0) > 0


def test_the_environment_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "options.yaml").write_text("policy: edf\n")
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "options.yaml"))
    assert embedded_options(None).schedule.policy == "edf"
    assert embedded_options({}).schedule.policy == "penstock"  # the engine's own options go first


@pytest.mark.parametrize(("document", "said"), [
    ([], "expected a mapping"), ({"polcy": "edf"}, "did you mean 'policy'"),
    ({"policy": "edff"}, "'edf'"), ({"schedule": {"chunk": 1}}, "no option 'chunk'"),
    ({"schedule": 3}, "mapping of settings"), ({"service_classes": {}}, "expected a list"),
    ({"service_classes": [{"name": "a", "slo": {"ttft_s": -1}}]}, "[0].slo.ttft_s"),
    ({"default_class": "a"}, "none of the service classes"), ({"journal": 3}, "name of a folder"),
    ({"calibrate": "yes"}, "true or false"), ({"step_time": "no-such-file"}, "no-such-file"),
    ({"fleet": "no-such-file.yaml"}, "no-such-file.yaml"),
    ({"fleet": "f", "policy": "edf"}, "exclude each other")])
def test_mistakes_are_told_in_one_line(document: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        embedded_options(document)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_replica_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    with pytest.raises(InputError, match="has 2, counted from 0"):
        embedded_options({"fleet": str(tmp_path / "fleet.yaml"), "replica": 2})


def test_a_missing_environment_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "/no/such/file")
    with pytest.raises(InputError, match=ENVIRONMENT):
        embedded_options(None)


def test_the_engines_limits_bind() -> None:
    schedule = scheduler_options("penstock", kv_watermark=0.5)
    found = limited(schedule, max_num_seqs=4, max_step_tokens=100, kv_blocks=10,
                    longest_blocks=8)
    assert (found.max_num_seqs, found.max_step_tokens, found.chunk_tokens) == (4, 100, 100)
    assert int(found.kv_watermark * 10) == 2  # the longest request still fits
    assert limited(schedule, 4, 100, 10, 10).kv_watermark == 0.0


def test_a_journal_can_hold_the_schedule() -> None:
    schedule = scheduler_options("niyama", chunk_tokens=3)
    document = schedule_document(schedule)
    assert schedule_options(document.pop("policy"), **document) == schedule
