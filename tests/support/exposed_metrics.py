"""Series that Penstock's /metrics show, with their labels: from the real collectors of a gateway
and of the controller.

Collectors read stand-ins of what they watch. Each stand-in has one of everything, so that every
series has a sample, and each sample has its labels.
"""

import asyncio
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from penstock.core.disclosure import USUAL
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.engines.kv_events.follow import FollowCounts, Source
from penstock.engines.kv_events.learned import LearnedBlocks
from penstock.fleet.values_adapters import LoraOptions
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.scale.protocol import GroupFacts
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.adapters.claims import OneProcess
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.exact_prefixes import ExactPrefixes
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.model_pools_metrics import ModelPoolsMetrics
from penstock.serving.kubernetes.metrics import ControllerMetrics, ShownFleet, ShownGroup
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kv_events import KvEvents
from penstock.serving.multiplex.counts import Counts
from penstock.serving.scaling.groups import LiveReplica
from penstock.serving.scaling.loop import LiveScaling
from penstock.serving.scaling.metrics import ScalingMetrics
from penstock.serving.tenants.metrics import TenantMetrics
from support.scaled_loop import Group, Record, Scripted, source_of

Series = dict[str, set[str]]


def controller_series() -> Series:
    """Series of the controller with a Fleet of one group."""
    metrics, fleet = ControllerMetrics(), Ref("Fleet", "n", "f")
    group = ShownGroup(fleet, "0", "m", "a", "f-0", 2, 1)
    metrics.show(lambda: [ShownFleet(fleet, [group], 2.0, 0.9, False)], lambda: True)
    return series_of(metrics.text().decode())


def gateway_series() -> Series:
    """Series of a gateway with tenants, a ledger, pools and a scaling loop."""
    confidential = ConfidentialCounts(USUAL)
    confidential.add("c", "finished", "m", is_met=True)
    shown = GatewayMetrics(confidential)
    shown.of("m", "c")
    for one in (shown.retries, shown.disputed, shown.in_flight, shown.available, shown.attested):
        one.labels("http://a").inc(0)
    shown.show_overload({"pressures": {"memory": 0.1}, "max_resident_bytes": 1,
                         "max_body_bytes": 1, "num_shed": {"c": 0}})
    for collector in (TenantMetrics(_gate()), ModelPoolsMetrics(_pools(), confidential),
                      ScalingMetrics(_loop()), *_kv_events(), _adapters()):
        shown.add(collector)
    return series_of(shown.text().decode())


def _kv_events():
    index = LiveIndex()
    events = KvEvents([], index, str)
    blocks = LearnedBlocks(index, 0)
    blocks.counts["stored"] += 1
    events._followers["http://a", Source("tcp://a:1")] = SimpleNamespace(
        blocks=blocks, counts=FollowCounts())
    return events, ExactPrefixes(index, [], None)


def _adapters():
    engine = EngineState(EngineFacts(0, "http://a", "m", None, 1000, 1.0, lora=LoraOptions()))
    adapters = Adapters([engine], None, {}, lambda: 0.0, str, OneProcess())
    adapters._record("http://a", 1.0)
    return adapters


def series_of(text: str) -> Series:
    """Series of a text in Prometheus' format."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _gate():
    spent = SimpleNamespace(tenant="t", charged=1.0, num_in_flight=0, refused={"rate_limit": 1},
                            budget=SimpleNamespace(amount=1.0, spent=0.5, reserved=0.1))
    return SimpleNamespace(redacted_spending=lambda: [spent],
                           ledger=SimpleNamespace(gateway="g", trouble=None))


def _pools():
    counts = Counts()
    counts.loaded(0, 0, 1.0, failed=True)
    counts.refuse(0, "code", "reason")
    counts.lost[0, 0] = 1
    device = SimpleNamespace(index=0, free_bytes=1, residents={}, loading=None)
    driver = SimpleNamespace(devices=[device], counts=counts, num_waiting=lambda model: 0,
                             apart=lambda model: None)
    pool = SimpleNamespace(name="p", models=[SimpleNamespace(spec=SimpleNamespace(name="m"))])
    return SimpleNamespace(disclosed=lambda disclosure: [(pool, driver)])


def _loop():
    group = Group(LiveReplica(0, "ready", 0.0))
    loop = LiveScaling(Scripted(1), [GroupFacts("m", 1, 4, 1, 2.0, 60.0, 1000)], [group],
                       source_of(group), Record(), lambda: 0.0, lambda: 1e9,
                       advise=False)
    asyncio.run(loop.decide())
    return loop
