"""The sections of the fleet file as written, before names are resolved."""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag

from penstock.core.slo import ItlMode
from penstock.fleet.document_accelerators import AcceleratorSection
from penstock.fleet.document_adapters import AdaptedSection, LoraRoomSection
from penstock.fleet.document_attestation import (
    AttestationSection,
    DisclosureSection,
    EvidenceSection,
)
from penstock.fleet.document_disaggregation import DisaggregationSection, RoleName
from penstock.fleet.document_gateway import GatewaySection
from penstock.fleet.document_kubernetes import (
    KubernetesSection,
    PortNumber,
    UsualKubernetesSection,
)
from penstock.fleet.document_kv import KvTierSection
from penstock.fleet.document_multiplexing import DevicePoolSection
from penstock.fleet.document_plan import PlanSection
from penstock.fleet.document_run import RunSection
from penstock.fleet.document_scaling import ScaleChoice, ScalingSection, SpotSection
from penstock.fleet.document_schedule import ScheduleChoice
from penstock.fleet.document_speculation import SpeculationSection
from penstock.fleet.document_starts import StartSection
from penstock.fleet.document_traffic import TrafficSection
from penstock.fleet.fields import (
    NAME_OR_SETTINGS,
    SETTINGS_TAG,
    AsName,
    Count,
    CountOrZero,
    Endpoint,
    FilePath,
    KvEndpoint,
    Name,
    NamedChoice,
    NotNegative,
    Percentile,
    Positive,
    Section,
    Share,
    ShareOrZero,
    Words,
    described,
)

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "fp4", "int4"]


class PriceSection(Section):
    """Price of a model's tokens for tenants."""

    input_per_million: NotNegative = described("Price of a million prompt tokens.", 0.15,
                                               default=...)
    output_per_million: NotNegative = described("Price of a million output tokens.", 0.60,
                                                default=...)


class ModelSection(AdaptedSection):
    """A model that is served."""

    name: Name = described("Name in the catalog, or with `config` any name.",
                           "llama-3-8b", default=...)
    precisions: list[Precision] = described(
        "Number formats that its weights may be served in, the preferred one first.",
        ["bf16", "int8"], default=["bf16"])
    max_context_tokens: Count | None = described(
        "Longest prompt and output together, if the model's context was extended; left out, "
        "the catalog's.", 16384)
    config: FilePath | None = described(
        "A Hugging Face config.json (or its folder) to read the architecture from.",
        "models/my-llama/config.json")
    quality: ShareOrZero | None = described(
        "Mean quality of its answers, 0 to 1, for routing among models; left out, 1.", 0.8)
    price: PriceSection | None = described(
        "Price of its tokens; left out, nothing.",
        {"input_per_million": 0.15, "output_per_million": 0.60})


class SloSection(Section):
    """Targets of one request; a target that is left out is not required."""

    ttft_s: Positive | None = described("Time to the first token, seconds.", 6)
    itl_s: Positive | None = described("Time between output tokens, seconds.", 0.05)
    e2e_s: Positive | None = described("Time to the last token, seconds.", 600)
    itl: ItlMode = described(
        "How `itl_s` binds: paced (token n is due at arrival + ttft_s + n * itl_s), strict (every "
        "gap counts) or mean (the request's mean gap, TPOT).", "paced", default="paced")
    percentile: Percentile = described(
        "Share of tokens in a request, and of requests in the class, that must be in time, %.",
        99, default=99.0)
    task_s: Positive | None = described(
        "Time of a whole session (an agent's task), from its first request to its last token, "
        "seconds; `percentile` is the share of sessions that must meet it.", 300)


class ServiceClassSection(Section):
    """A kind of traffic with its own objectives."""

    name: Name = described("Name that traffic and replicas refer to.", "interactive", default=...)
    priority: CountOrZero = described("Urgency; a lower number is more urgent.", 1, default=1)
    weight: NotNegative = described(
        "Value of a request that meets its targets, relative to other classes.", 1.0, default=1.0)
    slo: SloSection = described("Targets of its requests.", {"ttft_s": 6, "itl_s": 0.05},
                                default=SloSection.model_construct())
    defer_s: Positive | None = described(
        "Longest time for which a request may be held back for spare capacity or cleaner "
        "electricity, seconds; left out, requests are sent at once.", 3600)
    confidential: bool = described(
        "Whether only replicas attested to run in confidential mode may serve it.", True,
        default=False)


class ParallelismSection(Section):
    """How one replica is spread over accelerators."""

    tensor: Count = described("Tensor-parallel degree.", 2, default=1)
    pipeline: Count = described("Pipeline-parallel degree.", 1, default=1)


