"""Prometheus metrics of model multiplexing."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.fleet.values_multiplexing import DevicePool
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.model_pools import ModelPools
from penstock.serving.multiplex.driver import MultiplexDriver


class ModelPoolsMetrics(Collector):
    """Collector that reads the pools that may be disclosed."""

    def __init__(self, model_pools: ModelPools, confidential: ConfidentialCounts) -> None:
        self._model_pools = model_pools
        self._confidential = confidential

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of every pool."""
        pools = self._model_pools.disclosed(self._confidential.disclosure)
        yield from _of_devices(pools)
        yield from _of_models(pools)


def _of_devices(pools: Sequence[tuple[DevicePool, MultiplexDriver]]) -> Iterator[Metric]:
    labels = ("pool", "device", "model_name")
    resident = GaugeMetricFamily("penstock:model_resident", "1 where a device holds a model",
                                 labels=labels)
    running = GaugeMetricFamily("penstock:model_requests_running", "Requests of a model that run "
                                "on a device", labels=labels)
    loading = GaugeMetricFamily("penstock:model_loading", "1 while a device loads a model",
                                labels=labels)
    free = GaugeMetricFamily("penstock:device_free_bytes", "Memory that no model holds",
                             labels=labels[:2])
    loads = CounterMetricFamily("penstock:model_loads", "Loads by how they ended",
                                labels=(*labels, "outcome"))
    lost = CounterMetricFamily("penstock:model_lost", "Engines that died, or let go of their model",
                               labels=labels)
    for pool, driver in pools:
        names = _names(pool)
        for device in driver.devices:
            where = [pool.name, str(device.index)]
            free.add_metric(where, device.free_bytes)
            for model, name in enumerate(names):
                one = device.residents.get(model)
                resident.add_metric([*where, name], float(one is not None))
                running.add_metric([*where, name], 0 if one is None else one.num_running)
                loading.add_metric([*where, name], float(device.loading == model))
        for (index, model, outcome), num in driver.counts.loads.items():
            loads.add_metric([pool.name, str(index), names[model], outcome], num)
        for (index, model), num in driver.counts.lost.items():
            lost.add_metric([pool.name, str(index), names[model]], num)
    yield from (resident, running, loading, free, loads, lost)


def _of_models(pools: Sequence[tuple[DevicePool, MultiplexDriver]]) -> Iterator[Metric]:
    labels = ("pool", "model_name")
    waiting = GaugeMetricFamily("penstock:model_requests_waiting", "Requests that wait for a "
                                "device", labels=labels)
    apart = GaugeMetricFamily("penstock:model_set_apart", "1 while a model that fails is left "
                              "alone", labels=labels)
    started = CounterMetricFamily("penstock:model_requests_started", "Requests that were started",
                                  labels=labels)
    seconds = CounterMetricFamily("penstock:model_load_seconds", "Seconds of loads that succeeded",
                                  labels=labels)
    shed = CounterMetricFamily("penstock:model_requests_shed", "Requests that were rejected",
                               labels=(*labels, "code", "reason"))
    for pool, driver in pools:
        names, counts = _names(pool), driver.counts
        for model, name in enumerate(names):
            waiting.add_metric([pool.name, name], driver.num_waiting(model))
            apart.add_metric([pool.name, name], float(driver.apart(model) is not None))
            started.add_metric([pool.name, name], counts.started[model])
            seconds.add_metric([pool.name, name], counts.load_s.get(model, 0.0))
        for (model, code, reason), num in counts.refused.items():
            shed.add_metric([pool.name, names[model], code, reason], num)
    yield from (waiting, apart, started, seconds, shed)


def _names(pool: DevicePool) -> list[str]:
    return [model.spec.name for model in pool.models]
