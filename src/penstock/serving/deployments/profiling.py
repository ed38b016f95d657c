"""Profiles of registered models: measured by ``penstock profile`` in a process, or adopted."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.engines import process
from penstock.serving.deployments.choice import profile_runs
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import SIMULATED, Command, penstock_command
from penstock.serving.deployments.deployments import Deployment, Instance
from penstock.serving.deployments.engines import EngineError

_LOOK_S = 0.1
_PROFILERS = {SIMULATED: "sim", "emulate": "sim", "llamacpp": "llamacpp", "vllm": "vllm"}


class Profiler:
    """Measures fingerprints of a deployment's model, or adopts an existing profile."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def profile(self, one: Deployment, options: Mapping[str, Any],
                      begun: Callable[[Instance], None]) -> str:
        """Return the path of the profile. ``options`` has either the ``path`` of a profile to
        adopt, or ``engine``, ``precisions``, ``design``, ``depths``, ``budget_s``, ``seed`` and
        ``settings`` as `penstock profile fingerprint` has them. Raises EngineError, InputError."""
        if path := options.get("path"):
            return await asyncio.to_thread(self._checked, one, Path(path))
        folder = self._cluster.profile_folder(one.name)
        log = self._cluster.log_file(f"{one.name}.profile")
        command = self._command(one, options, folder)
        with log.open("ab") as file:
            gated = process.begin(command.argv, process.environment(command.environment), file,
                                  self._cluster.run_folder(one.name))
        instance = Instance("", gated.pid, process.started_mark(gated.pid), str(log))
        try:
            begun(instance)
        except BaseException:
            gated.shut()
            raise
        gated.open()
        while process.is_same(instance.pid, instance.started):
            await asyncio.sleep(_LOOK_S)
        if not folder.exists():
            raise EngineError(f"the profiler measured nothing{process.last_words(log)}")
        return await asyncio.to_thread(self._checked, one, folder)

    def _checked(self, one: Deployment, path: Path) -> str:
        profile_runs(path, one.model, self._cluster.model(one.model).spec)
        return str(path.resolve())

    def _command(self, one: Deployment, options: Mapping[str, Any], folder: Path) -> Command:
        choice = self._cluster.model(one.model)
        engine = options.get("engine") or _PROFILERS.get(one.engine)
        if engine is None:
            raise InputError(f"engine: {one.engine} is not measured; expected the engine of the "
                             f"measurements, one of {', '.join(sorted({*_PROFILERS.values()}))}")
        settings = dict(options.get("settings") or {})
        if engine == "sim":
            settings.setdefault("accelerator", self._cluster.accelerator.name)
            settings.setdefault("accelerators", len(self._cluster.devices()))
        precisions = options.get("precisions") or (
            choice.precisions if engine == "sim" else ())
        more = [part for name, option in (("design", "--design"), ("budget_s", "--budget-s"),
                                          ("seed", "--seed"))
                if options.get(name) is not None for part in (option, str(options[name]))]
        if depths := options.get("depths"):
            more += ["--depths", ",".join(map(str, depths))]
        if precisions:
            more += ["--precision", ",".join(precisions)]
        more += [part for key, value in settings.items()
                 for part in ("--with", f"{key}={str(value).lower()}")]
        return Command(penstock_command("profile", "fingerprint",
                                        choice.config or choice.spec.name, "--engine", engine,
                                        "--out", str(folder), *more), "")

