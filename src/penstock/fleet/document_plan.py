"""The section `plan` of the fleet file: choices and limits of a plan."""

from typing import Annotated, Literal

from pydantic import Field

from penstock.fleet.fields import Count, NotNegative, Positive, Section, described

KvPrecision = Literal["bf16", "fp16", "fp8", "int8"]
Confidence = Annotated[float, Field(ge=0.5, le=0.975)]
Seeds = Annotated[int, Field(ge=1, le=1000)]


class PlanSection(Section):
    """Bounds of the plans that `penstock plan` may propose. Keys that are left out do not bind."""

    pooling: Literal["model", "class"] = described(
        "Which requests share replicas: all of a model, or each class of it alone.", "class",
        default="model")
    mixed: bool = described(
        "Whether the replicas of one pool may differ in accelerator, parallelism and precision.",
        False, default=True)
    tensor: list[Count] | None = described(
        "Tensor-parallel degrees to consider; left out, powers of two within a node.", [1, 2, 4])
    pipeline: list[Count] = described("Pipeline-parallel degrees to consider.", [1, 2],
                                      default=[1])
    kv_precisions: list[KvPrecision] = described(
        "Number formats of keys and values to consider.", ["bf16", "fp8"], default=["bf16"])
    step_tokens: list[Count] | None = described(
        "Step budgets to consider, tokens; left out, the scheduling policy's own.", [512, 2048])
    min_replicas: Count = described(
        "Fewest replicas of each kind that a pool is given, so that one may fail.", 2, default=1)
    keep_accelerators: bool = described(
        "Whether running demands stay on their present accelerators.", True, default=False)
    max_cost_per_hour: Positive | None = described("Most that the fleet may cost per hour.", 120)
    max_power_w: Positive | None = described("Most power of all accelerators together, watts.",
                                             40_000)
    start_cost: NotNegative = described("Cost of starting one replica, once.", 0.5, default=0.0)
    stop_cost: NotNegative = described("Cost of stopping one replica, once.", 0.1, default=0.0)
    confidence: Confidence = described(
        "Probability, as far as step times are uncertain, with which the replicas must suffice; "
        "0.5 takes step times as they are expected.", 0.95, default=0.5)
    num_seeds: Seeds = described("Seeds with which a proposal must meet every objective.", 3,
                                 default=2)
