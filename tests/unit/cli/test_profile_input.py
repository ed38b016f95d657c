"""What profile commands read and print."""

from pathlib import Path
from typing import Any

import pytest

from penstock.cli.profile_input import _engine_values, whole_numbers
from penstock.cli.profile_tables import point_document, profile_tables, said, show
from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.perf.profiles.summary import summaries
from penstock.perf.profiling.protocol import Room
from penstock.profile.run import profile_model
from support.scripted_profiling import ScriptedEngine, session

WHOLE = ModelConfiguration("llama", (32,), "bf16", "bf16")


def row(**changes: Any) -> Measurement:
    return Measurement(**{"kind": "batch", "configuration": WHOLE, "batch": 4,
                          "prompt_tokens": 128, "output_tokens": 16, "seconds": 0.5,
                          "first_token_s": 0.1, "decode_step_s": 0.02, **changes})


def shown(*rows: Measurement, **document: Any) -> str:
    from rich.console import Console

    found = {"status": "complete", "subject": {"model": "llama", "engine": "vllm"}, "design": {},
             **document}
    console = Console(width=120)
    with console.capture() as captured:
        for part in profile_tables(found, summaries(rows), Path("p")):
            console.print(part)
    return captured.get()


def test_whole_numbers_are_sorted_and_stand_once() -> None:
    assert whole_numbers("--batch", "4,1, 4,2") == [1, 2, 4]


@pytest.mark.parametrize("text", ["", "1,", "a", "-1", "0", "1.5", "99999999999", "1;2"])
def test_what_are_no_whole_numbers(text: str) -> None:
    with pytest.raises(InputError, match=r"--batch .*: expected whole numbers"):
        whole_numbers("--batch", text)


def test_values_of_the_engine_have_types() -> None:
    assert _engine_values(["threads=2", "eager=true", "memory_fraction=0.5", "device=cuda",
                           "threads=3"]) == {"threads": 3, "eager": True, "memory_fraction": 0.5,
                                             "device": "cuda"}


@pytest.mark.parametrize("setting", ["threads=-1", "threads=1.5", "memory_fraction=0",
                                     "memory_gib=inf", "noise=nan", "max_step_tokens=0"])
def test_values_that_cannot_be(setting: str) -> None:
    with pytest.raises(InputError, match=f"--with {setting.partition('=')[0]}="):
        _engine_values([setting])


def test_one_configuration_stands_in_the_title() -> None:
    text = shown(row(), row(batch=1, prompt_tokens=64))
    assert "llama on vllm, tp1-l32-bf16-kv_bf16" in text
    assert text.count("tp1-l32") == 1
    # In order of prompts, whatever the order of measuring was.
    assert text.index("64") < text.index("128")
    assert "100 ms" in text
    assert "20 ms" in text


def test_several_configurations_have_a_column() -> None:
    cut = ModelConfiguration("llama", (1,), "bf16", "bf16")
    assert shown(row(), row(configuration=cut)).count("tp1-l") == 2


def test_what_did_not_run_is_told_by_its_outcome() -> None:
    lost = row(outcome="out_of_memory", seconds=None, first_token_s=None, decode_step_s=None)
    assert "out of memory" in shown(row(batch=1), lost)
    assert said(lost) == "tp1-l32-bf16-kv_bf16 batch 4, prompt 128: out of memory"
    assert said(row(warm_up=True)).endswith("(warm-up): 0.5 s")


def test_loads_have_a_table_of_their_own() -> None:
    load = row(kind="load", batch=None, prompt_tokens=None, output_tokens=None, cache="cold",
               file_bytes=2.0 * (1 << 30))
    text = shown(load, row(kind="unload", batch=None, cache="cold"))
    assert "ready after" in text
    assert "cold" in text
    assert said(load) == "tp1-l32-bf16-kv_bf16: 0.5 s"


def test_the_edge_of_a_sweep_is_said() -> None:
    design = {"largest_that_fits": 8, "smallest_that_does_not": 9}
    assert "largest batch that fits: 8; 9 does not" in shown(row(), design=design)
    design = {"largest_that_fits": 8, "smallest_that_does_not": None}
    assert "8, the largest that was tried" in shown(row(), design=design)


def test_a_profile_of_nothing_is_a_table_without_rows() -> None:
    assert "p (out of time)" in shown(status="out_of_time")


def test_a_point_as_json_has_its_interval() -> None:
    (point,) = summaries([row(seconds=value) for value in (3.0, 1.0, 2.0)])
    found = point_document(point)
    assert (found["seconds"], found["low_s"], found["high_s"], found["num_repeats"]) == (
        2.0, 1.0, 3.0, 3)
    assert found["layers_by_stage"] == [32]
    assert found["cache"] is None


def test_a_profile_whose_points_all_failed_is_an_error(tmp_path: Path) -> None:
    class Broken(ScriptedEngine):
        def load(self, configuration: ModelConfiguration, room: Room) -> None:
            raise ModuleNotFoundError("No module named 'flashinfer'")

    record = profile_model(session(tmp_path, Broken(VirtualClock())), WHOLE, [8], [1, 4], 4)
    with pytest.raises(InputError, match=r"nothing was measured.*No module named 'flashinfer'"):
        show(record, as_json=True)
    assert len(read_profile(tmp_path).measurements) == 2  # the rows with their reason are kept
