"""One session of profiling: a folder is opened, work is done on an engine, the folder is closed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from penstock.core.errors import InputError
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiles.summary import PointSummary
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.counters import Gpus
from penstock.perf.profiling.machine import circumstances, describe_machine
from penstock.perf.profiling.protocol import ProfiledEngine, Room
from penstock.profile import design as designs
from penstock.profile.loading import measure_loads
from penstock.profile.measure import Clocks, Effort, OnRow, OutOfTimeError, Profiler
from penstock.profile.points import Point, by_configuration, room_for
from penstock.profile.record import Record, open_record
from penstock.profile.sweep import sweep

REAL_CLOCKS = Clocks(time.perf_counter, time.sleep, time.process_time, time.time)
_PACKAGES = ("numpy",)


@dataclass(frozen=True, slots=True)
class Session:
    """One measuring command: model, engine, folder, and precision.

    ``clock`` names what the engine's times are read from: ``wall``, the process's ``cpu`` seconds,
    or ``simulated``. ``kv_tokens`` is the room of the KV cache; None makes it as large as the
    points need. ``warnings`` are kept with the rows.
    """

    architecture: Architecture
    engine: ProfiledEngine
    folder: Path
    effort: Effort = field(default_factory=Effort)
    clocks: Clocks = REAL_CLOCKS
    clock: str = "wall"
    kv_tokens: int | None = None
    seed: int = 0
    on_row: OnRow = lambda _row, _done: None
    warnings: Sequence[str] = ()

    @property
    def subject(self) -> dict[str, Any]:
        """Subject of the measurements."""
        weights = self.architecture.weights
        shape = asdict(self.architecture.spec)
        del shape["source"]  # a path, which may be told in more than one way
        return {"simulated": False, **self.engine.describe(), "model": self.architecture.name,
                "architecture": shape, "clock": self.clock,
                "weights_from": f"random, seed {self.seed}" if weights is None
                else str(weights.resolve())}

    def machine(self, gpus: Gpus) -> dict[str, Any]:
        """Machine of the measurements; empty for simulated ones."""
        if self.subject["simulated"]:
            return {"host": "none: simulated"}
        return {**describe_machine(_PACKAGES), "gpus": gpus.describe()}

    def conduct(self, kind: str, design: Mapping[str, Any], work: Callable[[Profiler], None]
                ) -> Record:
        """Do the work and record it; a budget that is spent ends it early. Raises InputError for a
        folder of something else."""
        gpus = Gpus()
        record = open_record(self.folder, kind, self.subject, self.machine(gpus),
                             {**design, "effort": asdict(self.effort), "seed": self.seed},
                             circumstances(), self._now())
        profiler = Profiler(self.engine, record, self.effort, self.clocks, gpus, self.on_row)
        if self.warnings:
            record.document["warnings"] = list(self.warnings)
        status = "failed"
        try:
            work(profiler)
            status = "complete"
        except OutOfTimeError:
            status = "out_of_time"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            try:
                profiler.unload()
            finally:
                record.end(status, circumstances(), self._now())
        return record

    def _now(self) -> str:
        return datetime.fromtimestamp(self.clocks.wall(), UTC).isoformat(timespec="seconds")


def profile_points(session: Session, kind: str, points: Sequence[Point],
                   design: Mapping[str, Any], left_out: Mapping[str, str] | None = None) -> Record:
    """Measure points, configuration by configuration."""
    groups = by_configuration(points, Random(session.seed))

    def work(profiler: Profiler) -> None:
        for what, reason in (left_out or {}).items():
            profiler.record.leave_out(what, reason)
        profiler.measure_all(groups, session.kv_tokens)

    return session.conduct(kind, {**design, "points": designs.document(points)}, work)


def profile_model(session: Session, configuration: ModelConfiguration, prompts: Sequence[int],
                  batches: Sequence[int], output_tokens: int) -> Record:
    """Prefills and decodes of one configuration over prompts and batches."""
    session.engine.check(configuration)
    points = designs.model_points(configuration, prompts, batches, output_tokens,
                                  session.architecture.spec.max_context_tokens)
    return profile_points(session, "model", points, {})


def profile_fingerprint(session: Session, design: str, precisions: Sequence[tuple[str, str]],
                        extra_layers: Sequence[int] = ()) -> Record:
    """Cuts of PP and PP + 1 layers, beyond leading dense ones of a mixture, in every setting that
    the engine can run.

    ``extra_layers`` are further depths, such as the whole model's, in the setting of one
    accelerator. What cannot be run is left out and noted.
    """
    architecture, engine = session.architecture, session.engine
    settings, too_many = designs.fingerprint_settings(design, precisions,
                                                      engine.most_accelerators())
    left_out = {one.name: f"takes {one.parallelism.num_accelerators} accelerators; the engine "
                          f"has {engine.most_accelerators()} here" for one in too_many}
    most, lead = architecture.spec.max_context_tokens, architecture.spec.leading_dense_layers
    points: list[Point] = []
    problem: InputError | None = None
    for setting in settings:
        try:
            found = designs.fingerprint_points(design, architecture.name, setting, most, lead)
            for point in found:
                architecture.cut(point.configuration.num_layers)
            engine.check(found[0].configuration)
        except InputError as error:
            problem, left_out[setting.name] = error, str(error)
            continue
        points += found
        if setting.parallelism.num_accelerators == 1:
            shapes = [point for point in found if point.configuration.num_layers == lead + 1]
            points += [Point(designs.spread(architecture.cut(num).name, num, setting), one.batch,
                             one.prompt_tokens, one.output_tokens)
                       for num in extra_layers if num > lead + 2 for one in shapes]
    if not points:
        raise problem or InputError("no setting of the design fits on this engine")
    chosen = {"design": design} | ({"leading_dense_layers": lead} if lead else {})
    return profile_points(session, "fingerprint", points, chosen, left_out)


def profile_batch(session: Session, configuration: ModelConfiguration, prompt_tokens: int,
                  output_tokens: int, largest: int, sizes: Sequence[int] = ()) -> Record:
    """Batches of equal requests, up to the largest that fits."""
    session.engine.check(configuration)
    room = Room(largest, prompt_tokens + output_tokens, session.kv_tokens)
    design: dict[str, Any] = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens,
                              "largest": largest, "sizes": list(sizes)}

    def work(profiler: Profiler) -> None:
        def measure(size: int) -> PointSummary:
            return profiler.measure(Point(configuration, size, prompt_tokens, output_tokens), room)

        fits, too_large = sweep(measure, largest, sizes)
        profiler.record.document["design"] |= {"largest_that_fits": fits,
                                               "smallest_that_does_not": too_large}

    return session.conduct("batch", design, work)


def profile_load(session: Session, configurations: Sequence[ModelConfiguration], num_loops: int
                 ) -> Record:
    """Loads and unloads, from a cold page cache and from a warm one."""
    for configuration in configurations:
        session.engine.check(configuration)

    def work(profiler: Profiler) -> None:
        for configuration in configurations:
            room = room_for([Point(configuration, 1, 1, 1)], session.kv_tokens)
            measure_loads(profiler, configuration, room, num_loops)

    return session.conduct("load", {"num_loops": num_loops, "configurations": [
        one.label for one in configurations]}, work)

