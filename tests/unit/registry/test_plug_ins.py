"""A plug-in on each axis that takes one in its own way."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.catalog import load_catalog
from penstock.cli.main import main
from penstock.core.errors import InputError
from penstock.engines.engine import engine_of
from penstock.fleet.load import parse_fleet
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.build import MultiplexContext
from penstock.registry.engines import engine_can
from penstock.registry.listing import listed
from penstock.registry.make import make_multiplexer, make_placer, schedule_options
from penstock.registry.sources import read_foreign, read_trace
from penstock.registry.step_times import make_step_time
from support.installed_plug_in import plug_in
from support.small_fleet import FLEET

SOURCE = '''
import numpy as np
import typer

from penstock.core.settings import Number
from penstock.engines.engine import Engine
from penstock.perf.evidence import Evidence
from penstock.perf.profiles.imported import Imported
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.schedule.parts import SchedulerParts
from penstock.registry import PlugIn
from penstock.workload.trace import Trace

app = typer.Typer()


@app.command()
def hello() -> None:
    print("hello from outside")


def step_time(settings, context):
    assert context.accelerator.name == "a100-80gb"
    return LinearStepTime(settings.get("base_s", 0.01), 0.0, 0.0, 0.0, 0.0,
                          Evidence("a plug-in", 0.1, 0.2))


COMMAND = PlugIn(lambda: app)
ENGINE = PlugIn(lambda: Engine(called_as="openai"), traits=("serve",))
IMPORT = PlugIn(lambda path: Imported((), {"file": path.name}))
MULTIPLEX = PlugIn(lambda settings, context: ("policy", settings, len(context.models)))
PLACE = PlugIn(lambda settings: ("placer", settings))
SCHEDULE = PlugIn(lambda settings, context: SchedulerParts(), {"nerve": Number(0, 1)}, base="edf")
STEP_TIME = PlugIn(step_time, {"base_s": Number(0, 1)})
TRACE = PlugIn(lambda path: Trace(None, np.array([3, 4]), np.array([1, 2]), None, None, None,
                                   None, source=str(path)))
'''
POINTS = {f"penstock.{group}": {"outside": f"far_away:{name}"} for group, name in (
    ("command", "COMMAND"), ("engine", "ENGINE"), ("profile", "IMPORT"),
    ("multiplex", "MULTIPLEX"), ("place", "PLACE"), ("schedule", "SCHEDULE"),
    ("step_time", "STEP_TIME"), ("trace", "TRACE"))}


@pytest.fixture(autouse=True)
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    plug_in(tmp_path, "far_away", SOURCE, POINTS)
    yield tmp_path
    sys.modules.pop("far_away", None)
    engine_of.cache_clear()


def test_policies() -> None:
    assert make_placer("outside") == ("placer", {})
    context = MultiplexContext((), LoadTable([]))
    assert make_multiplexer("outside", {"a": 1}, context) == ("policy", {"a": 1}, 0)


def test_a_schedule_is_its_base_with_settings_of_its_own() -> None:
    options = schedule_options("outside", nerve=0.5, chunk_tokens=64)
    edf = schedule_options("edf", chunk_tokens=64)
    assert (options.policy, options.settings) == ("outside", (("nerve", 0.5),))
    assert (options.order, options.chunk_tokens) == (edf.order, edf.chunk_tokens)
    with pytest.raises(InputError, match="'outside': nerve: expected a number from 0 to 1"):
        schedule_options("outside", nerve=2)


def test_an_engine() -> None:
    assert engine_can("outside", "serve")
    assert not engine_can("outside", "profile")
    assert engine_of("outside").called_as == "openai"
    replicas = [{"count": 1, "engine": "outside", "endpoints": ["http://127.0.0.1:1"]}]
    assert parse_fleet(FLEET, overrides={"replicas": replicas}).replicas[0].engine == "outside"
    replicas[0]["engine"] = "outsid"
    with pytest.raises(InputError, match=r"replicas\[0\]\.engine"):
        parse_fleet(FLEET, overrides={"replicas": replicas})


def test_a_step_time() -> None:
    catalog = load_catalog()
    model, accelerator = catalog.model("llama-3-8b"), catalog.accelerator("a100-80gb")
    found = make_step_time({"kind": "outside", "base_s": 0.25}, model, accelerator)
    assert isinstance(found, LinearStepTime)
    assert found.base_s == 0.25
    with pytest.raises(InputError, match="base_s: expected a number from 0 to 1, found 2"):
        make_step_time({"kind": "outside", "base_s": 2}, model, accelerator)
    with pytest.raises(InputError, match="unknown key 'bas_s' for outside; did you mean 'base_s'"):
        make_step_time({"kind": "outside", "bas_s": 1}, model, accelerator)


def test_formats(plugged: Path) -> None:
    file = plugged / "some.log"
    file.write_text("whatever")
    assert read_trace(file, "outside").prompt_tokens.tolist() == [3, 4]
    assert read_foreign(file, "outside").subject == {"file": "some.log"}
    with pytest.raises(InputError, match="unknown trace format 'outsid'; did you mean 'outside'"):
        read_trace(file, "outsid")


def test_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outside"]) == 0
    assert capsys.readouterr().out == "hello from outside\n"
    assert main(["outsid"]) == 2
    assert capsys.readouterr().err == "error: no command 'outsid'; did you mean 'outside'?\n"


def test_the_listing_marks_plug_ins(plugged: Path) -> None:
    found = {one.axis: one.plug_in for one in listed() if one.name == "outside"}
    assert set(found.values()) == {"far_away"}
    assert len(found) == len(POINTS)
    plug_in(plugged, "broken", "", {"penstock.route": {"cracked": "broken:MISSING"}})
    from penstock.registry import axis

    axis._entry_points.cache_clear()
    cracked, = (one for one in listed() if one.name == "cracked")
    assert "cannot be imported" in cracked.problem
