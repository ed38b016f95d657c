"""Orders for deployments: `penstock deployments` and ``/v1/deployments``."""

from typing import Any

from penstock.fleet.document import ParallelismSection
from penstock.fleet.document_run import RunSection
from penstock.fleet.fields import Count, Finite, NotNegative, Positive, Section, again, described


class Order(Section):
    """An order; a field that is unknown is an error."""


class Waiting(Order):
    """An order that takes a while to carry out."""

    wait: bool = described("Answer when it is done instead of when it has begun.", default=False)


class RegisterOrder(Order):
    """Register a model under a name."""

    name: str = described("Name of the deployment.", "chat", default=...)
    model: str = described("A model of the fleet file.", "llama-2-7b", default=...)
    engine: str = described(
        "Engine: vllm, sglang, transformers, llamacpp, emulate, or sim (a simulated engine).",
        "vllm", default="sim")
    options: dict[str, Any] = described(
        "Engine option, such as model=FILE, threads=2 or speed=10; repeatable.",
        {"speed": 10}, default={})


class ProfileOrder(Waiting):
    """How to measure a model. With ``path``, an existing profile is adopted."""

    path: str | None = described(
        "Use this profile (a folder, or a CSV file with MaverIQ's columns, on the machine of the "
        "deployments) instead of measuring.", "profiles/llama")
    engine: str | None = again(RegisterOrder, "engine", left_out="that of the deployment")
    precisions: list[str] = described(
        "Number formats of the weights, one after the other.", ["fp16", "int4"], default=[])
    design: str | None = described(
        "Set of layer cuts, settings and lengths to measure: penstock or maveriq.", "maveriq")
    depths: list[Count] = described(
        "Additional numbers of layers to measure on one accelerator, for comparison.",
        [32], default=[])
    budget_s: Positive | None = described(
        "Stop after this time, seconds; the same command continues later.", 600)
    seed: int | None = again(RunSection, "seed")
    settings: dict[str, str | int | float | bool] = again(RegisterOrder, "options", default={})


class ConfigurationOrder(ParallelismSection):
    """An exact configuration."""

    precision: str = described("Number format of the weights.", "int4", default=...)
    kv_precision: str = described("Number format of the KV cache.", "fp8", default="fp16")


class DeployOrder(Waiting):
    """Order to deploy: the intended configuration or the intent."""

    intent: str | None = described(
        "What to minimise: min_lat, min_mem, min_cost (latency times memory), min_gpu_cost "
        "(latency times accelerators), money or energy; left out, min_cost.", "min_lat")
    slo_s: Positive | None = described(
        "Longest time for an answer, seconds, which the high end of the estimate's interval must "
        "meet.", 2)
    sure: bool = described(
        "The high end of the prediction interval must meet the SLO, not the estimate alone.",
        default=True)
    accuracy: dict[str, float] = described(
        "Accuracy by configuration, with keys such as llama-2-7b_int8_False_None.",
        {"llama-2-7b_int8_False_None": 0.62}, default={})
    least_accuracy: Finite | None = described(
        "Minimum accuracy, in the units of the accuracy table.", 0.6)
    precisions: list[str] | None = described(
        "Allowed number formats of the weights, such as bf16,fp8.", ["fp16", "int4"])
    most_accelerators: Count | None = described("Most accelerators to use.", 4)
    rate_per_s: NotNegative = described(
        "Expected requests per second of the model; waiting time then counts as latency.", 1.5,
        default=0.0)
    output_tokens: Count = described("Tokens of each answer.", 200, default=100)
    batch: Count = described("Requests per batch.", 4, default=1)
    placer: str = described("penstock, balanced, exact or maveriq.", "balanced", default="penstock")
    configuration: ConfigurationOrder | None = described(
        "Exactly this configuration, instead of an intent.", {"precision": "int4"})
    confidential: bool = described("Use only accelerators that are attested to run in confidential "
                                   "mode.", default=False)
    dry_run: bool = described("Print the decision and change nothing.", default=False)


class InferOrder(Order):
    """A request, in the words of OpenAI's API."""

    prompt: str | list[int] | None = described("The prompt: text or tokens.", "Hi")
    messages: list[dict[str, Any]] | None = described(
        "A chat, instead of a prompt.", [{"role": "user", "content": "Hi"}])
    max_tokens: Count | None = described(
        "Longest answer, tokens; default: the engine's limit.", 50)
    temperature: NotNegative | None = described("Sampling temperature; 0 is greedy.", 0.7)
    seed: int | None = described("Seed of the answer.", 7)
    stop: str | list[str] | None = described("Ends the answer.", "\n")
    head: bool = described(
        "Put the request at the head of the queue instead of the tail.", default=False)


class RemoveOrder(Waiting):
    """The end of a deployment."""

    cancel: bool = described(
        "Cancel requests and starts in progress instead of waiting for their end.", default=False)


class RestartOrder(Waiting):
    """A new start of an unhealthy deployment."""


class NoOrder(Order):
    """An order without fields."""
