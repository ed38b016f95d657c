"""Requests whose fields are declared as those of the fleet file are, and how one is read."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from penstock.core.errors import InputError
from penstock.fleet.fields import Section
from penstock.fleet.problems import dotted, quote, shape_problems
from penstock.fleet.request_deployments import (
    DeployOrder,
    InferOrder,
    ProfileOrder,
    RegisterOrder,
    RemoveOrder,
)
from penstock.fleet.request_plan import PlanQuery
from penstock.fleet.request_queue import QueueAtRate, QueueUnderTargets

REQUESTS: Mapping[str, type[Section]] = MappingProxyType({
    "register": RegisterOrder, "profile": ProfileOrder, "deploy": DeployOrder, "infer": InferOrder,
    "remove": RemoveOrder, "plan": PlanQuery, "queue": QueueAtRate, "size": QueueUnderTargets})
"""Requests by the name that options state their fields with."""

ARequest = TypeVar("ARequest", bound=Section)


def read_request(kind: type[ARequest], document: Any, where: str = "") -> ARequest:
    """The request of a JSON document. Raises InputError: field, what was expected, what was found;
    ``where`` stands before the field."""
    begin = f"{where}: " if where else ""
    if not isinstance(document, Mapping):
        raise InputError(f"{where or 'body'}: expected a JSON object, found {quote(document)}")
    try:
        return kind.model_validate(dict(document))
    except ValidationError as error:
        problems = shape_problems(error, kind.model_json_schema())
        # A key that is misspelt is missing as well: the misspelling is the better hint.
        path, text = min(problems, key=lambda one: one.text.startswith("missing"))
        raise InputError(f"{begin}{dotted(path)}: {text}" if path else f"{begin}{text}") from None
