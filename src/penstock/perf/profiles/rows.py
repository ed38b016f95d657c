"""Rows that estimators learn from: one whole run of a model, measured in one configuration."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProfiledRun:
    """A batch of equal requests on one replica that has nothing else to do.

    ``layers_by_stage`` are the layers that each pipeline stage held; their sum is what was run,
    fewer than the model has where the run is a fingerprint of it. ``precision`` is that of the
    weights (fp32, fp16, bf16, fp8, int8, int4, int4_gptq), ``kv_precision`` that of the KV cache.
    ``prompt_tokens`` is None where nobody wrote it down. ``latency_s`` is the time of the whole
    batch, from its prompts to the last token of each answer; None where it did not run for want of
    memory. ``memory_loaded_bytes`` is what all accelerators together held before the run,
    ``memory_bytes`` after it. ``source`` says where the row stands.
    """

    model: str
    tensor: int
    pipeline: int
    layers_by_stage: tuple[int, ...]
    precision: str
    kv_precision: str
    prompt_tokens: int | None
    output_tokens: int
    batch: int
    latency_s: float | None
    memory_bytes: float | None
    memory_loaded_bytes: float | None
    source: str

    @property
    def num_layers(self) -> int:
        """Layers that were run, all stages together."""
        return sum(self.layers_by_stage)

    @property
    def num_accelerators(self) -> int:
        """Accelerators that the run occupied."""
        return self.tensor * self.pipeline
