"""Documented runs of Inferno's control loop: the settings that their cycle logs do not have.

Source: llm-inferno/control-loop ``experiments/*``, ``manifests`` and ``inferno-data`` at the dates
of the runs. The runs of queue-analysis before v0.7 take prompts as one chunk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.published.inferno.loop.cycles import State

QA_TRUTH: Mapping[str, State] = {"granite_8b": (8.0, 0.016, 0.0005),
                                 "llama_13b": (12.0, 0.024, 0.00075)}
"""True parameters of the servers that queue-analysis simulates, by model."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Batch and queue of a run's servers, and the version of the analysis.

    The batch is what the log has, else ``max_batch`` where ``at_tokens`` is 0, else what fits when
    a request is ``at_tokens`` long. ``search_limit`` is the largest batch of the search in a run
    that searched it. ``truth`` has the true parameters, where the servers are simulated.
    """

    max_batch: int
    max_queue: int
    at_tokens: int = 0
    one_chunk: bool = False
    unlimited: bool = True
    search_limit: int | None = None
    truth: Mapping[str, State] | None = None


_QA_EARLY = RunSettings(128, 128, 1024, one_chunk=True, truth=QA_TRUTH)
_QA_SMALL = RunSettings(64, 128, 512, one_chunk=True, truth=QA_TRUTH)
_CPU = RunSettings(8, 16, 64, one_chunk=True)
_GPU = RunSettings(128, 64, unlimited=False)
_GPU_SEARCH = RunSettings(128, 64, unlimited=False, search_limit=128)

RUNS: Mapping[str, RunSettings] = {
    "blis-run1": RunSettings(256, 0, 512, one_chunk=True),
    "run5": RunSettings(256, 0, 512, one_chunk=True, truth=QA_TRUTH),
    "run6": _QA_SMALL, "run7b": _QA_SMALL,
    "run9": _QA_EARLY, "run10": _QA_EARLY, "run11": _QA_EARLY,
    "run12": _CPU, "run13": _CPU,
    "run15": RunSettings(128, 128, truth=QA_TRUTH),
    "run16": _GPU, "run17": _GPU, "run18": _GPU,
    "run16/armA": _GPU_SEARCH, "run17/armA": _GPU_SEARCH, "run18/armA": _GPU_SEARCH,
    "run19": RunSettings(128, 0, unlimited=False, search_limit=128),
}
"""Settings by run, or by run and the first letters of the log's name."""


def settings_for(log: Path) -> RunSettings | None:
    """Return the settings of a cycle log ``.../RUN/.../ARM-cycles.jsonl``, None for an unknown
    run."""
    run = run_of(log)
    if run is None:
        return None
    arm = log.name.partition("-")[0]
    return RUNS.get(f"{run}/{arm}", RUNS[run])


def run_of(log: Path) -> str | None:
    """Return the documented run to which a cycle log belongs."""
    return next((part for part in reversed(log.parts[:-1]) if part in RUNS), None)


def label_of(log: Path) -> str:
    """Return a short name of a log: its run, and its arm where the run has several."""
    run = run_of(log) or log.parent.name
    place = log.parts.index(run) if run in log.parts else len(log.parts) - 2
    arm = "/".join((*log.parts[place + 1:-1], log.name.removesuffix("-cycles.jsonl")))
    return run if arm == "inferno" else f"{run} {arm}"
