"""Writes what deploy/ derives: Grafana's dashboards, the PrometheusRule of the rules file, and the
custom resource definitions of the controller."""

import json
from pathlib import Path
from typing import Any

import yaml

from penstock.serving.kubernetes.crd import definitions

FOLDER = Path(__file__).resolve().parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FLEET = '{namespace=~"$namespace", fleet=~"$fleet"}'
MODEL = '{model_name=~"$model_name"}'
Panel = tuple[str, str, dict[str, str]]
"""Title, unit and expressions by legend."""

DASHBOARDS: dict[str, tuple[str, dict[str, str], list[Panel]]] = {
    "fleet": ("Penstock: fleet", {
        "namespace": "label_values(penstock_desired_replicas, namespace)",
        "fleet": 'label_values(penstock_desired_replicas{namespace=~"$namespace"}, fleet)'}, [
        ("Requests per second", "reqps", {
            "{{model_name}} {{service_class}}": "sum by (model_name, service_class) "
            "(rate(penstock:requests_total[$__rate_interval]))"}),
        ("Desired and current replicas", "short", {
            "{{fleet}} {{group}} {{accelerator}} desired":
                f"group:penstock_desired_replicas:leader{FLEET}",
            "{{fleet}} {{group}} {{accelerator}} current":
                f"group:penstock_current_replicas:leader{FLEET}"}),
        ("Replicas by state, of gateways that scale", "short", {
            "{{model_name}} {{state}}": "sum by (model_name, state) (penstock:replicas)",
            "{{model_name}} wanted": "sum by (model_name) (penstock:replicas_wanted)"}),
        ("Attainment", "percentunit", {
            "{{fleet}}": f"fleet:penstock_attainment:leader{FLEET}",
            "{{model_name}} {{service_class}}": "class:penstock_attainment:ratio_rate5m",
            "objective": "penstock_objective:ratio"}),
        ("Cost per hour", "short", {
            "{{fleet}}": f"fleet:penstock_cost_per_hour:leader{FLEET}",
            "gateways": "sum(penstock:replicas_cost_per_hour)"}),
        ("Decisions in five minutes", "short", {
            "{{direction}}": "sum by (direction) (increase(penstock_decisions_total[5m]))",
            "gateways {{direction}}":
                "sum by (direction) (increase(penstock:scaling_decisions_total[5m]))"}),
    ]),
    "gateway": ("Penstock: gateway", {
        "model_name": "label_values(penstock:requests_total, model_name)"}, [
        ("Requests per second by outcome", "reqps", {
            "{{outcome}}": f"sum by (outcome) (rate(penstock:requests_total{MODEL}"
                           "[$__rate_interval]))"}),
        ("Tokens per second", "short", {
            "prompt": f"sum(rate(penstock:prompt_tokens_total{MODEL}[$__rate_interval]))",
            "output": f"sum(rate(penstock:generation_tokens_total{MODEL}[$__rate_interval]))"}),
        *(("Time to first token" if name.startswith("time") else "Whole answer", "s", {
            f"{{{{service_class}}}} p{percent}":
                f"histogram_quantile({percent / 100}, sum by (le, service_class) "
                f"(rate(penstock:{name}_bucket{MODEL}[$__rate_interval])))"
            for percent in (50, 90, 99)})
          for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds")),
        ("Errors per second", "reqps", {
            "{{outcome}}": "sum by (outcome) (rate(penstock:requests_total"
            '{outcome=~"refused|failed|broken|shed"}[$__rate_interval]))',
            "retries": "sum(rate(penstock:retries_total[$__rate_interval]))"}),
        ("In flight and waiting", "short", {
            "in flight": "sum(penstock:num_requests_in_flight)",
            "waiting": "sum(penstock:num_requests_waiting)"}),
        ("Engines that may get requests", "short", {
            "available": "sum(max by (url) (penstock:engine_available))",
            "all": "count(max by (url) (penstock:engine_available))"}),
        ("Prompts by the source of their tokens, per second", "reqps", {
            "{{tokens}}": "sum by (tokens) (rate(penstock:kv_prompts_total[$__rate_interval]))"}),
        ("Messages with KV events per second", "short", {
            "{{what}}":
                "sum by (what) (rate(penstock:kv_event_messages_total[$__rate_interval]))"}),
        ("Adapters loaded", "short", {"{{url}}": "max by (url) (penstock:adapters_loaded)"}),
        ("Changes of adapters per second", "short", {
            "{{what}}": "sum by (what) (rate(penstock:adapter_changes_total[$__rate_interval]))"}),
        ("Overload pressure", "percentunit", {
            "{{of}}": "max by (of) (penstock_overload_pressure)"}),
        ("Charges of tenants per hour", "short", {
            "{{tenant}}": "sum by (tenant) (rate(penstock:tenant_charged_total[1h])) * 3600"}),
        ("Refused requests of tenants per second", "reqps", {
            "{{tenant}} {{reason}}":
                "sum by (tenant, reason) (rate(penstock:tenant_refused_total[$__rate_interval]))"}),
        ("Budget spent", "percentunit", {
            "{{tenant}}":
                "max by (tenant) (penstock:tenant_budget_spent / penstock:tenant_budget)"}),
    ]),
    "controller": ("Penstock: controller", {}, [
        ("Reconciles per second", "ops", {
            "{{result}}": "sum by (result) (rate(penstock_reconcile_total[$__rate_interval]))"}),
        ("Duration of a reconcile", "s", {
            f"p{percent}": f"histogram_quantile({percent / 100}, sum by (le) "
                           "(rate(penstock_reconcile_seconds_bucket[$__rate_interval])))"
            for percent in (50, 90, 99)}),
        ("Leader", "short", {"{{instance}}": "penstock_leader"}),
        ("Fleets whose metrics are missing", "short", {
            "{{namespace}}/{{fleet}}": "max by (namespace, fleet) (penstock_metrics_missing)"}),
        ("Desired over current replicas", "short", {
            "{{namespace}}/{{fleet}} {{group}}":
                "max by (namespace, fleet, group) (penstock_desired_ratio)"}),
    ]),
}


def dashboard(uid: str) -> dict[str, Any]:
    """Return a dashboard in Grafana's JSON model."""
    title, variables, panels = DASHBOARDS[uid]
    return {
        "uid": f"penstock-{uid}", "title": title, "tags": ["penstock"], "editable": True,
        "schemaVersion": 39, "version": 1, "refresh": "30s", "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            *({"name": name, "type": "query", "datasource": SOURCE, "query": query,
               "refresh": 2, "includeAll": True, "multi": True,
               "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
              for name, query in variables.items())]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)]}


