"""Kinds of replicas with a role."""

from penstock.fleet.load import parse_fleet
from penstock.plan.sides import with_role
from penstock.plan.variants import variants_of

FLEET = """\
accelerators: [{name: h100-80gb, count: 2}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 1}}]
traffic: [{lengths: {prompt: {fixed: 100}, output: {fixed: 10}}, rate_per_s: 1, num_requests: 1}]
replicas:
  - {speculation: {method: ngram, tokens: 2, accepted_length: {"1": 1.8, "2": 2.4}}}
"""


def test_replicas_of_prompts_do_not_draft_from_answers() -> None:
    fleet = parse_fleet(FLEET)
    found, _ = variants_of(fleet, fleet.models[0], 110, fleet.replicas)
    own = next(variant for variant in found if variant.group.speculation is not None)
    prefill, decode = (with_role(own, role, 64).group for role in ("prefill", "decode"))
    assert prefill.speculation is None
    assert decode.speculation == own.group.speculation
    assert (prefill.min_prompt_tokens, decode.min_prompt_tokens) == (64, None)
