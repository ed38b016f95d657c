"""Profiles of a real engine at a small size: what must hold of each of them, whichever it is.

How long something took is nowhere asserted; that it was measured, and of what, is.
"""

import time
from pathlib import Path
from typing import Any

from penstock.core.model import ModelSpec
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiles.summary import profile_steps, profiled_runs, summaries
from penstock.perf.profiling.architecture import Architecture, llama_config
from penstock.perf.profiling.options import EngineOptions
from penstock.perf.profiling.protocol import ProfiledEngine
from penstock.profile.make import make_engine
from penstock.profile.measure import Effort
from penstock.profile.run import (
    Session,
    profile_batch,
    profile_fingerprint,
    profile_load,
    profile_model,
)

SPEC = ModelSpec("tiny", 4, 128, 4, 2, 32, 256, 512, 512)
ARCHITECTURE = Architecture(SPEC, llama_config(SPEC))
WHOLE = ModelConfiguration("tiny", (4,), "fp32", "fp32")
QUICK = Effort(tolerance=10.0, min_repeats=2, max_repeats=2, num_warm_ups=1)


def engine(name: str, scratch: Path, architecture: Architecture = ARCHITECTURE,
           **options: Any) -> ProfiledEngine:
    scratch.mkdir(exist_ok=True)
    return make_engine(name, architecture, time.perf_counter,
                       EngineOptions(scratch, num_threads=1, **options))


def session(found: ProfiledEngine, folder: Path, **changes: Any) -> Session:
    return Session(ARCHITECTURE, found, folder, **{"effort": QUICK, **changes})


def check_model(found: ProfiledEngine, folder: Path) -> None:
    """Prefills and decodes are measured, become steps, and are not measured again."""
    profile_model(session(found, folder), WHOLE, [8, 64], [1, 3], 5)
    profile = read_profile(folder)
    assert profile.document["status"] == "complete"
    assert not profile.is_simulated
    assert len(profile.counted) == 4 * 2
    assert len(profile.measurements) == 4 * 3
    for one in profile.counted:
        assert one.outcome == "ok"
        assert one.num_prefill_steps == 1
        assert 0.0 < one.first_token_s < one.seconds
        assert one.decode_step_s > 0.0
        assert one.memory_bytes > 0.0
        assert one.cpu_s > 0.0
    table = profile_steps(profile)
    assert sorted(set(table.prefill_tokens)) == [0, 8, 24, 64, 192]
    profile_model(session(found, folder), WHOLE, [8, 64], [1, 3], 5)
    assert read_profile(folder).measurements == profile.measurements


def check_fingerprint(found: ProfiledEngine, folder: Path, precision: tuple[str, str]) -> None:
    """Cuts and the whole model are measured in the settings that one device has room for."""
    made = profile_fingerprint(session(found, folder), "maveriq", [precision], (4,))
    assert [one["point"].split(" int")[0].split(" fp")[0].split(" bf")[0]
            for one in made.document["left_out"]] == ["tp1 pp2", "tp2 pp1"]
    runs = profiled_runs(read_profile(folder))
    assert sorted({run.num_layers for run in runs}) == [1, 2, 4]
    assert len(runs) == 3 * 4
    assert all(run.latency_s is not None for run in runs)
    assert {run.precision for run in runs} == {precision[0]}


def check_batches(found: ProfiledEngine, folder: Path, kv_tokens: int | None, largest: int,
                  prompt_tokens: int = 60) -> list[str]:
    """The sweep runs into a lack of memory, records it, and finds the edge. Returns reasons."""
    made = profile_batch(session(found, folder, kv_tokens=kv_tokens), WHOLE, prompt_tokens, 4,
                         largest)
    design = made.document["design"]
    fits, beyond = design["largest_that_fits"], design["smallest_that_does_not"]
    outcomes = {point.example.batch: point.outcome for point in summaries(made.measurements)}
    assert outcomes[fits] == "ok"
    assert outcomes[beyond] == "out_of_memory"
    assert 0 < fits < beyond <= max(fits + 1, 1.06 * fits)
    return [one.reason for one in made.measurements if one.outcome == "out_of_memory"]


def check_loads(found: ProfiledEngine, folder: Path) -> None:
    """Files are loaded cold and warm, as far as this system can tell."""
    made = profile_load(session(found, folder), [WHOLE], 2)
    rows = [one for one in made.measurements if not one.warm_up]
    loads = [one for one in rows if one.kind == "load"]
    assert len(loads) == 4
    assert len(rows) == 8
    for one in loads:
        assert one.outcome == "ok"
        assert 0.0 < one.seconds <= one.first_token_s
        assert one.file_bytes > SPEC.num_params * 4
        assert one.cache in ("cold", "warm", "partly", "unknown")
        assert (one.cached_share or 0.0) <= 0.05 or one.cache != "cold"
