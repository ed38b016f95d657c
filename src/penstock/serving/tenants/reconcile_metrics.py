"""A gateway's metrics beside its charges and its decisions."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, select

from penstock.core.errors import InputError
from penstock.core.money import to_money, to_nanos
from penstock.serving.tenants.reconcile_log import Log, is_confidential
from penstock.serving.tenants.tables import CHARGES


@dataclass(slots=True)
class GatewayMetrics:
    """The counters of one gateway that charges must equal."""

    gateway: str = ""
    charged: dict[str, float] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, text: str) -> "GatewayMetrics":
        """Read a gateway's metrics. Raises InputError."""
        found = cls()
        try:
            samples = [sample for family in text_string_to_metric_families(text)
                       for sample in family.samples]
        except ValueError as error:
            raise InputError("--metrics: expected Prometheus' text format, found "
                             f"{str(error)[:80]!r}") from None
        for name, labels, value, *_ in samples:
            if name == "penstock:gateway_info":
                found.gateway = labels["gateway"]
            elif name == "penstock:tenant_charged_total":
                found.charged[labels["tenant"]] = value
            elif name == "penstock:requests_total":
                found.outcomes[labels["outcome"]] += int(value)
            elif name in _COLUMNS:
                found.sums[name] += int(value)
        if not found.gateway:
            raise InputError("--metrics: expected the metrics of a gateway with a ledger, which "
                             "have penstock:gateway_info")
        return found


_COLUMNS = {"penstock:prompt_tokens_total": "prompt_tokens",
            "penstock:generation_tokens_total": "output_tokens",
            "penstock:usage_disputed_total": "disputed"}


def compare_metrics(connection: Connection, metrics: GatewayMetrics, log: Log) -> Iterator[str]:
    """Yield each difference between a gateway's metrics, and its charges and decisions."""
    place = f"metrics of gateway {metrics.gateway}"
    charged: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    rounded: set[str] = set()
    for row in connection.execute(select(CHARGES).where(CHARGES.c.gateway == metrics.gateway)):
        charged[row.tenant] += row.charged_nanos
        if is_confidential(row):  # counted apart, and the tenant's figures are rounded up
            rounded.add(row.tenant)
        else:
            sums.update({name: int(getattr(row, column)) for name, column in _COLUMNS.items()})
    for tenant in sorted({*charged, *metrics.charged}):
        nanos = to_nanos(metrics.charged.get(tenant, 0.0))
        if nanos != charged[tenant] and not (tenant in rounded and nanos > charged[tenant]):
            yield (f"{place}: {tenant} was charged {to_money(nanos):.9g}, and the ledger has "
                   f"{to_money(charged[tenant]):.9g}")
    for name in _COLUMNS:
        told, real = metrics.sums[name], sums[name]
        if told != real:
            yield f"{place}: {name} is {told}, and that of its charges is {real}"
    logged = {outcome: number for (gateway, outcome), number in log.outcomes.items()
              if gateway == metrics.gateway}
    for outcome in sorted({*logged, *metrics.outcomes}) if logged else ():
        if metrics.outcomes[outcome] != logged.get(outcome, 0):
            yield (f"{place}: {metrics.outcomes[outcome]} requests {outcome}, and the log has "
                   f"{logged.get(outcome, 0)}")
