"""Small Inferno bundles for tests: two models on two accelerators, in both schemas."""

import copy
import json
from pathlib import Path
from typing import Any

from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.values import System

V2 = {"system": {
    "acceleratorData": {"accelerators": [
        {"name": "A", "type": "A", "multiplicity": 1, "cost": 40.0,
         "power": {"idle": 150, "full": 400}},
        {"name": "2xA", "type": "A", "multiplicity": 2, "cost": 80.0},
        {"name": "B", "type": "B", "multiplicity": 1, "cost": 23.0}]},
    "capacityData": {"count": [{"type": "A", "count": 240}, {"type": "B", "count": 120}]},
    "modelData": {"models": [
        {"name": "small", "acc": "A", "accCount": 1, "maxBatchSize": 64, "atTokens": 512,
         "perfParms": {"alpha": 20.58, "beta": 0.041, "gamma": 0.00128}},
        {"name": "small", "acc": "2xA", "accCount": 1, "maxBatchSize": 128, "atTokens": 512,
         "perfParms": {"alpha": 10.29, "beta": 0.0205, "gamma": 0.00064}},
        {"name": "small", "acc": "B", "accCount": 1, "maxBatchSize": 76, "atTokens": 512,
         "perfParms": {"alpha": 17.15, "beta": 0.034, "gamma": 0.00107}},
        {"name": "large", "acc": "A", "accCount": 4, "maxBatchSize": 20, "atTokens": 512,
         "perfParms": {"alpha": 27.41, "beta": 0.707, "gamma": 0.02209}},
        {"name": "large", "acc": "B", "accCount": 4, "maxBatchSize": 24, "atTokens": 512,
         "perfParms": {"alpha": 22.84, "beta": 0.589, "gamma": 0.01841}}]},
    "serviceClassData": {"serviceClasses": [
        {"name": "Premium", "priority": 1, "modelTargets": [
            {"model": "small", "slo-itl": 40, "slo-ttft": 1000},
            {"model": "large", "slo-itl": 80, "slo-ttft": 1000}]},
        {"name": "Free", "priority": 3, "modelTargets": [
            {"model": "small", "slo-itl": 160, "slo-ttft": 4000},
            {"model": "large", "slo-itl": 320, "slo-ttft": 4000}]}]},
    "serverData": {"servers": [
        {"name": f"{name}-{model}", "class": name, "model": model, "currentAlloc": {
            "load": {"ArrivalRate": rate, "AvgInTokens": 128, "avgOutTokens": 1024}}}
        for name, rate in (("Premium", 60), ("Free", 120)) for model in ("small", "large")]},
    "optimizerData": {"optimizer": {"saturationPolicy": "RoundRobin"}}}}

FILES = {"acceleratorData": "accelerator-data.json", "capacityData": "capacity-data.json",
         "modelData": "model-data.json", "serviceClassData": "serviceclass-data.json",
         "serverData": "server-data.json", "optimizerData": "optimizer-data.json"}


def document(schema: str = "v2") -> dict[str, Any]:
    """A bundle of its own, free to be changed."""
    made = copy.deepcopy(V2)
    if schema == "v1":
        for model in made["system"]["modelData"]["models"]:
            parms = model.pop("perfParms")
            model["decodeParms"] = {"alpha": parms["alpha"], "beta": 10 * parms["beta"]}
            model["prefillParms"] = {"gamma": 8 * parms["alpha"], "delta": parms["beta"] / 3}
    return made


def rows(made: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """The rows of a part, to be changed in place."""
    return next(iter(made["system"][part].values()))


def server(made: dict[str, Any], name: str) -> dict[str, Any]:
    """One server's row."""
    return next(row for row in rows(made, "serverData") if row["name"] == name)


def system(schema: str = "v2") -> System:
    """The bundle, read."""
    return parse_bundle(document(schema), "body")


def write(folder: Path, made: dict[str, Any] | None = None) -> Path:
    """The bundle as a folder of files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in (made or document())["system"].items():
        (folder / FILES[part]).write_text(json.dumps(content))
    return folder