def _panel(number: int, title: str, unit: str, expressions: dict[str, str]) -> dict[str, Any]:
    return {
        "id": number + 1, "type": "timeseries", "title": title, "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [{"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend,
                     "datasource": SOURCE}
                    for index, (legend, expression) in enumerate(expressions.items())]}


def prometheus_rule() -> dict[str, Any]:
    """Return the rules file as an object of the Prometheus operator."""
    rules = yaml.safe_load((FOLDER / "prometheus" / "rules.yaml").read_text())
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
            "metadata": {"name": "penstock"}, "spec": rules}


def texts() -> dict[str, str]:
    """Return the content of each derived file by its path below deploy/."""
    found = {f"grafana/{uid}.json": json.dumps(dashboard(uid), indent=1) + "\n"
             for uid in DASHBOARDS}
    found["kustomize/overlays/monitoring/prometheusrule.yaml"] = (
        "# Written by deploy/generate.py from deploy/prometheus/rules.yaml.\n"
        + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=1000))
    for one in definitions():
        name = one["spec"]["names"]["plural"]
        found[f"kustomize/base/crds/{name}.yaml"] = (
            "# Written by deploy/generate.py from the declaration of the fleet file.\n"
            + yaml.safe_dump(one, sort_keys=False, width=100))
    return found


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
