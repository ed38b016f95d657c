"""``--jobs`` and ``--on``: the same output wherever the pieces of a command are computed."""

import csv
import gzip
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import get_type_hints

import pytest

from penstock.cli.options import Jobs, On
from penstock.published.autoscalers import run as autoscalers
from penstock.published.inferno.loop import run as inferno_loop
from penstock.published.maveriq import against, replay
from penstock.published.measured import fit
from penstock.published.measured import run as measured
from penstock.published.niyama import run as niyama
from penstock.published.routebalance import run as routebalance
from penstock.published.sincere import run as sincere
from penstock.published.sincere import what_if
from penstock.registry.sources import SYSTEMS
from support.all_commands import commands
from support.fingerprint_world import cuts_of, whole_runs, write
from support.kernel_tables import write_tables
from support.long_params import with_long
from support.measured_rows import write_measured
from support.places import answers

SCALED = """\
name: scaled
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 4, itl_s: 0.1}}]
traffic:
  - {lengths: {prompt: {fixed: 4000}, output: {fixed: 50}}, rate_per_s: 2, duration_s: 30}
  - {lengths: {prompt: {fixed: 4000}, output: {fixed: 50}}, rate_per_s: 6, duration_s: 30,
     start_s: 30}
replicas: [{count: 1, max_replicas: 3}]
scaling: {start_s: 20}
policies: {schedule: penstock, scale: {name: hpa, target: 16}}
"""
MIXED = ("--set", "traffic[0].num_requests=40", "--set", "traffic[1].num_requests=20")
COMMANDS = {
    "policies": ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--seeds", 2),
    "rates": ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--rate", "4,8"),
    "pools": ("compare", "mixed.yaml", "--policies", "penstock,sarathi", *MIXED),
    "grid": ("compare", "fleet.yaml", "--grid", "traffic[0].rate_per_s=4,8", "--seeds", 2),
    "scalers": ("compare", "scaled.yaml", "--scale", "penstock,static"),
    "capacity": ("capacity", "fleet.yaml", "--seeds", 3, "--tolerance", 0.2),
    "plan": ("plan", "unsized.yaml", "--no-report", "--what-if", "traffic[0].rate_per_s=9"),
    "grid of SINCERE": ("lab", "experiment", "sincere", "--policies", "sincere-select-batch-timer",
                        "--patterns", "gamma", "--rates", 4, "--slas", 40, "--seeds", 2,
                        "--duration-s", 60),
    "models on one node": ("lab", "place", "llama-2-7b=2", "llama-2-70b=0.2", "--train", "maveriq",
                           "--requests", 60),
    "rates of engines": ("profile", "fit", "rates", "measured", "--folds", 2),
}
IN_PROCESSES = ("capacity",)
WRITES = ("plan", "grid of SINCERE")


