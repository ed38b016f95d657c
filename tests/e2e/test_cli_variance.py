"""``penstock lab experiment variance`` as a user runs it."""

import csv
import json

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import asyncio

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from support.small_fleet import FLEET


def with_replicas(work):
    """What ``work`` makes, in a thread of its own, of the URLs of two emulated replicas."""
    async def run():
        fleet = parse_fleet(FLEET, overrides={"replicas": [{"count": 2}]})
        async with emulated_cluster(fleet, EmulatorOptions(speed=200)) as cluster:
            return await asyncio.to_thread(work, [one.url for one in cluster.replicas])

    return asyncio.run(run())


def test_two_replicas(folder, penstock) -> None:
    done = with_replicas(lambda urls: penstock(
        "lab", "experiment", "variance", *urls, "--repeats", "3", "--requests", "2", "--shuffles",
        "1",
        "--max-tokens", "8", "--prompt-tokens", "20", "--out", "kept", "--json"))
    assert done.status == 0
    assert done.json["experiments"]["repeated"]["finished"] == 6
    assert done.json["experiments"]["repeated"]["measures"]["output_tokens"]["mean"] == 8.0
    assert json.loads((folder / "kept/variance.json").read_text()) == done.json
    rows = list(csv.DictReader((folder / "kept/observations.csv").read_text().splitlines()))
    assert len(rows) == 14
    assert {row["outcome"] for row in rows} == {"finished"}
    assert (folder / "kept/report.html").is_file()
    again = penstock("lab", "experiment", "variance", "http://127.0.0.1:9", "--out", "kept")
    assert again.status == 2
    assert "holds something already" in again.err


def test_a_table(penstock) -> None:
    done = with_replicas(lambda urls: penstock(
        "lab", "experiment", "variance", urls[0], "--repeats", "2", "--requests", "2",
        "--shuffles", "0",
        "--max-tokens", "4"))
    assert done.status == 0
    assert "The same request, repeated: 2 of 2 finished" in done.out
    assert "shuffled" not in done.out


@pytest.mark.parametrize(("arguments", "said"), [
    (("http://127.0.0.1:9",), "does not answer"), (("x",), "expected for example"), ((), "url"),
    (("http://127.0.0.1:9", "--repeats", "1"), "--repeats")])
def test_bad_input_is_one_line(penstock, arguments, said) -> None:
    done = penstock("lab", "experiment", "variance", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err.lower()
