"""Compiles the hot rooms to native code while a wheel is built, where a C compiler is at hand.

The modules are plain typed Python and run as they are; mypyc makes the same files about three times
faster. Without a compiler, or with PENSTOCK_PURE=1, the wheel simply holds Python.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "core/request.py", "core/step.py", "core/units.py",
    "perf/step_time/calibration.py", "perf/step_time/knee.py", "perf/step_time/linear.py",
    "perf/loading/host_loads.py", "perf/loading/host_memory.py",
    "policy/multiplex/beliefs.py", "policy/multiplex/device.py", "policy/multiplex/drains.py",
    "policy/multiplex/evict.py", "policy/multiplex/fairness.py", "policy/multiplex/infeasible.py",
    "policy/multiplex/joining.py", "policy/multiplex/options.py", "policy/multiplex/penstock.py",
    "policy/multiplex/queues.py", "policy/multiplex/values.py", "policy/multiplex/visits.py",
    "policy/multiplex/worth.py",
    "policy/route/accounts.py", "policy/route/affinity.py", "policy/route/joint/assign.py",
    "policy/route/joint/prospects.py", "policy/route/joint/router.py",
    "policy/route/simple.py", "policy/route/usual.py",
    "predict/latency.py", "predict/length.py",
    "policy/kv/counting.py", "policy/kv/prefix.py",
    "policy/schedule/adaptable.py", "policy/schedule/chunking.py", "policy/schedule/draft.py",
    "policy/schedule/groups.py",
    "policy/schedule/kv_accounting.py", "policy/schedule/order.py", "policy/schedule/prompts.py",
    "policy/schedule/pacing.py", "policy/schedule/pacing_niyama.py",
    "policy/schedule/pacing_penstock.py", "policy/schedule/relegation.py",
    "policy/schedule/replica.py", "policy/schedule/sequence.py",
    "sim/cluster.py", "sim/kernel.py", "sim/oracle.py",
    "sim/recorder.py", "sim/replica.py", "sim/multiplex/driver.py",
    "sim/multiplex/pool.py", "sim/timeline.py",
    "perf/step_time/clock.py",
)


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds native modules to the wheel, or nothing."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("PENSTOCK_PURE"):
            return
        if not _compiler():
            self.app.display_warning("no C compiler: penstock is installed as pure Python")
            return
        folder = Path(tempfile.mkdtemp(prefix="penstock-build-"))
        try:
            built = _compile(Path(self.root), folder)
        except (Exception, SystemExit) as error:  # a wheel without native code is still a wheel
            self.app.display_warning(f"compiling failed ({error}): installing pure Python")
            return
        for path in built:
            build_data["force_include"][str(path)] = str(path.relative_to(folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _compiler() -> bool:
    names = [(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]
    include = Path(sysconfig.get_path("include")) / "Python.h"
    return include.is_file() and any(shutil.which(name) for name in names)


def _compile(root: Path, folder: Path) -> list[Path]:
    """Native modules, laid out under ``folder / "lib"`` as they go into the wheel."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    source = folder / "src"
    shutil.copytree(root / "src" / "penstock", source / "penstock")
    before, arguments = Path.cwd(), sys.argv
    os.chdir(source)
    sys.argv = ["setup.py", "build_ext"]
    try:
        options = ["--ignore-missing-imports", "--follow-imports=silent"]
        modules = mypycify([*options, *(f"penstock/{name}" for name in COMPILED)], opt_level="3",
                           debug_level="0", target_dir=str(folder / "c"))
        distribution = Distribution({"name": "penstock", "ext_modules": modules})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "o")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
        sys.argv = arguments
    return sorted(path for path in (folder / "lib").rglob("*") if path.is_file())
