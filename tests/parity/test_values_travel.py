"""Values of compiled rooms reach other processes, in the native build as in pure Python."""

import ast
import pickle
import runpy
from dataclasses import is_dataclass
from importlib import import_module

import pytest

from penstock.core.decision import ACCEPT, Reject, Relax, Route
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepTime
from penstock.fleet.load import load_fleet
from penstock.perf.step_time.calibration import biased
from penstock.policy.multiplex.options import MultiplexOptions
from penstock.predict.latency import LatencyPrior
from penstock.registry.step_times import published_step_time

MODEL = published_step_time("vidur-a100-llama-3-8b")
VALUES = [ACCEPT, Relax("late"), Reject("full", 2.0), Route(3, {"load": 1.0}, {}, Reject("full")),
          ServiceClass("a", Slo(ttft_s=1.0)), StepTime(1.0, 0.5, 2.0, {"dense": 1.0}), MODEL,
          biased(MODEL, 1.2), MultiplexOptions(), LatencyPrior(MODEL, 8)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_the_same_on_the_other_side(value):
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("name", ["quickstart", "ten-models", "speculation"])
def test_a_fleet_is_the_same_on_the_other_side(name, repository):
    fleet = load_fleet(repository / "examples" / f"{name}.yaml")
    assert pickle.loads(pickle.dumps(fleet)) == fleet


def frozen_dataclasses(repository):
    """Every frozen dataclass of a compiled module, as (module, name)."""
    compiled = runpy.run_path(str(repository / "hatch_build.py"))["COMPILED"]
    for path in compiled:
        source = (repository / "src" / "penstock" / path).read_text()
        module = "penstock." + path.removesuffix(".py").replace("/", ".")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and any(
                    "frozen=True" in ast.unparse(one) for one in node.decorator_list):
                yield module, node.name


def test_every_frozen_dataclass_of_a_compiled_room_tells_how_it_is_made_again(repository):
    pytest.importorskip("hatchling")
    found = list(frozen_dataclasses(repository))
    assert ("penstock.perf.step_time.knee", "KneeStepTime") in found
    for module, name in found:
        one = getattr(import_module(module), name)
        assert is_dataclass(one)
        assert "__reduce__" in vars(one), f"{module}.{name}"
