"""The section ``behavior`` of an HPA, which KEDA and others take over."""

from typing import Any

from penstock.published.autoscalers.files.fields import Fields, quantity

_LONGEST_WINDOW_S, _LONGEST_PERIOD_S = 3600, 1800


def behaviour_settings(section: Fields | None) -> dict[str, Any]:
    """Return the settings of ``behavior``; fields that are left out keep the defaults."""
    if section is None:
        return {}
    found: dict[str, Any] = {}
    for key, direction in (("scaleUp", "up"), ("scaleDown", "down")):
        rules = section.section(key)
        if rules is not None:
            found |= _rules(rules, direction)
    section.end()
    return found


def _rules(rules: Fields, direction: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules.has("stabilizationWindowSeconds"):
        found[f"{direction}_window_s"] = rules.whole("stabilizationWindowSeconds",
                                                     high=_LONGEST_WINDOW_S)
    if rules.has("selectPolicy"):
        found[f"{direction}_select"] = rules.word("selectPolicy", ("Max", "Min", "Disabled"))
    if rules.has("tolerance"):
        found[f"{direction}_tolerance"] = rules.number("tolerance", read=quantity)
    policies = rules.rows("policies")
    if policies:
        found[f"{direction}_policies"] = [_policy(one) for one in policies]
    rules.end()
    return found


def _policy(row: Fields) -> dict[str, Any]:
    found = {"kind": row.word("type", ("Pods", "Percent")), "value": row.whole("value", low=1),
             "period_s": row.whole("periodSeconds", low=1, high=_LONGEST_PERIOD_S)}
    row.end()
    return found
