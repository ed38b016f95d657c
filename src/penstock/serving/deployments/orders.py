"""Orders for deployments: words and numbers checked before any action."""

from typing import Any

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Parallelism
from penstock.core.model import BYTES_PER_VALUE
from penstock.fleet.request_deployments import DeployOrder, InferOrder
from penstock.perf.fingerprint.physics import PRECISIONS
from penstock.policy.place.intent import OBJECTIVES, Criteria
from penstock.registry.policies import PLACERS
from penstock.serving.deployments.deployments import DeployIntent


def intent_of(order: DeployOrder) -> DeployIntent:
    """Return the intent of a deploy. Raises InputError for a meaningless word or number."""
    if order.configuration is not None and order.intent is not None:
        raise InputError("configuration: found beside intent; expected one of them")
    intent = order.intent or "min_cost"
    _check("intent", intent, OBJECTIVES)
    if not PLACERS.knows(order.placer):
        raise InputError(f"placer: {order.placer[:60]!r} is unknown{PLACERS.nearest(order.placer)}")
    for precision in order.precisions or ():
        _check("precisions", precision, PRECISIONS)
    exact = order.configuration
    configuration = None
    if exact is not None:
        _check("configuration.precision", exact.precision, PRECISIONS)
        _check("configuration.kv_precision", exact.kv_precision, BYTES_PER_VALUE)
        configuration = Configuration(Parallelism(exact.tensor, exact.pipeline), exact.precision,
                                      exact.kv_precision)
    precisions = None if order.precisions is None else frozenset(order.precisions)
    criteria = Criteria(intent, order.slo_s, order.sure, least_accuracy=order.least_accuracy,
                        precisions=precisions,
                        most_accelerators=order.most_accelerators, own_rate_per_s=order.rate_per_s)
    return DeployIntent(criteria, configuration, order.output_tokens, order.batch, order.placer,
                        order.accuracy, order.confidential)


def request_of(order: InferOrder) -> dict[str, Any]:
    """Return the body of a request. Raises InputError unless there is exactly one of prompt and
    messages."""
    if (order.prompt is None) == (order.messages is None):
        raise InputError("prompt: expected either prompt or messages")
    return order.model_dump(exclude_none=True, exclude={"head"})


def _check(field: str, value: str, valid: Any) -> None:
    if value not in valid:
        raise InputError(f"{field}: {value[:60]!r} is unknown{nearest(value[:60], valid)}")
