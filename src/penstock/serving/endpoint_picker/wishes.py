"""Requests as endpoint pickers see them: a body and a head."""

from dataclasses import replace
from typing import NamedTuple

from penstock.core.errors import quote
from penstock.core.slo import ServiceClass
from penstock.engines.http_body import JsonBody
from penstock.serving.endpoint_picker.head import Head
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


def read_wish(content: JsonBody, head: Head, offer: Offer) -> Wish:
    """Return the request of a body and its head. Raises ServiceError."""
    body = content.document
    if not isinstance(body, dict):
        raise ServiceError(400, "the body is not a JSON object", "invalid_json")
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise ServiceError(400, f"model: expected a name, found {quote(name)}", "invalid_value",
                           "model")
    rewrite, is_changed = head.model_rewrite, BODY_FIELD in body
    if rewrite is not None and rewrite != name:
        body, is_changed = {**body, "model": rewrite}, True
    options, objective = head.own_options(), head.objective
    is_stated = CLASS_HEADER.lower() in options
    if objective in offer.classes and not is_stated and objective is not None:
        options[CLASS_HEADER.lower()] = objective
        is_stated = True
    ask = read_ask(JsonBody(body, content.num_bytes), options, offer, path=head.path)
    found = ask.service_class
    if (slo := head.slo(found.slo)) is not found.slo:
        ask = ask._replace(service_class=replace(found, slo=slo))
    priority = objective_priority(found, offer) if is_stated else 0
    return Wish(ask, name, priority, is_changed)


def objective_priority(service_class: ServiceClass, offer: Offer) -> int:
    """Return a class's priority in the sense of an InferenceObjective, where higher is more urgent
    and negative may be shed: 0 for the most urgent class of the fleet, less for the others."""
    most_urgent = min(one.priority for one in offer.classes.values())
    return most_urgent - service_class.priority