class ReplicaParallelismSection(ParallelismSection):
    """How one replica is spread over accelerators, with data-parallel attention."""

    data: Count = described(
        "Ranks among which the attention of a mixture of experts is data-parallel; the experts are "
        "spread over all ranks.", 8, default=1)
    expert: Count = described(
        "Groups of ranks that hold other experts each; the ranks of a group split its experts.", 8,
        default=1)


class StepTimeSection(Section):
    """A step-time model with its numbers."""

    kind: Name | None = described("roofline, measured, kernels, linear, knee, niyama, tabulated, "
                                  "file, or a published model's name.", "roofline")
    name: Name | None = described("Another name for `kind`.", "vidur-a100-llama-3-8b")
    factor: Positive | None = described("Multiplies every duration.", 1.1)
    host_overhead_s: NotNegative | None = described(
        "Time that the host adds to every step, seconds (roofline, kernels).", 0.002)
    coefficients: dict[Name, Any] | None = described(
        "The kind's coefficients, in seconds per unit (linear, knee, niyama, tabulated).",
        {"base_s": 0.008, "prefill_token_s": 6e-5, "work_s": 2e-9, "decode_seq_s": 1e-5,
         "context_s": 1e-7})
    evidence: dict[Name, Any] | None = described(
        "Source and errors of the coefficients.",
        {"source": "own measurement", "mean_error": 0.02, "p95_error": 0.06})
    path: FilePath | None = described("A saved fit (file) or a folder of kernel tables (kernels).",
                                      "fits/a100.yaml")
    system: Name | None = described("GPU system of the kernel tables; left out, the "
                                    "accelerator's family (kernels).", "h100_sxm")
    backend: Name | None = described(
        "Engine of the kernels: vllm, sglang or trtllm (kernels).", "vllm")
    version: Name | None = described("Version of the tables; left out, the newest (kernels).",
                                     "0.24.0")
    engine: Name | None = described("Stock engine of the fitted rates (measured).", "vllm")
    rates: FilePath | None = described(
        "Rates that `penstock profile fit rates` wrote; left out, those that ship (measured).",
        "rates.yaml")
    exact: bool | None = described(
        "Use the full composition for every step instead of its compact form (kernels).", True)


StepTimeChoice = Annotated[AsName | Annotated[StepTimeSection, Tag(SETTINGS_TAG)],
                           NAME_OR_SETTINGS]


class VariantSection(LoraRoomSection):
    """A kind of replica; what is left out is chosen for you.

    That is: the fleet's only model, the first accelerator that holds it, the smallest tensor
    parallelism that fits, and the model's first precision.
    """

    model: Name | None = described("Model to serve; may be left out when there is only one.",
                                   "llama-3-8b")
    accelerator: Name | None = described("Accelerator to run on, of `accelerators`.", "a100-80gb")
    parallelism: ReplicaParallelismSection | None = described("How a replica is spread.",
                                                              {"tensor": 2})
    precision: Precision | None = described("Number format of the weights.", "bf16")
    kv_precision: Precision = described("Number format of the KV cache.", "fp8",
                                        default="bf16")
    step_time: StepTimeChoice | None = described(
        "Model of a step's duration: a published name, a saved fit's path, or a kind with its "
        "coefficients; left out, the roofline of model and accelerator.",
        "vidur-a100-llama-3-8b", {"kind": "roofline", "factor": 1.1})
    schedule: ScheduleChoice | None = described(
        "Scheduling policy of these replicas; left out, the fleet's.",
        {"name": "sarathi", "chunk_tokens": 256})
    speculation: SpeculationSection | None = described(
        "Speculative decoding of these replicas; left out, none.",
        {"method": "eagle3", "tokens": 3, "acceptance": [0.8, 0.6, 0.45]})


