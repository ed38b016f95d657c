"""The example plug-in, installed beside Penstock: its policies are chosen, shown and replayed.

CI runs these tests against the native wheel, too: compiled code calls the plug-in's parts there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def plugged(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs penstock with the plug-in installed in a folder of its own."""
    folder = tmp_path_factory.mktemp("plug-in")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                    "--no-build-isolation", "--disable-pip-version-check",
                    "--target", str(folder / "installed"), str(repository / "examples/plugin")],
                   check=True, capture_output=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "penstock", *map(str, arguments)],
                              capture_output=True, text=True, cwd=folder, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(
                                  [str(folder / "installed"), os.environ.get("PYTHONPATH", "")])})

    return run


@pytest.fixture(scope="module")
def fleet(repository: Path) -> Path:
    return repository / "examples/plugin/fleet.yaml"


def test_both_policies_compare_with_built_in_ones(plugged: Run, fleet: Path) -> None:
    done = plugged("compare", fleet, "--json", "--policies",
                   "sarathi,aged,aged:s_per_token=0.5:busy_seqs=1")
    assert done.returncode == 0, done.stderr
    sarathi, aged, changed = json.loads(done.stdout)["policies"]
    assert (aged["options"]["policy"], aged["options"]["settings"]) == ("aged", [])
    assert changed["options"]["settings"] == [["busy_seqs", 1], ["s_per_token", 0.5]]
    assert changed["options"]["chunk_tokens"] == sarathi["options"]["chunk_tokens"]
    waits = [one["figures"]["interactive.ttft_s.p99"]["mean"] for one in (sarathi, aged, changed)]
    assert len(set(waits)) == 3, "each policy decides in its own way"


def test_a_journal_of_a_plugged_in_policy_replays(plugged: Run, fleet: Path,
                                                  tmp_path: Path) -> None:
    done = plugged("run", fleet, "--journal", "--no-report", "--out", tmp_path / "run", "--set",
                   "policies.schedule={name: aged, s_per_token: 0.05}", "--set",
                   "run.num_requests=60")
    assert done.returncode in (0, 1), done.stderr
    journals = sorted((tmp_path / "run").rglob("journal-*.jsonl"))
    assert len(journals) == 2
    header = json.loads(journals[0].read_text().splitlines()[0])
    assert header["schedule"]["settings"] == [["s_per_token", 0.05]]
    for journal in journals:
        done = plugged("lab", "replay", journal)
        assert done.returncode == 0, done.stderr


def test_what_can_be_chosen_is_listed(plugged: Run) -> None:
    done = plugged("catalog", "choices", "--json")
    found = {(one["axis"], one["name"]): one for one in json.loads(done.stdout)}
    aged = found["scheduling policy", "aged"]
    assert (aged["settings"], aged["plug_in"]) == (["s_per_token", "busy_seqs"], "aged-and-apart")
    assert found["routing policy", "long_apart"]["plug_in"] == "aged-and-apart"
    assert found["routing policy", "joint"]["plug_in"] == ""


@pytest.mark.parametrize(("setting", "said"), [
    ("policies.schedule=age", "unknown scheduling policy 'age'; did you mean 'aged'?"),
    ("policies.schedule={name: aged, s_per_tok: 1}",
     "policies.schedule.s_per_tok: unknown key; did you mean 's_per_token'?"),
    ("policies.schedule={name: aged, s_per_token: -1}",
     "policies.schedule.s_per_token: expected a number from 0 to 10, found -1"),
    ("policies.route=long_apar", "unknown routing policy 'long_apar'; did you mean 'long_apart'?"),
    ("policies.route.share=2", "policies.route.share: expected a number from 0 to 1, found 2")])
def test_bad_input_gets_one_line(plugged: Run, fleet: Path, setting: str, said: str) -> None:
    done = plugged("simulate", fleet, "--set", setting)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_without_the_plug_in_its_names_are_unknown(fleet: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "penstock", "simulate", str(fleet)], check=False,
                          capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown routing policy 'long_apart'" in done.stderr
