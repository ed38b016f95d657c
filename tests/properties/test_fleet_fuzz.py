"""Whatever a fleet file holds, it is a fleet or an InputError of one line; never anything else."""

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.values import Fleet
from penstock.fleet.write import to_yaml
from support.scaled_examples import examples

EXAMPLES = [path.read_text() for path in
            sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
            if "file:" not in path.read_text()]
RICH = """\
accelerators: [{name: a100-80gb, count: 8, price_per_hour: 4.1}, {name: l40s}]
models: [{name: llama-3-8b, precisions: [bf16, int8], max_context_tokens: 20000,
          price: {input_per_million: 0.15, output_per_million: 0.1234567}}]
service_classes:
  - {name: a, priority: 1, weight: 2, slo: {ttft_s: 6, itl_s: 0.05, itl: strict, percentile: 95}}
  - {name: b, slo: {e2e_s: 600}}
traffic:
  - {mix: {a: 0.5, b: 0.5}, tenants: {x: 1}, trace: azure-2023-code, rate_per_s: 3}
  - name: drawn
    mix: {a: 1}
    lengths: {prompt: {fixed: 5}, output: {shares: [0, 1], tokens: [1, 9]}, rho: 0.5}
    arrivals: {name: square, low: 1, high: 2, low_s: 3, high_s: 4}
    rate_per_s: 1
    duration_s: 9
replicas:
  - {accelerator: l40s, count: 1, kv_precision: fp8, service_classes: [a], schedule: sarathi}
  - {parallelism: {tensor: 2, pipeline: 1}, schedule: {name: orca, kv_watermark: 0.02},
     step_time: {kind: linear, coefficients: {base_s: 0.1, prefill_token_s: 0, decode_seq_s: 0,
     work_s: 0, context_s: 0}, evidence: {source: s, mean_error: 0.1, p95_error: 0.2}}}
sizing: {groups: [{classes: [a, b], min_replicas: 1}], max_replicas: 9}
policies: {schedule: {name: sarathi, chunk_tokens: 64}, route: {name: two_choices}, admit: all}
engine: {block_tokens: 16, max_num_seqs: 9, kv_tokens: 100000}
run: {seed: 1, num_requests: 5, step_time_noise: 0.1}
gateway:
  aliases:
    auto: {}
    cheap: {models: [llama-3-8b], max_cost: 0.001, min_quality: 0.5, deadline_s: 9,
            confidential: true, service_class: a}
  tenants:
    - {name: shop, defaults: {model: cheap, service_class: a, max_cost: 0.5}, models: [llama-3-8b],
       service_classes: [a], requests_per_minute: 600, tokens_per_minute: 100000,
       max_in_flight: 3, budget: {amount: 12.5, per: day, when_ledger_fails: serve}}
    - {name: guest}
"""
DOCUMENTS = [yaml.safe_load(text) for text in (RICH, *EXAMPLES)]

NUMBERS = st.one_of(
    st.integers(-3, 20), st.sampled_from([10**9, 10**17, 10**18, 10**30, -10**400 // 10**90]),
    st.floats(), st.sampled_from([0.0, -0.0, 1e-320, 1e308, 0.5]))
WORDS = st.sampled_from([
    "name", "model", "a", "b", "bf16", "sarathi", "linear", "knee", "niyama", "roofline", "file",
    "poisson", "gamma", "ramp", "diurnal", "own", "fixed", "azure-2023-conv", "kind", "path",
    "trace.csv", "/", ".", "..", "~", "~nobody/x", "null", "rate", "count", "trace", "file"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=12))
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3)),
    max_leaves=6)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all parts of a document, the whole first."""
    children = node.items() if isinstance(node, dict) else \
        enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document with one to four of its parts deleted, replaced, added or moved."""
    root = {"document": copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))}
    for _ in range(draw(st.integers(1, 4))):
        everywhere = places(root)[1:]
        if not everywhere:
            break
        *parents, last = draw(st.sampled_from(everywhere))
        holder: Any = root
        for key in parents:
            holder = holder[key]
        action = draw(st.sampled_from(["delete", "replace", "insert", "copy"]))
        if action == "delete" and parents:
            del holder[last]
        elif action == "replace":
            holder[last] = draw(VALUES)
        elif action == "copy":
            source: Any = root
            for key in draw(st.sampled_from(everywhere)):
                source = source[key]
            holder[last] = copy.deepcopy(source)
        elif isinstance(holder, list):
            holder.insert(last, draw(VALUES))
        elif parents:
            holder[draw(WORDS | st.text(max_size=8))] = draw(VALUES)
    return root["document"]


def check(text: str | bytes, overrides: dict[str, Any] | None = None) -> Fleet | None:
    """The law of this file; the fleet, where there is one."""
    try:
        fleet = parse_fleet(text, overrides=overrides)
    except InputError as error:
        message = str(error)
        assert message
        assert len(message.splitlines()) == 1
        assert len(message) < 2000
        return None
    assert isinstance(fleet, Fleet)
    return fleet


def written(document: Any) -> str:
    return yaml.safe_dump(document, allow_unicode=True)


COMMON = examples(60)


@COMMON
@given(mutated())
def test_a_mutated_document_is_a_fleet_or_an_input_error(document: Any) -> None:
    fleet = check(written(document))
    if fleet is not None:
        assert parse_fleet(to_yaml(fleet)) == fleet


@COMMON
@given(st.sampled_from([RICH, *EXAMPLES]), st.data())
def test_damaged_text_is_a_fleet_or_an_input_error(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    inserted = data.draw(st.text(max_size=10) | st.sampled_from(
        ["&a ", "*a", "<<: *a", "? ", "!!int ", "|", ">", "- ", ": ", "{", "}", "[", "\t", "---\n",
         "...", "%YAML 9.9\n", "\x00", "\ufeff", "\u2028", "'", '"\\ud800"', "!!binary aGk="]))
    check(text[:start] + inserted + text[end:])


@COMMON
@example(b"\xef\xbb\xbf")
@example("\ud800")
@example("a: " * 3000)
@example("{" * 30_000)
@example("- " * 30_000)
@example("a: &a [*a, *a]")
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_noise_is_an_input_error(noise: str | bytes) -> None:
    assert check(noise) is None


@COMMON
@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(
    ["run.seed", "traffic[0].rate_per_s", "replicas", "policies.schedule.chunk_tokens",
     "engine.kv_tokens", "models.0.name", "name"]), VALUES, max_size=3))
def test_any_override_is_applied_or_an_input_error(overrides: dict[str, Any]) -> None:
    check(RICH, overrides)
