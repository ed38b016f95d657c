from dataclasses import replace

import numpy as np
import pytest

from penstock.core.slo import Slo
from penstock.metrics.table import FINISHED, SHED, UNFINISHED, RequestTable, concat


def make_table(num=4, classes=("interactive", "batch"), **columns):
    """Finished requests one second apart, each with ten tokens from 1 s to 2 s after arrival."""
    arrival = np.arange(num, dtype=np.float64)
    values = {
        "request_id": np.arange(num), "model_index": np.zeros(num, np.int32),
        "class_index": np.arange(num, dtype=np.int32) % len(classes),
        "tenant_index": np.zeros(num, np.int32), "replica": np.zeros(num, np.int32),
        "arrival_s": arrival, "prompt_tokens": np.full(num, 100), "output_tokens": np.full(num, 10),
        "first_scheduled_s": arrival + 0.5, "first_token_s": arrival + 1.0,
        "last_token_s": arrival + 2.0, "itl_mean_s": np.full(num, 1 / 9),
        "itl_p99_s": np.full(num, 0.2), "itl_max_s": np.full(num, 0.2),
        "num_late_tokens": np.zeros(num, np.int64), "num_preemptions": np.zeros(num, np.int32),
        "num_relegations": np.zeros(num, np.int32), "status": np.full(num, FINISHED, np.int8),
        "met_slo": np.ones(num, np.bool_)}
    return RequestTable(**(values | columns), models=("llama-3-8b",), service_classes=classes,
                        tenants=("default",))


def test_latencies_come_from_the_definitions():
    table = make_table(2)
    assert table.ttft_s.tolist() == [1.0, 1.0]
    assert table.queue_s.tolist() == [0.5, 0.5]
    assert table.e2e_s.tolist() == [2.0, 2.0]
    assert table.tpot_s == pytest.approx(1 / 9)


def test_only_finished_requests_have_an_end_to_end_latency():
    table = make_table(2, status=np.array([FINISHED, UNFINISHED], np.int8))
    assert np.isnan(table.e2e_s).tolist() == [False, True]


def test_requests_are_judged_by_their_own_class():
    table = make_table(4).judged({"interactive": Slo(ttft_s=0.5), "batch": Slo(e2e_s=5.0)})
    assert table.met_slo.tolist() == [False, True, False, True]


def test_a_shed_request_is_never_met():
    table = make_table(1, status=np.array([SHED], np.int8))
    assert not table.judged({"interactive": Slo(), "batch": Slo()}).met_slo.any()


def test_rows_of_a_class():
    assert make_table(5).of_class("batch").request_id.tolist() == [1, 3]
    assert len(make_table(5).of_class("unheard of")) == 0


def test_concat_renumbers_names():
    first = make_table(2, classes=("interactive", "batch"))
    second = replace(make_table(2, classes=("batch", "offline")), tenants=("other",))
    both = concat([first, second])
    assert both.service_classes == ("interactive", "batch", "offline")
    names = [both.service_classes[code] for code in both.class_index]
    assert names == ["interactive", "batch", "batch", "offline"]
    assert [both.tenants[code] for code in both.tenant_index] == ["default"] * 2 + ["other"] * 2


def test_concat_of_parts_is_the_whole():
    table = make_table(7)
    whole = concat([table.take(slice(0, 3)), table.take(slice(3, 7))])
    np.testing.assert_array_equal(whole.arrival_s, table.arrival_s)
    assert whole.models == table.models


def test_concat_needs_a_table():
    with pytest.raises(ValueError, match="at least one"):
        concat([])
