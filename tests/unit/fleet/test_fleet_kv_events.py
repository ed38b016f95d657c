"""Addresses of engines' KV events in a fleet file."""

import pytest

from penstock.core.errors import InputError
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineState
from penstock.fleet.load import parse_fleet
from penstock.fleet.write import to_yaml
from penstock.serving.kv_events import source_of
from support.small_fleet import FLEET

TWO = {"count": 2, "endpoints": ["http://10.0.0.1:8000", "http://[fd00::2]:8000"]}


def fleet(**more):
    return parse_fleet(FLEET, overrides={"replicas": [{**TWO, **more}]})


def sources(values):
    return [source_of(EngineState(one)) for one in facts_of(values)]


def test_one_address_stands_for_all_hosts():
    values = fleet(kv_events=["tcp://*:5557"], kv_replay=["tcp://*:5558"])
    assert sources(values) == [("tcp://10.0.0.1:5557", "tcp://10.0.0.1:5558"),
                               ("tcp://[fd00::2]:5557", "tcp://[fd00::2]:5558")]
    assert parse_fleet(to_yaml(values), "small") == values


def test_each_replica_may_have_its_own():
    values = fleet(kv_events=["tcp://a:1", "tcp://b:2"])
    assert sources(values) == [("tcp://a:1", None), ("tcp://b:2", None)]
    assert sources(fleet()) == [None, None]


@pytest.mark.parametrize(("more", "said"), [
    ({"kv_events": ["tcp://a:1"]}, "kv_events: 1 for 2 replicas; expected one for each, or one"),
    ({"kv_replay": ["tcp://*:1"]}, "kv_replay: stands alone; expected kv_events beside it"),
    ({"kv_events": ["tcp://*:1"], "kv_replay": ["tcp://a:1"] * 3}, "kv_replay: 3 for 2"),
    ({"kv_events": ["http://a:1"]}, "kv_events[0]"), ({"kv_events": ["tcp://a"]}, "kv_events[0]"),
    ({"kv_events": "tcp://*:1"}, "kv_events")])
def test_wrong_addresses_are_one_clear_error(more, said):
    with pytest.raises(InputError) as error:
        fleet(**more)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_confidential_replicas_publish_nothing():
    with pytest.raises(InputError, match="would tell the tokens of confidential prompts"):
        parse_fleet(FLEET, overrides={
            "accelerators": [{"name": "h100-80gb", "count": 2, "confidential": True}],
            "replicas": [{**TWO, "kv_events": ["tcp://*:1"]}]})
