"""Roles of replicas in the fleet file."""

import pytest

from penstock.core.errors import InputError
from penstock.fleet.disaggregation import least_tokens
from penstock.fleet.load import parse_fleet
from penstock.fleet.write import to_yaml

FLEET = """\
name: split
accelerators: [{name: h100-80gb, count: 16}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 1}}]
traffic: [{lengths: {prompt: {fixed: 100}, output: {fixed: 10}}, rate_per_s: 1, num_requests: 1}]
replicas:
  - {role: prefill}
  - {role: decode, count: 2}
disaggregation: {transfer: {gb_per_s: 50, by_layer: true}, min_prompt_tokens: 64}
"""


def test_roles_resolve_and_are_written():
    fleet = parse_fleet(FLEET)
    assert [group.role for group in fleet.replicas] == ["prefill", "decode"]
    assert fleet.disaggregation.transfer.bytes_per_s == 50e9
    assert fleet.disaggregation.min_prompt_tokens == 64
    assert parse_fleet(to_yaml(fleet)) == fleet


def test_replicas_that_prefill_state_their_own_least_length():
    fleet = parse_fleet(FLEET.replace("{role: prefill}", "{role: prefill, min_prompt_tokens: 90}"))
    assert [least_tokens(fleet, group) for group in fleet.replicas] == [90, 0]
    assert [least_tokens(parse_fleet(FLEET), group)
            for group in parse_fleet(FLEET).replicas] == [64, 0]
    assert parse_fleet(to_yaml(fleet)) == fleet


@pytest.mark.parametrize(("old", "new", "said"), [
    ("{role: decode,", "{role: decode, min_prompt_tokens: 90,",
     "fleet.yaml:8: replicas[1].min_prompt_tokens: stands at role: decode; expected role: prefill"),
    ("disaggregation: {transfer: {gb_per_s: 50, by_layer: true}, min_prompt_tokens: 64}\n", "",
     "fleet.yaml:7: replicas[0].role: prefill, but the file does not say how fast prompts move"),
    ("  - {role: decode, count: 2}\n", "",
     "fleet.yaml:7: replicas[0].role: prefill, but no replicas of llama-3-8b have role: decode"),
    ("role: prefill", "count: 1", "replicas[1].role: decode, but no replicas of llama-3-8b"),
    ("{role: decode,", "{role: decode, kv_precision: fp8,",
     "replicas[0].kv_precision: bf16, but replicas of the role decode have fp8"),
    ("role: prefill}\n  - {role: decode,", "role: prefill, engine: vllm}\n"
     "  - {role: decode, engine: sglang,",
     "replicas[0].engine: vllm, but replicas of the role decode have sglang; a KV cache moves"),
    ("role: prefill}", "role: prefill, lora: {max_loras: 2}}",
     "replicas[0].lora: takes adapters, but no replicas of the role decode do; expected lora for"),
    ("role: prefill}", 'role: prefill, speculation: {method: ngram, tokens: 2, accepted_length: '
     '{"1": 1.8, "2": 2.4}}}',
     "replicas[0].speculation: drafts by ngram, but role: prefill computes no answers; expected"),
    ("role: prefill", "role: prefil", "replicas[0].role"),
    ("gb_per_s: 50", "gb_per_s: 0", "disaggregation.transfer.gb_per_s"),
    ("gb_per_s: 50", "gb_per_s: 1e-300",
     "disaggregation.transfer.gb_per_s: expected at least 0.0001, found 1e-300"),
    ("name: split", "name: split\nscaling: {start_s: 9}\npolicies: {scale: dynamo}",
     "dynamo expects replicas that serve whole requests; expected one of penstock, none"),
    ("  - {role: decode, count: 2}\n", "  - {role: decode, count: 2}\n  - {count: 1}\n"
     "scaling: {start_s: 9}\npolicies: {scale: penstock}\n",
     "penstock expects that all replicas of llama-3-8b have a role, or none"),
    ("name: split", "name: split\nscaling: {start_s: 9, calibrate: true}\n"
     "policies: {scale: penstock}", "scaling.calibrate: learns the times of replicas")])
def test_what_speaks_against_roles(old, new, said):
    text = FLEET.replace(old, new)
    with pytest.raises(InputError) as error:
        parse_fleet(text)
    assert said in str(error.value)


def test_a_path_without_roles():
    with pytest.raises(InputError, match="disaggregation: no replicas have a role"):
        parse_fleet(FLEET.replace("role: prefill", "count: 1").replace("role: decode, ", ""))
