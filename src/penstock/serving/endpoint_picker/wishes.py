"""Requests as endpoint pickers see them: a body and a head."""

from dataclasses import replace
from secrets import token_hex
from typing import NamedTuple

from penstock.core.errors import quote
from penstock.core.slo import ServiceClass
from penstock.engines.http_body import JsonBody
from penstock.serving.endpoint_picker.head import REQUEST_ID, Head
from penstock.serving.endpoint_picker.pool_rules import NO_RULES, PoolRules
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import CLASS_HEADER, Ask, Offer, read_ask
from penstock.serving.gateway.request_parameters import BODY_FIELD


class Wish(NamedTuple):
    """A parsed request. ``model`` is the name that the client sent. ``priority`` is that of an
    InferenceObjective: negative where the request may be shed. ``is_changed`` says whether the body
    that goes to an engine differs from the client's."""

    ask: Ask
    model: str
    priority: int
    is_changed: bool


def read_wish(content: JsonBody, head: Head, offer: Offer, rules: PoolRules = NO_RULES) -> Wish:
    """Return the request of a body and its head. Raises ServiceError.

    A model name in a header comes before the pool's rules. An objective's priority is that of the
    InferenceObjective of its name, else of the service class of its name, else 0. A class of its
    name serves it, else with an InferenceObjective the class with the nearest priority, else the
    first class.
    """
    body = content.document
    if not isinstance(body, dict):
        raise ServiceError(400, "the body is not a JSON object", "invalid_json")
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise ServiceError(400, f"model: expected a name, found {quote(name)}", "invalid_value",
                           "model")
    rewrite, is_changed = head.model_rewrite, BODY_FIELD in body
    if rewrite is None:
        rewrite = rules.rewritten(name, head.headers.get(REQUEST_ID) or token_hex(8))
    if rewrite != name:
        body, is_changed = {**body, "model": rewrite}, True
    options, objective = head.own_options(), head.objective
    stated = None if objective is None else rules.priorities.get(objective)
    is_stated = CLASS_HEADER.lower() in options
    if objective is not None and not is_stated and (
            objective in offer.classes or stated is not None):
        options[CLASS_HEADER.lower()] = objective if objective in offer.classes else \
            _nearest_class(stated or 0, offer)
        is_stated = True
    ask = read_ask(JsonBody(body, content.num_bytes), options, offer, path=head.path)
    found = ask.service_class
    if (slo := head.slo(found.slo)) is not found.slo:
        ask = ask._replace(service_class=replace(found, slo=slo))
    priority = objective_priority(found, offer) if is_stated else 0
    if stated is not None:
        priority = stated
    return Wish(ask, name, priority, is_changed)


def objective_priority(service_class: ServiceClass, offer: Offer) -> int:
    """Return a class's priority in the sense of an InferenceObjective, where higher is more urgent
    and negative may be shed: 0 for the most urgent class of the fleet, less for the others."""
    most_urgent = min(one.priority for one in offer.classes.values())
    return most_urgent - service_class.priority


def _nearest_class(priority: int, offer: Offer) -> str:
    """Return the class whose priority is nearest to an InferenceObjective's, the more urgent of
    two."""
    return min(offer.classes.values(), key=lambda one: (
        abs(objective_priority(one, offer) - priority), one.priority)).name
