"""The section of the fleet file about model multiplexing."""

from typing import Annotated, Literal

from pydantic import Field

from penstock.fleet.document_adapters import LoraRoomSection
from penstock.fleet.fields import (
    Count,
    CountOrZero,
    Endpoint,
    FilePath,
    GbPerS,
    Name,
    NamedChoice,
    NotNegative,
    Positive,
    Section,
    ShareOrZero,
    described,
)

Argument = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


class SwapEngineSection(Section):
    """The engine of a multiplexed model, and how it loads and unloads the model."""

    kind: Name = described(
        "vllm: a running server that is put to sleep and woken; ollama, llama-server: a running "
        "server that loads and unloads; llamacpp: a file that Penstock loads itself; process: a "
        "command that is started and ended.", "vllm", default=...)
    endpoints: list[Endpoint] | None = described(
        "Base URLs of the engine on each device of the pool, one for each (vllm, ollama, "
        "llama-server).", ["http://127.0.0.1:8001"])
    served_as: Name | None = described("The engine's name for the model; left out, the model's "
                                       "name.",
                                       "llama3.1:8b")
    sleep_level: Literal[1, 2] = described(
        "vllm: 1 keeps the weights in host memory, 2 discards them and reads them again.", 1,
        default=1)
    file: FilePath | None = described("llamacpp: the model, in GGUF format.",
                                      "models/small.gguf")
    command: list[Argument] | None = described(
        "process: the command line. {port} stands for the port to listen on, {device} for the "
        "device's number, {model} for the model's name.",
        ["vllm", "serve", "my/model", "--port", "{port}", "--served-model-name", "{model}"])
    environment: dict[Name, Argument] = described(
        "process: environment variables, with the same placeholders.",
        {"CUDA_VISIBLE_DEVICES": "{device}"}, default={})
    kv_tokens: Count | None = described("llamacpp: tokens in its KV cache.", 8192)
    threads: Count | None = described("llamacpp: threads that compute.", 2)


class BatchTimeSection(Section):
    """Believed duration of a batch of n requests: `fixed_s` + n * `per_request_s`."""

    fixed_s: NotNegative = described("Seconds of any batch.", 0.9, default=...)
    per_request_s: NotNegative = described("Seconds that each request adds.", 0.09, default=...)


class HostedModelSection(LoraRoomSection):
    """A model of a pool of devices."""

    model: Name = described("Model, from `models`.", "llama-3-8b", default=...)
    precision: Name | None = described(
        "Number format of its weights; left out, the model's first.", "bf16")
    size_gib: Positive | None = described(
        "Device memory of the loaded model, GiB, including its engine's own memory; left out, "
        "its weights and its places for adapters.", 25.1)
    request_gib: NotNegative = described(
        "Additional memory of each running request, GiB.", 0.1, default=0.0)
    max_batch: Count = described("Most requests that it runs at once on a device.", 64, default=64)
    batch: BatchTimeSection | None = described(
        "Expected time of a batch; left out, from the step-time model for 256 prompt tokens "
        "and 128 output tokens.",
        {"fixed_s": 0.9, "per_request_s": 0.09})
    load_s: Positive | None = described(
        "Expected time of a load, seconds; left out, its bytes over the accelerator's bus.", 9.0)
    e2e_s: Positive | None = described(
        "Time to its last token, seconds; narrows the class's e2e_s.", 40)
    min_share: ShareOrZero = described(
        "Share of a device's time that it may claim while its requests wait.", 0.05, default=0.0)
    engine: SwapEngineSection | None = described(
        "The real engine; needed only by `penstock serve`.",
        {"kind": "vllm", "endpoints": ["http://127.0.0.1:8001"]})


class HostSection(Section):
    """The host from which models are loaded. Files stay in host memory until others replace them,
    so a load reads from disk only the parts that are no longer in memory."""

    memory_gib: NotNegative = described("Host memory for files of models, GiB.", 200,
                                        default=...)
    disk_gb_per_s: GbPerS = described("Reading from disk, 10^9 bytes per second.", 5,
                                        default=...)
    copy_gb_per_s: GbPerS | None = described(
        "From host memory to a device, 10^9 bytes per second; left out, the accelerator's bus.", 6)
    fixed_s: NotNegative = described("Additional fixed time of every load, seconds.", 2,
                                    default=0.0)
    overlap: ShareOrZero = described(
        "Share of reading and copying that overlaps, 0 to 1.", 1, default=0.0)


class DevicePoolSection(Section):
    """Equal devices that share the same set of models."""

    name: Name | None = described("Name in reports; left out, the accelerator's.", "gpu")
    accelerator: Name | None = described("Accelerator, from `accelerators`; left out, the first.",
                                         "h100-80gb")
    count: Count = described("Number of devices; each may have different models loaded.", 1,
                             default=1)
    memory_gib: Positive | None = described(
        "Memory of each device for models, GiB; left out, `engine.memory_fraction` of the "
        "accelerator's memory.", 70)
    max_residents: Count | None = described(
        "Most models in a device's memory at once; left out, as many as fit.", 2)
    batching: Literal["continuous", "static"] = described(
        "continuous: requests join running requests, and the models of a device run "
        "concurrently; static: one batch at a time, which ends as a whole.", "static",
        default="continuous")
    policy: NamedChoice = described(
        "Multiplexing policy, which decides loads and batches.", "penstock",
        {"name": "sincere-best-batch-timer"}, default="penstock")
    load_timeout_s: Positive = described(
        "A load that takes longer counts as failed, seconds.", 600, default=600.0)
    load_attempts: Count = described(
        "Consecutive failures after which a model is set apart (gets no requests for a while).", 3,
        default=3)
    set_apart_s: NotNegative = described(
        "Time for which requests of a model that cannot be loaded are refused, seconds.", 60,
        default=60.0)
    max_wait_s: Positive = described(
        "Longest wait of a request, seconds; then it is refused.", 600,
        default=600.0)
    max_queue: CountOrZero = described("Most requests of a model that wait.", 1000, default=1000)
    host: HostSection | None = described(
        "Host that models are loaded from, for simulations; left out, every load takes its "
        "model's load_s.", {"memory_gib": 200, "disk_gb_per_s": 5})
    models: list[HostedModelSection] = Field(
        min_length=1, description="The models of the pool.",
        examples=[[{"model": "llama-3-8b", "max_batch": 64}]])
