"""Sessions as a whole: times, attainment, the denominator."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.metrics.request_file import RequestWriter, StoredRequests, read_requests
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import FINISHED, REJECTED, Tasks
from penstock.metrics.tasks import interactivity, task_table
from support.made_up_run import make_table

CLASSES = [ServiceClass("agent", Slo(task_s=10.0, percentile=50.0)), ServiceClass("chat")]


def table(rows):
    """Rows of (session, requests of the session, class, arrival, last token, finished)."""
    session, size, kind, arrival_s, last_s, finished = map(np.array, zip(*rows, strict=True))
    num = len(rows)
    found = make_table(num)
    return replace(
        found, class_index=kind.astype(np.int32), service_classes=("agent", "chat"),
        arrival_s=arrival_s.astype(float), first_token_s=arrival_s + 0.1,
        last_token_s=np.where(finished, last_s, np.nan).astype(float),
        output_tokens=np.full(num, 10), tasks=Tasks(session, size),
        status=np.where(finished, FINISHED, REJECTED).astype(np.int8))


RUN = table([(0, 2, 0, 0.0, 3.0, True), (1, 1, 0, 1.0, 12.0, True), (-1, 0, 1, 1.5, 2.0, True),
             (2, 2, 0, 2.0, 4.0, True), (0, 2, 0, 5.0, 9.0, True), (3, 2, 0, 6.0, 7.0, True),
             (3, 2, 0, 8.0, 8.5, False), (4, 1, 1, 9.0, 99.0, True)])


def test_a_session_counts_from_its_first_arrival_to_its_last_token():
    found = task_table([RUN])
    # The second was slow; of the third one request was never sent; one of the fourth's failed.
    assert found.time_s.tolist() == pytest.approx([9.0, 11.0, np.nan, np.nan, 90.0], nan_ok=True)


def test_the_denominator_is_all_that_began():
    summary = summarise(RUN, CLASSES, Usage(np.zeros(0), 0.0))
    agent = summary.classes["agent"].tasks
    assert (agent.began, agent.finished, agent.met, agent.requests) == (4, 2, 1, 6)
    assert agent.attainment == 0.25
    assert agent.time_mean_s == 10.0
    assert (agent.time_s.p50, agent.time_s.p99) == (9.0, 11.0)
    chat = summary.classes["chat"].tasks  # without a target what finishes counts
    assert (chat.began, chat.met) == (1, 1)
    assert summary.overall.tasks.met == 2


def test_a_class_misses_by_its_sessions_alone():
    slow = table([(number, 1, 0, 0.0, 11.0, True) for number in range(4)])
    summary = summarise(slow.judged({one.name: one.slo for one in CLASSES}), CLASSES,
                        Usage(np.zeros(0), 0.0))
    assert summary.classes["agent"].attainment == 1.0
    assert summary.classes["agent"].meets_slo is False
    relaxed = [replace(CLASSES[0], slo=Slo(task_s=11.0)), CLASSES[1]]
    assert summarise(slow.judged({one.name: one.slo for one in relaxed}), relaxed,
                     Usage(np.zeros(0), 0.0)).classes["agent"].meets_slo is True


def test_sessions_that_began_in_the_warm_up_do_not_count():
    summary = summarise(RUN, CLASSES, Usage(np.zeros(0), 0.0), from_s=1.0)
    assert summary.classes["agent"].tasks.began == 3
    later = RUN.since(1.0)
    assert later.tasks.index.tolist() == [1, -1, 2, -1, 3, 3, 4]
    assert summarise(later, CLASSES, Usage(np.zeros(0), 0.0)).classes["agent"].tasks.began == 3


def test_rows_without_sessions_have_no_tasks():
    assert task_table([RUN.take(RUN.tasks.index < 0)]) is None
    plain = replace(RUN, tasks=None)
    summary = summarise(plain, CLASSES, Usage(np.zeros(0), 0.0))
    assert summary.overall.tasks is None
    assert "tasks" not in summary.document()["overall"]


def test_interactivity_is_that_of_the_slowest_tenth():
    rows = table([(number, 1, 0, 0.0, 1.0 + number, True) for number in range(10)])
    # 10 tokens each, in 1 to 10 s: the 90th percentile is 9 s.
    assert interactivity(rows) == pytest.approx(10 / 9)
    assert interactivity(rows.take(slice(0, 0))) is None


def test_files_keep_sessions(tmp_path):
    with RequestWriter(tmp_path / "r.parquet", rows_per_group=3) as writer:
        for start in range(0, len(RUN), 3):
            writer.write(RUN.take(slice(start, start + 3)))
    again = read_requests(tmp_path / "r.parquet")
    assert again.tasks.index.tolist() == RUN.tasks.index.tolist()
    stored = summarise(StoredRequests(tmp_path / "r.parquet"), CLASSES, Usage(np.zeros(0), 0.0))
    assert stored.overall.tasks == summarise(RUN, CLASSES, Usage(np.zeros(0), 0.0)).overall.tasks
    with RequestWriter(tmp_path / "p.parquet") as writer:
        writer.write(replace(RUN, tasks=None))
    assert read_requests(tmp_path / "p.parquet").tasks is None


def test_summaries_of_files_without_sessions_are_read():
    summary = summarise(RUN, CLASSES, Usage(np.zeros(0), 0.0))
    document = summary.document()
    assert type(summary).read(document) == summary
    del document["classes"]["agent"]["tasks"]
    del document["classes"]["agent"]["slo"]["task_s"]
    assert type(summary).read(document).classes["agent"].slo.task_s is None
