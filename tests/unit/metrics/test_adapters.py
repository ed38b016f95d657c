"""Outcomes of requests by adapter."""

from dataclasses import replace

import numpy as np

from penstock.metrics.adapters import MOST_ADAPTERS, adapter_summary
from penstock.metrics.request_file import arrow_table, read_requests
from penstock.metrics.table import AdapterNames, RequestTable, concat
from support.made_up_run import make_table

NUM = 600
NAMES = ("", *(f"a{number:02}" for number in range(30)))


def adapted(num: int = NUM) -> RequestTable:
    """Requests of 30 adapters, the last ones the most used."""
    rng = np.random.default_rng(3)
    weights = np.arange(1, len(NAMES) + 1)
    index = rng.choice(len(NAMES), num, p=weights / weights.sum()).astype(np.int32)
    return replace(make_table(num), adapters=AdapterNames(index, NAMES))


def test_every_request_counts_once() -> None:
    table = adapted()
    found = adapter_summary(table.blocks)
    assert found is not None
    assert found.others is not None
    assert found.base is not None
    assert len(found.adapters) == MOST_ADAPTERS < found.num_adapters
    parts = [*found.adapters.values(), found.others, found.base]
    assert sum(part.received for part in parts) == NUM
    assert sum(part.met for part in parts) == int(table.met_slo.sum())
    assert table.adapters is not None
    for name, part in found.adapters.items():
        rows = table.take(table.adapters.index == NAMES.index(name))
        assert part.received == len(rows) >= max(
            0, found.others.received // (found.num_adapters - MOST_ADAPTERS))
        assert part.finished == int(rows.finished.sum())
        assert part.ttft_s.p50 in rows.ttft_s


def test_blocks_give_the_same_figures_as_the_whole() -> None:
    table = adapted()

    def blocks():
        for first in range(0, NUM, 100):
            yield table.take(slice(first, first + 100))

    assert adapter_summary(blocks) == adapter_summary(table.blocks)


def test_without_adapters_there_is_nothing_to_tell() -> None:
    assert adapter_summary(make_table(10).blocks) is None


def test_few_adapters_have_no_others() -> None:
    table = replace(make_table(4), adapters=AdapterNames(np.array([0, 1, 1, 1]), ("x", "y")))
    found = adapter_summary(table.blocks)
    assert found is not None
    assert list(found.adapters) == ["y", "x"]
    assert found.others is None
    assert found.base is None


def test_tables_with_and_without_adapters_join() -> None:
    found = concat([make_table(2), replace(make_table(2), adapters=AdapterNames(
        np.array([0, 1], np.int32), ("x", "")))])
    assert found.adapters is not None
    assert [found.adapters.names[index] for index in found.adapters.index] == ["", "", "x", ""]


def test_files_keep_them(tmp_path) -> None:
    from pyarrow import parquet

    table = adapted(50)
    parquet.write_table(arrow_table(table), tmp_path / "requests.parquet")
    found = read_requests(tmp_path / "requests.parquet").adapters
    assert found is not None
    assert table.adapters is not None
    assert [found.names[index] for index in found.index] == [
        NAMES[index] for index in table.adapters.index]
