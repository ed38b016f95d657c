"""MaverIQ's end-to-end records: what is read of them, what is learnt, and the replay."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.core.errors import InputError
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.fifo import GlobalFifo
from penstock.published.figures import Options
from penstock.published.maveriq.calibrate import (
    admission_lag_s,
    gaps,
    overheads_s,
    pauses,
)
from penstock.published.maveriq.records import Cell, Records, RunKey, grown_devices
from penstock.published.maveriq.replay import JUDGED, replay, replay_figures
from penstock.sim.exclusive import Dispatch

CELL = Cell("large", "code", "0.4")
KEY = RunKey("MaverIQ", "min_lat", CELL)
HEADER = ("system,model_set,strategy,threshold,scale,policy,trace,slo,exp,order,model,tp,pp,"
          "pp_map,dtype,int8_kv,gpus,n_req_trace\n")
# (client, arrival, e2e, service) of a run by hand: client 1 has devices 0 and 1, client 2 device 1.
ROWS = ((1, 0.0, 1.01, 1.0), (2, 0.5, 1.52, 1.0), (1, 70.0, 1.03, 1.0), (1, 71.0, 12.5, 1.0),
        (2, 140.0, 1.02, 1.0))


def folder_of(folder: Path, gpus: str = "1", rows: tuple[tuple[float, ...], ...] = ROWS,
              memory: list[dict[str, float]] | None = None) -> Path:
    """A folder laid out as the records are, with one run."""
    words = {"system": "MaverIQ", "policy": "min_lat", "model_set": "large", "trace": "code",
             "scale": "0.4", "slo": "0"}
    table = pa.table({
        **{name: pa.array([word] * len(rows)).dictionary_encode() for name, word in words.items()},
        "model": pa.array([f"m{int(row[0])}" for row in rows]),
        "client_id": pa.array([int(row[0]) for row in rows], pa.int16()),
        "req_id": pa.array(range(len(rows)), pa.int32()),
        "arrival_s": pa.array([row[1] for row in rows], pa.float32()),
        "e2e_s": pa.array([row[2] for row in rows], pa.float32()),
        "service_s": pa.array([row[3] for row in rows], pa.float32())})
    pq.write_table(table, folder / "e2e_per_request.parquet")
    common = "MaverIQ,large,hybrid,0.7,0.4,min_lat,code,0,e2e"
    (folder / "e2e_deployments.csv").write_text(
        HEADER + f"{common},1,m1,2,1,[4],'int4',True,\"0,1\",5\n"
        f"{common},2,m2,1,1,[4],'float16',False,\"{gpus}\",5\n")
    (folder / "gpu_memory_and_gpu_counts.json").write_text(json.dumps({
        "Memory_Dataset_large": {"MaverIQ_min_lat_code_0.4": memory or []},
        "GPUs_usage_large": {"MaverIQ_min_lat_code_0.4": [2, 1]}}))
    return folder


def test_a_run_is_read_in_order_of_arrival(tmp_path: Path) -> None:
    records = Records(folder_of(tmp_path, rows=ROWS[::-1]))
    assert records.keys == [KEY]
    run = records.run(KEY)
    assert run.arrival_s.tolist() == [0.0, 0.5, 70.0, 71.0, 140.0]
    assert run.client.tolist() == [0, 1, 0, 0, 1]
    assert run.models == {0: "m1", 1: "m2"}
    assert run.deployments[0].configuration.name == "tp2 pp1 int4 kv int8"
    assert run.deployments[1].devices == {1}
    assert run.replayable
    assert run.gpu_s is not None
    assert run.gpu_s.tolist() == [2.0, 1.0, 2.0, 2.0, 1.0]
    with pytest.raises(InputError, match="hold no run MaverIQ min_mem"):
        records.run(RunKey("MaverIQ", "min_mem", CELL))


@pytest.mark.parametrize("glitch", ["1743239487.48169", "", "0,1", "9"])
def test_devices_that_the_log_garbled_follow_from_memory(tmp_path: Path, glitch: str) -> None:
    memory = [{"0": 6.0, "1": 6.0, "2": 0.5}, {"0": 6.1, "1": 10.0, "2": 0.5}]
    run = Records(folder_of(tmp_path, glitch, memory=memory)).run(KEY)
    assert run.deployments[1].devices == {1}
    assert run.deployments[1].repaired
    assert not run.deployments[0].repaired


def test_devices_that_nothing_tells_make_no_replay(tmp_path: Path) -> None:
    run = Records(folder_of(tmp_path, "oops")).run(KEY)
    assert run.deployments[1].devices is None
    assert not run.replayable
    with pytest.raises(InputError, match="arrivals or devices are not in the records"):
        replay(run, GlobalFifo, Dispatch([0.0, 0.0]))


def test_memory_that_grew_everywhere_names_no_devices() -> None:
    memory = [{"0": 0.5, "1": 0.5}, {"0": 4.0, "1": 3.5}]
    assert grown_devices(memory, 1, 1) is None
    assert grown_devices(memory, 1, 2) == {0, 1}
    assert grown_devices(memory, 2, 1) is None


def test_gaps_are_from_the_moment_of_readiness(tmp_path: Path) -> None:
    run = Records(folder_of(tmp_path)).run(KEY)
    found = gaps(run)
    assert [gap.ready_s for gap in found] == pytest.approx([0.0, 1.01, 70.0, 71.03, 140.0])
    assert [gap.seconds for gap in found] == pytest.approx([0.01, 0.01, 0.03, 11.47, 0.02],
                                                           abs=1e-5)
    assert overheads_s([run]) == pytest.approx({"m1": 0.02, "m2": 0.015}, abs=1e-5)


def test_sleeps_stand_where_arrivals_stopped_before_a_client(tmp_path: Path) -> None:
    rows = ((1, 0.0, 1.01, 1.0), (1, 1.0, 32.0, 1.0), (1, 2.0, 42.0, 1.0), (2, 90.0, 1.0, 0.9))
    run = Records(folder_of(tmp_path, rows=rows)).run(KEY)
    assert admission_lag_s([run]) == pytest.approx({"m2": 31.0}), "the stall before was no sleep"
    assert pauses(run, {"m2": 40.0}) == ((42.0, 52.0),)
    assert pauses(run, {"other": 30.0}) == ((32.0, 42.0),)
    assert pauses(run, {}) == ()


def test_a_run_repeats_itself_under_the_published_queue(tmp_path: Path) -> None:
    run = Records(folder_of(tmp_path)).run(KEY)
    served = replay(run, GlobalFifo, Dispatch([0.01, 0.01]))
    assert served.e2e_s.tolist() == pytest.approx([1.01, 1.52, 1.01, 1.02, 1.01], abs=1e-5)


def test_broken_records_are_told_by_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "e2e_per_request.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match=r"e2e_per_request\.parquet: cannot be read"):
        Records(folder)
    with pytest.raises(InputError, match=r"e2e_per_request\.parquet: cannot be read"):
        Records(tmp_path / "nowhere")
    folder_of(tmp_path)
    (folder / "e2e_deployments.csv").write_text("order\nfirst\n")
    with pytest.raises(InputError, match=r"e2e_deployments\.csv: cannot be read"):
        Records(folder)


@pytest.fixture(scope="module")
def records(shared_data: Path) -> Records:
    return Records(shared_data / "maveriq")


def test_five_runs_are_reproduced_and_no_run_calibrates_itself(records: Records) -> None:
    found = replay_figures(records, Options())
    assert found.agrees
    medians = {figure.name: figure for figure in found.figures
               if figure.kind == "relative" and "median" in figure.name}
    assert len(medians) == 5
    assert all(abs(figure.deviation or 1.0) < 0.03 for figure in medians.values())
    ours = next(figure for figure in found.figures if figure.kind == "at_most")
    assert 0.5 < ours.ours < 5.0
    assert all(judged != calm and judged.cell != calm.cell for judged, calm in JUDGED.items())


def test_the_garbled_set_of_the_records_is_found_by_memory(records: Records) -> None:
    run = records.run(KEY)
    assert run.deployments[1].repaired
    assert run.deployments[1].devices == {0, 1, 6, 7}
    assert records.run(RunKey("Accelerate", "None", Cell("large", "code", "0.1"))).gpu_s is not None


def test_no_deployment_waits_for_others_devices(records: Records) -> None:
    run = records.run(RunKey("MaverIQ", "min_gpu_cost", CELL))
    served = replay(run, DeviceSetQueue, Dispatch([0.0] * 4))
    alone = run.client == 3  # it has device 2 for itself
    end_s = 0.0
    for arrival_s, starts_s, ends_s in zip(served.arrival_s[alone], served.start_s[alone],
                                           served.end_s[alone], strict=True):
        assert starts_s == pytest.approx(max(arrival_s, end_s))
        end_s = ends_s
    assert np.isfinite(served.e2e_s).all()
