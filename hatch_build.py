"""Compiles the hot rooms to native code while a wheel is built, where a C compiler is at hand.

The modules are plain typed Python and run as they are; mypyc makes the same files about three times
faster. Without a compiler, or with PENSTOCK_PURE=1, the wheel simply holds Python. With
PENSTOCK_NATIVE=1 a wheel that cannot be compiled is an error, and where no C compiler is installed
pip brings one (ziglang, a wheel of 80 MB).

The C compiler runs once per core at a time. What was built is kept in the user's cache folder and
taken from there while sources, Python, mypy and compiler are the same; PENSTOCK_BUILD_CACHE=0
turns that off.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "core/decision.py", "core/heaps.py", "core/request.py", "core/slo.py", "core/snapshot.py",
    "core/step.py", "core/units.py", "core/value.py",
    "engines/client/sse.py",
    "perf/step_time/calibration.py", "perf/step_time/decode_times.py",
    "perf/step_time/knee.py", "perf/step_time/linear.py",
    "perf/loading/host_loads.py", "perf/loading/host_memory.py",
    "policy/keep.py",
    "policy/multiplex/beliefs.py", "policy/multiplex/device.py", "policy/multiplex/drains.py",
    "policy/multiplex/evict.py", "policy/multiplex/fairness.py", "policy/multiplex/infeasible.py",
    "policy/multiplex/joining.py", "policy/multiplex/options.py", "policy/multiplex/penstock.py",
    "policy/multiplex/queues.py", "policy/multiplex/values.py", "policy/multiplex/visits.py",
    "policy/multiplex/worth.py",
    "policy/route/accounts.py", "policy/route/affinity.py", "policy/route/joint/assign.py",
    "policy/route/near_adapter.py",
    "policy/route/joint/prospects.py", "policy/route/joint/router.py",
    "policy/route/outstanding.py", "policy/route/prefix.py", "policy/route/reuse.py",
    "policy/route/sent.py", "policy/route/simple.py", "policy/route/usual.py",
    "policy/scale/demand.py",
    "predict/latency.py", "predict/length.py",
    "policy/kv/counting.py", "policy/kv/protocol.py", "policy/kv/index.py", "policy/kv/prefix.py",
    "policy/kv/retained.py", "policy/kv/shared.py", "policy/kv/tiers.py",
    "policy/schedule/adaptable.py", "policy/schedule/adapter_prompts.py",
    "policy/schedule/adapters.py",
    "policy/schedule/chunking.py", "policy/schedule/draft.py",
    "policy/schedule/drafting.py", "policy/schedule/groups.py",
    "policy/schedule/kv_accounting.py", "policy/schedule/order.py", "policy/schedule/prompts.py",
    "policy/schedule/pacing.py", "policy/schedule/pacing_niyama.py",
    "policy/schedule/pacing_penstock.py", "policy/schedule/programs.py",
    "policy/schedule/relegation.py",
    "policy/schedule/replica.py", "policy/schedule/sequence.py",
    "serving/gateway/relay.py",
    "policy/route/roles.py",
    "sim/cluster.py", "sim/dispatch.py", "sim/drafted_oracle.py", "sim/drafted_recorder.py",
    "sim/flusher.py", "sim/handover.py", "sim/inbox.py", "sim/int_rows.py",
    "sim/kernel.py", "sim/oracle.py",
    "sim/recorder.py", "sim/replica.py", "sim/reuse.py", "sim/scaling/holding.py",
    "sim/scaling/loop.py", "sim/scaling/meter.py", "sim/scaling/slots.py",
    "sim/multiplex/driver.py", "sim/multiplex/pool.py", "sim/timeline.py", "sim/upcoming.py",
    "perf/step_time/clock.py",
)


KEPT_BUILDS = 4  # about 5 MB each
# Zig compiles C for the processor at hand unless told; a wheel may go to another one.
ZIG = (sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds native modules to the wheel, or nothing."""

    def dependencies(self) -> list[str]:
        """Return the C compiler that pip has to bring, where native code is demanded."""
        wanted = os.environ.get("PENSTOCK_NATIVE") and not os.environ.get("PENSTOCK_PURE")
        return ["ziglang>=0.15"] if wanted and _compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable" or os.environ.get("PENSTOCK_PURE"):
            return
        compiler = _compiler()
        if compiler is None:
            self._done_without("no C compiler")
            return
        folder = Path(tempfile.mkdtemp(prefix="penstock-build-"))
        try:
            if compiler == list(ZIG):
                os.environ["CC"] = shlex.join(ZIG)
            library = _built(Path(self.root), folder, compiler)
        except (Exception, SystemExit) as error:
            self._done_without(f"compiling failed ({error})")
            return
        for path in sorted(library.rglob("*")):
            if path.is_file():
                build_data["force_include"][str(path)] = str(path.relative_to(library))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _done_without(self, reason: str) -> None:
        """Warn that the wheel holds Python alone, or raise where native code is demanded."""
        if os.environ.get("PENSTOCK_NATIVE"):
            raise RuntimeError(f"{reason}, and PENSTOCK_NATIVE asks for native code")
        self.app.display_warning(f"{reason}: penstock is installed as pure Python")


