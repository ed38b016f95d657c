"""Orders for deployments: the fields of each order, checked before any action."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Parallelism
from penstock.core.model import BYTES_PER_VALUE
from penstock.fleet.problems import dotted, shape_problems
from penstock.perf.fingerprint.physics import PRECISIONS
from penstock.policy.place.intent import OBJECTIVES, Criteria
from penstock.registry.policies import PLACERS
from penstock.serving.deployments.deployments import DeployIntent

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0)]


class Order(BaseModel):
    """An order; a field that is unknown is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Waiting(Order):
    """An order that takes a while to carry out."""

    wait: bool = Field(False, description="Answer when it is done instead of when it has begun.")


class RegisterOrder(Order):
    """Register a model under a name."""

    name: str = Field(description="Name of the deployment.", examples=["chat"])
    model: str = Field(description="A model of the fleet file.", examples=["llama-2-7b"])
    engine: str = Field("sim", description="sim, emulate, llamacpp or vllm.")
    options: dict[str, Any] = Field({}, description="How to run that engine.")


class ProfileOrder(Waiting):
    """How to measure a model. With ``path``, an existing profile is adopted."""

    path: str | None = Field(None, description="A profile's folder, or a CSV file with MaverIQ's "
                             "columns, on the machine of the deployments.")
    engine: str | None = Field(None, description="sim, transformers, llamacpp or vllm; by default "
                               "the engine of the deployment.")
    precisions: list[str] = Field([], description="Weights' number formats to measure.")
    design: str | None = Field(None, description="penstock or maveriq.")
    depths: list[Count] = Field([], description="Further numbers of layers to run on one "
                                "accelerator, such as all of them.")
    budget_s: Seconds | None = Field(None, description="Stop after so long.")
    seed: Annotated[int, Field(ge=0)] | None = Field(None, description="Seed of weights.")
    settings: dict[str, str | int | float | bool] = Field({}, description="As `penstock profile "
                                                          "--with` has them.")


class ConfigurationOrder(Order):
    """An exact configuration."""

    tensor: Count = Field(1, description="Accelerators that share each layer.")
    pipeline: Count = Field(1, description="Stages.")
    precision: str = Field(description="Of the weights.", examples=["int4"])
    kv_precision: str = Field("fp16", description="Of keys and values.")


class DeployOrder(Waiting):
    """Order to deploy: the intended configuration or the intent."""

    intent: str | None = Field(None, description="What to make small: min_cost (the usual one), "
                               "min_mem, min_lat, min_gpu_cost, money or energy.")
    slo_s: Seconds | None = Field(None, description="Longest time for an answer, seconds.")
    sure: bool = Field(True, description="The high end of the prediction interval must meet slo_s.")
    accuracy: dict[str, float] = Field({}, description="Accuracy by configuration, with keys such "
                                       "as llama-2-7b_int8_False_None.")
    least_accuracy: float | None = Field(None, description="In the units of that table.")
    precisions: list[str] | None = Field(None, description="Weights' formats that are allowed.")
    most_accelerators: Count | None = Field(None, description="At most so many.")
    rate_per_s: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Expected requests per second; latency then includes waiting.")
    output_tokens: Count = Field(100,
                                 description="Length of answers for which latency is estimated.")
    batch: Count = Field(1, description="Answers at once.")
    placer: str = Field("penstock", description="penstock, balanced, exact or maveriq.")
    configuration: ConfigurationOrder | None = Field(
        None, description="Exactly this configuration, instead of an intent.")
    confidential: bool = Field(False, description="Run and answer on accelerators that are "
                               "attested to be in confidential mode only.")
    dry_run: bool = Field(False, description="Decide, and change nothing.")


class InferOrder(Order):
    """A request, in the words of OpenAI's API."""

    prompt: str | list[int] | None = Field(None, description="Text or tokens.", examples=["Hi"])
    messages: list[dict[str, Any]] | None = Field(None, description="A chat, instead of a prompt.")
    max_tokens: Count | None = Field(None, description="Longest answer, tokens.")
    temperature: Annotated[float, Field(ge=0)] | None = Field(None, description="0 is greedy.")
    seed: int | None = Field(None, description="Of the answer.")
    stop: str | list[str] | None = Field(None, description="Ends the answer.")
    head: bool = Field(False,
                       description="Put the request at the head of the queue instead of the tail.")


class RemoveOrder(Waiting):
    """The end of a deployment."""

    cancel: bool = Field(False, description="Cancel requests in progress instead of letting them "
                         "end.")


class RestartOrder(Waiting):
    """A new start of an unhealthy deployment."""


class NoOrder(Order):
    """An order without fields."""


AnOrder = TypeVar("AnOrder", bound=Order)


def read_order(kind: type[AnOrder], document: Any) -> AnOrder:
    """Return the order in a JSON document. Raises InputError with the field, the value found and
    the value expected."""
    if not isinstance(document, Mapping):
        raise InputError("body: expected a JSON object")
    try:
        return kind.model_validate(dict(document))
    except ValidationError as error:
        problems = shape_problems(error, kind.model_json_schema())
        # A misspelt required key is also reported as missing. The misspelling is the better hint.
        path, text = min(problems, key=lambda one: one.text.startswith("missing"))
        raise InputError(f"{dotted(path)}: {text}" if path else text) from None


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
    for name in ("slo_s", "least_accuracy", "rate_per_s"):
        value = getattr(order, name)
        if value is not None and not isfinite(value):
            raise InputError(f"{name}: {value}; expected a finite number")
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
