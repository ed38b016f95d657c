"""Adapters (LoRA) of models, and the room that replicas have for them."""

from penstock.fleet.fields import (
    Count,
    FilePath,
    GbPerS,
    Name,
    NotNegative,
    Section,
    ShareOrZero,
    described,
)
from penstock.fleet.values_adapters import Evict


class AdapterSection(Section):
    """A fine-tuned variant of a model, which clients ask for by its name."""

    name: Name = described("Name that clients ask for.", "sql-writer", default=...)
    path: FilePath | None = described(
        "Folder or repository of its weights as the engines see it; left out, the engines have it "
        "loaded from their start.", "/adapters/sql-writer")
    served_as: Name | None = described("The engines' name for it; left out, its name.", "sql")
    rank: Count | None = described("Rank of its matrices; left out, any replica takes it.", 16)
    service_class: Name | None = described(
        "Service class of requests for it that state none; left out, as for its model.",
        "interactive")


class AdaptedSection(Section):
    """Part of a model's section: its adapters."""

    adapters: list[AdapterSection] | None = described(
        "Adapters (LoRA) of the model, which clients ask for by their names.",
        [{"name": "sql-writer", "path": "/adapters/sql-writer", "rank": 16}])
    adapters_from: FilePath | None = described(
        "More adapters: a YAML file with such a list, or a folder with a folder for each, whose "
        "adapter_config.json tells its rank.", "adapters")


class LoraSection(Section):
    """Room of a replica for adapters: the limits that its engine was started with."""

    max_loras: Count = described("Most adapters in one batch (`--max-loras`).", 4, default=1)
    max_cpu_loras: Count | None = described(
        "Most adapters that are loaded (`--max-cpu-loras`, SGLang's `--max-loaded-loras`); left "
        "out, max_loras.", 16)
    max_rank: Count = described("Highest rank (`--max-lora-rank`).", 64, default=16)
    step_overhead_s: NotNegative = described(
        "How much longer a simulated step with any adapter takes, beside the reading of adapters' "
        "weights, seconds.", 0.001, default=0.002)
    disk_gb_per_s: GbPerS = described(
        "Reading of adapters from disk in simulations, 10^9 bytes per second.", 2, default=5)
    copy_gb_per_s: GbPerS | None = described(
        "Copying of adapters to each accelerator in simulations, 10^9 bytes per second; left out, "
        "the accelerator's PCIe link.", 20)
    evict: Evict = described(
        "Which loaded adapter without requests makes way for another: `demand`, the one for whose "
        "load the fewest requests would wait, by their recent rates; or `lru`, the least recently "
        "used.", "lru", default="demand")


class TrafficAdaptersSection(Section):
    """Adapters that requests name: by weights, or by popularity (Zipf's law) over all adapters of
    the model; without both, all are equally popular."""

    weights: dict[Name, NotNegative] | None = described(
        "Relative weight of each adapter.", {"sql-writer": 3, "poet": 1})
    zipf: NotNegative | None = described(
        "Exponent: the adapter at place i of the model's adapters has the weight 1 / i^zipf.", 1.1)
    base_share: ShareOrZero = described(
        "Share of requests for the model itself.", 0.2, default=0.0)


class LoraRoomSection(Section):
    """Part of a replica's section: its room for adapters."""

    lora: LoraSection | None = described(
        "Room for adapters (LoRA) of the engine; left out, no adapters are taken.",
        {"max_loras": 4, "max_cpu_loras": 16})