class ReplicaSection(VariantSection):
    """Replicas that run now."""

    count: CountOrZero = described(
        "Number of equal replicas, with `policies.scale` at the start.", 2, default=1)
    min_replicas: CountOrZero | None = described(
        "Fewest replicas to which `policies.scale` may scale; left out, 1, or 0 where `count` is "
        "0.", 1)
    max_replicas: Count | None = described(
        "Most replicas to which `policies.scale` may scale; left out, as many as the accelerators "
        "hold.", 8)
    start_s: Positive | None = described(
        "Time from the order of a replica until it serves; left out, `scaling.start_s`.", 120)
    start: StartSection | None = described(
        "The parts of a start, in the place of `start_s`; what is left out is of `scaling.start`.",
        {"weights": {"source": "remote", "gb_per_s": 1}})
    spot: SpotSection | None = described(
        "Spot instances, which `policies.scale` may lose; left out, nobody takes them back.",
        {"reclaims_per_hour": 0.05, "notice_s": 120, "price_per_hour": 1.2})
    endpoints: list[Endpoint] | None = described(
        "Base URLs of the replicas' OpenAI API, one for each (see `penstock serve`).",
        ["http://127.0.0.1:8001", "http://127.0.0.1:8002"])
    kv_events: list[KvEndpoint] | None = described(
        "Addresses at which the replicas publish the events of their KV caches over ZeroMQ, one "
        "for each; `*` is the endpoint's host, and then one stands for all. Left out, the router "
        "estimates what they hold.", ["tcp://*:5557"])
    kv_replay: list[KvEndpoint] | None = described(
        "Addresses that send missed events again; left out, missed events empty the index.",
        ["tcp://*:5558"])
    engine: Name = described(
        "Engine software of these replicas: vllm, sglang, llamacpp, ollama or openai (any server "
        "of OpenAI's API); auto is the fleet's in simulation, and detects it at endpoints by its "
        "metrics. Without endpoints, `penstock serve` starts emulated, llamacpp, sglang and vllm. "
        "Simulations also take tensorrt-llm and atom.",
        "ollama", default="auto")
    version: Name | None = described(
        "Version of the engine, where it is a stock engine in simulation; left out, the newest "
        "described.", "0.19.0")
    served_as: Name | None = described(
        "The engine's name for the model; left out, the model's name.", "llama3.1:8b")
    service_classes: list[Name] | None = described(
        "Service classes that they serve; left out, all.", ["interactive"])
    role: RoleName = described(
        "Whether they compute prompts (prefill), answers (decode) or both; prompts then move as "
        "`disaggregation` states.", "prefill", default="both")
    min_prompt_tokens: Count | None = described(
        "Fewest tokens of the prompts that they compute, with `role: prefill`: shorter ones stay "
        "on replicas that do both, or else on those that decode; left out, as `disaggregation` "
        "states.", 2048)
    bootstrap_ports: list[PortNumber] | None = described(
        "Ports at which SGLang's engines with `role: prefill` wait for those that decode, one for "
        "each endpoint (--disaggregation-bootstrap-port); left out, 8998.", [8998, 8999])
    kubernetes: KubernetesSection | None = described(
        "Their workload on a cluster (see `penstock controller`).", {"adopt": {"name": "vllm"}})
    attestation: EvidenceSection | None = described(
        "Their attestation of confidential mode; left out, they get no confidential requests.",
        {"simulated": [{"from_s": 0}]})


class SizingGroupSection(VariantSection):
    """A kind of replica whose number is to be found."""

    classes: list[Name] | None = described("Service classes that the group serves; left out, all.",
                                           ["interactive"])
    min_replicas: Count = described("Fewest replicas to try.", 1, default=1)


class SizingSection(Section):
    """How the number of replicas is found when `replicas` is left out."""

    groups: list[SizingGroupSection] | None = described(
        "Kinds of replica to size with; left out, one per model.",
        [{"classes": ["interactive"], "schedule": {"name": "sarathi", "chunk_tokens": 256}}])
    max_replicas: Count = described("Most replicas to try, all groups together.", 64, default=64)


class PoliciesSection(Section):
    """Policies of the fleet. Each is a name, or a name with its settings."""

    schedule: ScheduleChoice = described("Which tokens a replica computes next.", "penstock",
                                         {"name": "sarathi", "chunk_tokens": 512},
                                         default="penstock")
    route: NamedChoice | None = described(
        "Which model and replica serve a request; left out, joint where traffic leaves the model "
        "open or replicas have endpoints, else least_loaded.", "joint",
        {"name": "joint", "answer_value": 0.01})
    admit: NamedChoice = described("Whether a request may enter.", "all", default="all")
    scale: ScaleChoice = described("How many replicas run.", "none", {"file": "./hpa.yaml"},
                                   default="none")
    explore: ShareOrZero = described(
        "Share of requests that go to a random eligible replica, so that other policies can be "
        "evaluated from the logs.", 0.01, default=0.0)


