"""Adapters that requests name."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass
from penstock.workload.adapters import by_popularity, with_base
from penstock.workload.arrivals import ArrivalProcess
from penstock.workload.drawn import drawn
from penstock.workload.lengths import Fixed, LengthDistribution
from penstock.workload.mixing import generate
from penstock.workload.profile import SteadyRate
from penstock.workload.requests import requests
from penstock.workload.select import select
from penstock.workload.source import TrafficSource
from penstock.workload.trace import Labels, Trace, no_prefixes, workload_trace

PLAIN = TrafficSource("one", "m", {"chat": 0.5, "batch": 0.5}, num_requests=2000, rate_per_s=10.0,
                      arrivals=ArrivalProcess(1.0, SteadyRate()),
                      lengths=LengthDistribution(Fixed(100), Fixed(10), 0.0))
ADAPTED = replace(PLAIN, adapters={"": 0.2, "a": 0.6, "b": 0.2},
                  adapter_classes={"a": None, "b": "batch"})


def test_shares_and_classes() -> None:
    found = generate([ADAPTED], 3)
    assert found.adapters == ("", "a", "b")
    assert found.adapter_index is not None
    shares = np.bincount(found.adapter_index) / len(found)
    assert shares == pytest.approx([0.2, 0.6, 0.2], abs=0.05)
    of_b = found.class_index[found.adapter_index == 2]
    assert {found.service_classes[index] for index in of_b} == {"batch"}
    of_a = found.class_index[found.adapter_index == 1]
    assert {found.service_classes[index] for index in of_a} == {"chat", "batch"}


def test_adapters_change_no_other_draw() -> None:
    plain, adapted = generate([PLAIN], 3), generate([ADAPTED], 3)
    assert plain.adapter_index is None
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "model_index", "tenant_index"):
        assert np.array_equal(getattr(plain, name), getattr(adapted, name))
    kept = adapted.adapter_index != 2
    assert np.array_equal(plain.class_index[kept], adapted.class_index[kept])


def test_blocks_have_the_same_adapters() -> None:
    whole = generate([ADAPTED], 3)
    parts = drawn([ADAPTED], 3, check=lambda block, first: None)
    assert parts is not None
    assert np.array_equal(whole.adapter_index,
                          np.concatenate([block.adapter_index for block in parts.blocks()]))


def test_sources_with_and_without_adapters_merge() -> None:
    found = generate([replace(ADAPTED, name="two"), PLAIN], 3)
    assert found.adapter_index is not None
    alone = generate([replace(ADAPTED, name="two")], 3)
    assert alone.adapter_index is not None
    assert int((found.adapter_index > 0).sum()) == int((alone.adapter_index > 0).sum())
    some = select(found, np.arange(len(found)) % 2 == 0)
    assert np.array_equal(some.adapter_index, found.adapter_index[::2])


def test_requests_name_their_adapter() -> None:
    classes = {name: ServiceClass(name) for name in ("chat", "batch")}
    found = generate([ADAPTED], 3)
    assert found.adapter_index is not None
    names = [one.adapter for one in requests(found, classes)]
    assert names == [found.adapters[index] for index in found.adapter_index]
    assert {one.adapter for one in requests(generate([PLAIN], 3), classes)} == {""}


def trace(models: tuple[str, ...], index: list[int]) -> Trace:
    num = len(index)
    prefixes = replace(no_prefixes(), offsets=np.arange(num + 1), values=np.zeros(num, np.int64),
                       block_tokens=16)
    return Trace(np.arange(num) * 1.0, np.full(num, 32), np.full(num, 4), None, None,
                 Labels(models, np.array(index)), prefixes)


def test_a_trace_names_adapters_in_its_column_of_models() -> None:
    source = TrafficSource("t", "m", trace=trace(("a", "other", "b"), [0, 1, 2, 0]),
                           adapter_classes={"a": None, "b": "batch"})
    found = generate([source], 0)
    classes = {name: ServiceClass(name) for name in ("default", "batch")}
    made = list(requests(found, classes))
    assert [one.adapter for one in made] == ["a", "", "b", "a"]
    assert [one.model for one in made] == ["m"] * 4
    assert [one.service_class.name for one in made] == ["default", "default", "batch", "default"]
    again = workload_trace(found).model
    assert again is not None
    assert [again.names[index] for index in again.index] == ["a", "m", "b", "a"]


def test_adapters_share_no_prefixes() -> None:
    source = TrafficSource("t", "m", trace=trace(("a", "m", "b"), [0, 1, 2, 0]),
                           adapter_classes={"a": None, "b": None})
    first, base, other, again = (one.prefix_hashes for one in requests(
        generate([source], 0), {"default": ServiceClass("default")}))
    assert first == again
    assert len({first, base, other}) == 3


def test_popularity() -> None:
    assert by_popularity(["a", "b", "c"], 1.0) == {"a": 1.0, "b": 0.5, "c": 1 / 3}
    assert with_base({"a": 3.0, "b": 1.0}, 0.2) == pytest.approx({"": 0.2, "a": 0.6, "b": 0.2})
    assert with_base({"a": 3.0}, 0.0) == {"a": 1.0}


def test_shares_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="every share of adapters is 0"):
        generate([replace(ADAPTED, adapters={"a": 0.0})], 0)
