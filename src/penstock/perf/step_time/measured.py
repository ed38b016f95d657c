"""Step time of a stock engine by rates that were fitted on measured runs."""

from math import expm1, log

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.memory import check_precision
from penstock.perf.step_time.rate_table import (
    Deployment,
    RateTable,
    deployment,
    fitted_rates,
)
from penstock.perf.step_time.roofline import (
    GATHER,
    REDUCE,
    SEND_S,
    SENDS,
    Launches,
    RooflineStepTime,
    Transfer,
    step_seconds,
)
from penstock.perf.step_time.terms import (
    DENSE_SHARPNESS,
    EXPERT_SHARPNESS,
    Rates,
    Units,
    units,
)
from penstock.perf.step_time.work import peak_rates, step_work

# Runs had up to 32,768 prompt tokens a step, 2,048 sequences and contexts of 32,768 tokens.
_LARGEST = StepFeatures(32_768, 32_768.0**2, 2_048, 8_000_000)

_95_OVER_90 = 1.96 / 1.645  # half-widths of both intervals of a normal distribution
_MEAN_OVER_95 = 0.798 / 1.96  # the mean absolute deviation, and the half-width of 95 %
_PARTS = {"chip": "accelerator", "engine": "engine"}


def family(model: ModelSpec, accelerator: Accelerator) -> str:
    """Return the family under which errors of predictions are known: ``amd``, or the vendor with
    ``dense`` or ``mixture``."""
    if accelerator.vendor == "amd":
        return "amd"
    return f"{accelerator.vendor} {'mixture' if model.num_experts else 'dense'}"


def measured_step_time(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, precision: str,
    kv_precision: str, *, engine: str, version: str = "", role: str = "",
    table: RateTable | None = None,
) -> RooflineStepTime:
    """Return the step time of an engine's replica. Raises InputError for an unknown precision.

    The interval holds 95 % of what was measured on curves that were left out of the fit, by the
    90 % that is known and a normal distribution of logarithms. The interval is twice as wide for an
    accelerator or an engine without measurements.
    """
    check_precision(precision)
    check_precision(kv_precision)
    table = table or fitted_rates()
    of = deployment(model, accelerator, parallelism, precision, engine, version, role)
    rates = table.rates(of)
    unit = units(model, accelerator, parallelism, precision, kv_precision)
    launches = Launches(layers_s=rates.layer_s * unit.num_layers,
                        experts_s=rates.expert_layer_s * unit.num_expert_layers,
                        linear_s=rates.linear_layer_s * unit.num_linear_layers)
    transfers = _transfers(rates, unit, parallelism)
    state_s = rates.decode_attention * unit.state_s
    return RooflineStepTime(
        weight_s=rates.weights * unit.weights_s,
        all_experts_s=rates.experts * unit.experts_s, idle_expert_share=unit.idle_expert_share,
        expert_token_s=rates.expert_flops * unit.expert_token_s,
        body_token_s=rates.dense_flops * unit.body_token_s,
        head_token_s=rates.dense_flops * unit.head_s,
        sharpness=DENSE_SHARPNESS, expert_sharpness=EXPERT_SHARPNESS,
        token_s=rates.elementwise * unit.elementwise_token_s,
        communication_token_s=rates.link * unit.link_token_s,
        decode_seq_s=rates.sequence_s / parallelism.data + state_s,
        work_s=rates.prompt_attention * unit.pair_s,
        context_s=rates.decode_attention * unit.context_s,
        step_s=launches.total_s, communication_step_s=step_seconds(transfers),
        prefill_step_s=rates.prompt_layer_s * unit.num_layers + rates.prompt_step_s,
        decode_step_s=0.0, host_s=rates.step_s,
        work=step_work(model, parallelism, precision, kv_precision),
        peak=peak_rates(accelerator, precision),
        evidence=_evidence(table, of, family(model, accelerator)),
        launches=launches, transfers=transfers, state_s=state_s, data_ranks=parallelism.data)


def _transfers(rates: Rates, unit: Units, parallelism: Parallelism) -> tuple[Transfer, ...]:
    """Return the reductions among ranks, and the latency of sends, whose bytes were not fitted."""
    found = []
    ranks = parallelism.tensor * parallelism.data
    if ranks > 1:
        name = GATHER if parallelism.data > 1 else REDUCE
        found.append(Transfer(name, rates.reduction_s * unit.num_reductions,
                              rates.link * unit.link_token_s, unit.sent_token_bytes, 1.0))
    if parallelism.pipeline > 1:
        found.append(Transfer(SENDS, (parallelism.pipeline - 1) * SEND_S, 0.0, 0.0, 1.0))
    return tuple(found)


def _evidence(table: RateTable, of: Deployment, kind: str) -> Evidence:
    errors = table.error("tpot_s", kind, of.engine)
    reach = max(log(errors.high), -log(errors.low)) * _95_OVER_90
    unknown = [name for name in ("chip", "engine", "model") if not table.knows(of, name)]
    source = table.source
    if unknown:
        source += f"; {', '.join(unknown)} without measurements"
    unmeasured = tuple(_PARTS[name] for name in unknown if name in _PARTS)
    if unmeasured:
        reach *= 2.0
    return Evidence(source, expm1(_MEAN_OVER_95 * reach), expm1(reach), _LARGEST, unmeasured)