class EngineSection(Section):
    """Engine of every replica, and how it is set up.

    With a name, the engine's own defaults hold for what is left out.
    """

    name: Name | None = described(
        "Engine that simulations run: vllm, sglang, tensorrt-llm or atom with its own scheduler, "
        "or penstock-in-vllm (and so on) with ours; left out, vllm where the file states no "
        "schedule, step times or endpoints either, else an ideal engine.", "vllm")
    version: Name | None = described("Version of the engine; left out, the newest described.",
                                     "0.19.0")
    rates: str | None = described(
        "Rates that `penstock profile fit rates` wrote, for the step times of all replicas; left "
        "out, those that ship.", "our-rates.yaml")
    step_time: StepTimeChoice | None = described(
        "Model of a step's duration for all replicas and variants that state none of their own.",
        {"kind": "kernels", "path": "tables"})
    block_tokens: Count = described("Tokens per block of the KV cache.", 16, default=16)
    memory_fraction: Share = described("Share of an accelerator's memory that the engine uses.",
                                       0.9, default=0.9)
    max_num_seqs: Count | None = described(
        "Most sequences that run at once; left out, the scheduling policy's.", 512)
    prefix_caching: bool = described("Whether prompts share the KV cache of equal beginnings.",
                                     True, default=False)
    kv_tokens: Count | None = described(
        "Size of one replica's KV cache; left out, computed from the memory that is left.",
        410_000)
    kv_tiers: list[KvTierSection] | None = described(
        "Tiers below the KV cache of each simulated replica, the fastest first; they need "
        "prefix_caching.", [{"name": "host", "gib": 1024, "read_gb_per_s": 50}])


class FleetDocument(Section):
    """One fleet: its resources, its traffic and objectives, and its policies."""

    name: Name | None = described("Name in reports; left out, the file's.", "quickstart")
    catalog: FilePath | None = described(
        "A folder of your own accelerator and model files, added to the built-in catalog.",
        "catalog")
    price_basis: Words | None = described(
        "Basis of the prices that count, by its name or beginning in the catalog, or ownership; a "
        "price of your own stays. Left out, the catalog's basis.", "lambda", "ownership")
    accelerators: list[AcceleratorSection] = Field(
        min_length=1, description="Accelerators that may be used, the preferred one first.",
        examples=[[{"name": "a100-80gb", "count": 8}]])
    models: list[ModelSection] = Field(
        min_length=1, description="Models that are served.", examples=[[{"name": "llama-3-8b"}]])
    service_classes: list[ServiceClassSection] = Field(
        min_length=1, description="Kinds of traffic and their objectives.",
        examples=[[{"name": "interactive", "slo": {"ttft_s": 6, "itl_s": 0.05}}]])
    traffic: list[TrafficSection] = Field(
        min_length=1, description="Requests to come.",
        examples=[[{"trace": "azure-2023-code", "rate_per_s": 3.5}]])
    replicas: list[ReplicaSection] | None = described(
        "Replicas that run now; left out, their number is found.",
        [{"model": "llama-3-8b", "accelerator": "a100-80gb", "count": 2}])
    kubernetes: list[UsualKubernetesSection] | None = described(
        "How groups run on a cluster that state no `kubernetes` of their own: of the first entry "
        "that fits.", [{"create": {"image": "vllm/vllm-openai:v0.19.0", "model": "my/llama"}}])
    scaling: ScalingSection | None = described(
        "How replicas start and stop, where `policies.scale` changes their number.",
        {"start_s": 120})
    multiplexing: list[DevicePoolSection] | None = described(
        "Devices that several models share in turns.",
        [{"name": "gpu", "models": [{"model": "llama-3-8b"}]}])
    disaggregation: DisaggregationSection | None = described(
        "How prompts move between replicas of which some only prefill and others only decode.",
        {"transfer": {"gb_per_s": 87}})
    sizing: SizingSection | None = described("How replicas are sized.", {"max_replicas": 16})
    variant: VariantSection | None = described(
        "The one kind of replica to size with: short for `sizing` with a single group.",
        {"accelerator": "a100-80gb"})
    plan: PlanSection | None = described("Choices and limits of a plan.", {"pooling": "class"})
    policies: PoliciesSection = described("Policies that decide.", {"schedule": "penstock"},
                                          default=PoliciesSection.model_construct())
    engine: EngineSection = described("How engines are set up.", {"max_num_seqs": 256},
                                      default=EngineSection.model_construct())
    run: RunSection = described("Length and randomness of runs.", {"seed": 7},
                                default=RunSection.model_construct())
    gateway: GatewaySection | None = described("Tenants and model aliases of `penstock serve`.",
                                               {"tenants": [{"name": "shop"}]})
    attestation: AttestationSection | None = described(
        "How `penstock serve` verifies the evidence of replicas in confidential mode.",
        {"verifier": "nvidia", "keys": "trusted-keys.json"})
    disclosure: DisclosureSection = described(
        "How far figures of confidential requests are rounded.", {"least_count": 100},
        default=DisclosureSection.model_construct())

    def multiplexed_models(self) -> set[str]:
        """Return the names of multiplexed models."""
        return {model.model for pool in self.multiplexing or () for model in pool.models}
