"""Prometheus metrics of tenants and of the ledger."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.serving.tenants.gate import TenantGate


class TenantMetrics(Collector):
    """Collector that reads the gate. Money is in the unit of the models' prices."""

    def __init__(self, gate: TenantGate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of every tenant."""
        label = ("tenant",)
        charged = CounterMetricFamily("penstock:tenant_charged", "Money charged", labels=label)
        refused = CounterMetricFamily("penstock:tenant_refused", "Requests that were not let in",
                                      labels=("tenant", "reason"))
        in_flight = GaugeMetricFamily("penstock:tenant_requests_in_flight", "Requests in flight",
                                      labels=label)
        amount = GaugeMetricFamily("penstock:tenant_budget", "Money for the present period",
                                   labels=label)
        spent = GaugeMetricFamily("penstock:tenant_budget_spent", "Money spent in it", labels=label)
        held = GaugeMetricFamily("penstock:tenant_budget_reserved", "Money held for answers under "
                                 "way", labels=label)
        for one in self._gate.redacted_spending():
            charged.add_metric([one.tenant], one.charged)
            in_flight.add_metric([one.tenant], one.num_in_flight)
            for reason, number in one.refused.items():
                refused.add_metric([one.tenant, reason], number)
            if one.budget is not None:
                amount.add_metric([one.tenant], one.budget.amount)
                spent.add_metric([one.tenant], one.budget.spent)
                held.add_metric([one.tenant], one.budget.reserved)
        yield from (charged, refused, in_flight, amount, spent, held)
        if self._gate.ledger is not None:
            info = GaugeMetricFamily("penstock:gateway_info", "This gateway in the ledger",
                                     labels=("gateway",))
            info.add_metric([self._gate.ledger.gateway], 1)
            yield info
            yield GaugeMetricFamily("penstock:ledger_available", "1 while spending can be written",
                                    value=self._gate.ledger.trouble is None)