@pytest.fixture(autouse=True)
def _fleets(folder: Path, repository: Path) -> None:
    (folder / "scaled.yaml").write_text(SCALED)
    (folder / "mixed.yaml").write_text((repository / "examples" / "mixed.yaml").read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_place_changes_nothing(name: str, penstock, folder: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "models on one node":
        (folder / "maveriq").mkdir()
        write(folder / "maveriq" / "full_model_data_collection.csv", whole_runs())
        write(folder / "maveriq" / "fingerprint_data_collection.csv", cuts_of())
    if name == "rates of engines":
        _points(folder, monkeypatch)
    found = answers(penstock, COMMANDS[name], folder, monkeypatch, writes=name in WRITES,
                    processes=name in IN_PROCESSES)
    if name == "plan":
        for _, document, files in found.values():
            del document["timing"], files["plan.json"]
    first, *others = found.values()
    assert others == [first] * len(others)


def _points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "measured").mkdir()
    for module in (fit, measured):
        monkeypatch.setattr(module, "_PIECE", 12)
    write_measured(folder / "measured", *({"load_value": load, "osl": 8 + size,
                                           "tpot_mean": 0.006 + 1e-4 * load,
                                           "output_tok_per_s": 900 * load / 6}
                                          for load in (1, 2, 4, 8) for size in range(10)))
    return folder / "measured"


# -- reproductions ------------------------------------------------------------------------------


def _inferno_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = inferno_loop.emulated_run
    monkeypatch.setattr(inferno_loop, "SEEDS", 2)
    monkeypatch.setattr(inferno_loop, "emulated_run", lambda rng: islice(walk(rng), 12))


def _llm_d_slo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = autoscalers.example_fleet
    monkeypatch.setattr(autoscalers, "example_fleet", lambda name, overrides: example(
        name, overrides | {"run.num_requests": 80}))


def _kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for system in ("q1", "q2"):
        write_tables(folder / "tables", system=system)
    return folder / "tables"


def _inferno(folder: Path, data: Path, _: pytest.MonkeyPatch) -> Path:
    kept = folder / "inferno"
    kept.mkdir()
    for name in ("golden_queue_v1.json", "golden_queue_v2.json", "golden_candidates.json",
                 "sample_v1", "sample_v2"):
        (kept / name).symlink_to(data / "inferno" / name)
    return kept


def _maveriq(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(replay, "JUDGED", dict(islice(replay.JUDGED.items(), 2)))
    return data / "maveriq"


def _maveriq_plans(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sides = against._sides
    monkeypatch.setattr(against, "_sides", lambda *of: [
        side._replace(systems=side.systems[:1]) for side in islice(sides(*of), 1, 2)])
    monkeypatch.setattr(against, "INTENTS", against.INTENTS[:1])
    return data / "maveriq"


def _niyama(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(niyama, "TRACES", dict(islice(niyama.TRACES.items(), 2)))
    monkeypatch.setattr(niyama, "RATE_STEP", 2.0)
    (folder / "niyama").mkdir()
    name = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"
    (folder / "niyama" / name).symlink_to(data / "niyama" / name)
    return folder / "niyama"


def _routebalance(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in (("RATES", (6.0,)), ("NUM_SEEDS", 1), ("_MIX_STEP", 1)):
        monkeypatch.setattr(routebalance, name, value)
    return data / "routebalance"


def _sincere(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    read, cases = sincere.read_runs, what_if._cases
    monkeypatch.setattr(sincere, "read_runs", lambda of: [
        run for run in read(of) if run.strategy == what_if.ARRIVALS_OF][::36])
    monkeypatch.setattr(what_if, "_cases", lambda: cases()[:2])
    return data / "sincere"


def _vidur(folder: Path, data: Path, _: pytest.MonkeyPatch) -> Path:
    """Two files of few requests."""
    (folder / "vidur").mkdir()
    source = next((data / "vidur").glob("*requests.csv*"))
    with gzip.open(source, "rt", newline="") as file:
        header, *rows = islice(csv.reader(file), 101)
    for name in ("one", "other"):
        with (folder / "vidur" / f"{name}_requests.csv").open("w", newline="") as kept:
            csv.writer(kept).writerows([header, *rows])
    return folder / "vidur"


MADE: dict[str, Callable[[Path, pytest.MonkeyPatch], Path | None]] = {
    "inferno-loop": _inferno_loop, "kernels": _kernels, "llm-d-slo": _llm_d_slo,
    "measured": _points}
SHARED: dict[str, Callable[[Path, Path, pytest.MonkeyPatch], Path]] = {
    "inferno": _inferno, "maveriq": _maveriq, "maveriq-plans": _maveriq_plans, "niyama": _niyama,
    "routebalance": _routebalance, "sincere": _sincere, "vidur": _vidur}


LONG = ("inferno-loop", "maveriq", "maveriq-plans", "niyama", "sincere")


@pytest.mark.parametrize("system", with_long(SYSTEMS.names(), LONG))
def test_the_place_changes_no_reproduction(system: str, penstock, folder: Path,
                                           request: pytest.FixtureRequest,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    if system in MADE:
        data = MADE[system](folder, monkeypatch)
    else:
        data = SHARED[system](folder, request.getfixturevalue("shared_data"), monkeypatch)
    more = ("--requests", 400 if system == "niyama" else 100) \
        if "requests" in SYSTEMS.entry(system).settings else ()
    found = answers(penstock, ("lab", "reproduce", system, *more,
                               *(("--data", data) if data else ())), folder, monkeypatch,
                    writes=True)
    first, *others = found.values()
    assert others == [first] * len(others)
    assert first[2]


OF_ONE_RUN = ("run", "simulate")
"""Their processes share one simulation, so that they stay on one machine."""


def test_every_command_with_jobs_may_go_to_ray_and_is_tried_here() -> None:
    with_jobs = set()
    for words, function in commands():
        kinds = list(get_type_hints(function, include_extras=True).values())
        assert (Jobs in kinds) == (On in kinds or words in OF_ONE_RUN), words
        if On in kinds:
            with_jobs.add(words)
    tried = {" ".join(word for word in command[:3] if isinstance(word, str))
             for command in COMMANDS.values()} | {"lab reproduce"}
    assert {words for words in with_jobs
            if not any(f"{one} ".startswith(f"{words} ") for one in tried)} == set()
    assert len(with_jobs) == 7


def test_the_old_name_of_jobs_is_told_the_new_one(penstock) -> None:
    done = penstock("compare", "fleet.yaml", "--grid", "run.seed=1", "--workers", 1, "--json")
    assert done.status == 0
    assert done.err == "`--workers` is now `--jobs`; the old name goes with the next release\n"
    assert len(done.json) == 1


@pytest.mark.parametrize("place", ["spark", "ray:", "ray:there", "ray://", "ray:there:x"])
def test_other_places_are_refused(penstock, place: str) -> None:
    done = penstock("capacity", "fleet.yaml", "--on", place)
    assert (done.status, done.out) == (2, "")
    assert "expected ray, ray:HOST:PORT or ray://HOST:PORT" in done.err
