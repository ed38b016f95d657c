"""Fixtures that every test may use."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

REPOSITORY = Path(__file__).resolve().parents[1]
# Tests share strategies.py and runs.py; importlib mode puts no folder on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from scaled import EXAMPLES  # noqa: E402  (it lies beside this file)

# Tables go by it, and what runs the tests may set it.
os.environ.pop("COLUMNS", None)
# The same examples on every run; `--hypothesis-profile=explore` draws fresh ones.
settings.register_profile("ci", max_examples=round(100 * EXAMPLES), derandomize=True,
                          database=None, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False,
                          phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci")
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real traces and measurements are not at {SHARED_DATA}")
    return SHARED_DATA