def _compiler() -> list[str] | None:
    """The command of a C compiler that finds Python's headers."""
    usual = (sysconfig.get_config_var("CC") or "cc").split()
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return None
    for names in (usual, ["cc"], ["gcc"], ["clang"]):
        if shutil.which(names[0]):
            return names
    return list(ZIG) if find_spec("ziglang") else None


def _built(root: Path, folder: Path, compiler: Sequence[str]) -> Path:
    """A folder of native modules, laid out as they go into the wheel."""
    cache = _cache_folder()
    if cache is None:
        return _compile(root, folder)
    kept = cache / _key(root, compiler)
    if not kept.is_dir():
        library = _compile(root, folder)
        _keep(library, kept)
        return library
    with suppress(OSError):
        os.utime(kept)
    return kept


def _cache_folder() -> Path | None:
    if os.environ.get("PENSTOCK_BUILD_CACHE") == "0":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "penstock" / "native"
    except RuntimeError:  # a user without a home
        return None


def _key(root: Path, compiler: Sequence[str]) -> str:
    """A name for all that the native modules are made from."""
    told = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    settings = ("CC", "CFLAGS", "LDFLAGS", "LDSHARED", "EXT_SUFFIX")
    parts = [sys.version, platform.platform(), version_of("mypy"), version_of("setuptools"),
             told.decode(errors="replace"),
             *(f"{name} {sysconfig.get_config_var(name)} {os.environ.get(name)}"
               for name in settings)]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in (Path(__file__), *sorted((root / "src" / "penstock").rglob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _keep(library: Path, kept: Path) -> None:
    """Copy a build into the cache, whole or not at all, and drop the oldest ones."""
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=kept.parent))
        shutil.copytree(library, partial, dirs_exist_ok=True)
        partial.rename(kept)
        builds = sorted(kept.parent.glob("[!.]*"), key=lambda one: one.stat().st_mtime)
        for old in builds[:-KEPT_BUILDS]:
            shutil.rmtree(old, ignore_errors=True)


def _compile(root: Path, folder: Path) -> Path:
    """Compile into ``folder`` and answer the folder of the native modules."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    source = folder / "src"
    shutil.copytree(root / "src" / "penstock", source / "penstock")
    before, arguments = Path.cwd(), sys.argv
    os.chdir(source)
    sys.argv = ["setup.py", "build_ext"]
    try:
        # No installed package is read: builds are the same in an empty environment and a full one.
        options = ["--ignore-missing-imports", "--follow-imports=silent", "--no-site-packages"]
        # A C file per module, so that all cores have work. Hidden symbols make calls direct; with
        # them the code is as fast at -O1 as it was at -O3 without, and compiles in half the time.
        modules = mypycify([*options, *(f"penstock/{name}" for name in COMPILED)], opt_level="1",
                           debug_level="0", target_dir=str(folder / "c"), multi_file=True)
        for module in modules if os.name == "posix" else ():
            # All modules share the list that mypyc made.
            module.extra_compile_args = [*module.extra_compile_args, "-fvisibility=hidden"]
        distribution = Distribution({"name": "penstock", "ext_modules": modules})
        command = _parallel_build_ext()(distribution)
        command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "o")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
        sys.argv = arguments
    return folder / "lib"


def _parallel_build_ext() -> Any:
    """The command ``build_ext`` that compiles as many files at a time as there are cores."""
    from setuptools.command.build_ext import build_ext

    class ParallelBuildExt(build_ext):
        def finalize_options(self) -> None:
            super().finalize_options()
            self.parallel = os.cpu_count() or 1

        def build_extensions(self) -> None:
            one_by_one = self.compiler.compile
            with ThreadPoolExecutor(self.parallel) as pool:
                def compile_all(sources: Sequence[str], **options: Any) -> list[str]:
                    found = pool.map(lambda source: one_by_one([source], **options), sources)
                    return [made for files in found for made in files]

                self.compiler.compile = compile_all
                super().build_extensions()

    return ParallelBuildExt
