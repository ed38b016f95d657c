"""Fixtures that every test may use."""

import gc
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

REPOSITORY = Path(__file__).resolve().parents[1]
# Tests import support.NAME; importlib mode puts no folder on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from penstock.policy.schedule import replica  # noqa: E402
from support.scaled_examples import UNIT_EXAMPLES  # noqa: E402  (it lies beside this file)

# Processes that tests start, the workers of xdist among them, share what Python compiles.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Matrices are small here, and threads of several test processes would wait for each other's cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts its background jobs deaf to interrupts, and their processes inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A test that wants processes asks for them.
os.environ["PENSTOCK_JOBS"] = "1"
# Tables go by it, and what runs the tests may set it.
os.environ.pop("COLUMNS", None)
# No entry of a test's run gets into the user's store; tests of the store name their own.
os.environ["PENSTOCK_RUNS"] = "off"
# The same examples on every run. `--hypothesis-profile=explore` draws fresh ones; with `unshrunk`
# the first example that fails is shown instead of the smallest.
settings.register_profile("ci", max_examples=round(100 * UNIT_EXAMPLES), derandomize=True,
                          database=None, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unshrunk", settings.get_profile("ci"),
                          phases=[Phase.explicit, Phase.generate])
settings.register_profile("explore", settings.get_profile("unshrunk"), derandomize=False)
settings.load_profile("ci")
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
# A file that uses one of these starts processes.
STARTERS = {"subprocess", "process", "run_on_terminal", "serve_ten"}


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker of xdist collect other files first, where all are collected.

    To compile the tests of a fresh checkout takes 20 s. What one worker has compiled, the others
    find when they come to it.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or config.args != config.getini("testpaths"):
        return
    files = sorted(str(path) for path in Path(__file__).parent.rglob("test_*.py"))
    first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    config.args[:] = files[first:] + files[:first]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks that follow from what a test uses, so that nobody forgets them."""
    no_browser = pytest.mark.skip(reason="chromium is not installed")
    native = not replica.__file__.endswith(".py")
    too_long = pytest.mark.skip(reason="long in Python: .ci/run tries it with native code, and "
                                       "PENSTOCK_LONG=1 here")
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
        if item.path.is_relative_to(REPOSITORY / "tests" / "engines"):
            item.add_marker("engine")
        if STARTERS & vars(getattr(item, "module", item)).keys():
            item.add_marker("process")
        if item.get_closest_marker("browser") and shutil.which("chromium") is None:
            item.add_marker(no_browser)
        if item.get_closest_marker("long") and not native and "PENSTOCK_LONG" not in os.environ:
            item.add_marker(too_long)
    # Pages take longest. They come first, so that no worker is left with one at the end. The rest
    # goes by path: the workers of xdist have to agree, and each began with other files.
    items.sort(key=lambda item: (item.path.name != "test_public_docs.py", item.path))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from the objects of collection, which live until the end.

    To look through them again and again took an eighth of the suite's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real traces and measurements are not at {SHARED_DATA}")
    return SHARED_DATA
