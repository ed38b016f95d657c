"""Speculative decoding in a fleet file: values, errors, and what follows from it."""

import pytest

from penstock.core.errors import InputError
from penstock.core.step import CONTEXT_PARTS
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.speculation import drafting_of, turn_tokens
from penstock.fleet.write import to_yaml

FLEET = """\
accelerators: [{{name: h100-80gb, count: 8}}]
models: [{{name: {model}}}]
service_classes: [{{name: chat}}, {{name: code}}]
traffic:
  - lengths: {{prompt: {{fixed: 90}}, output: {{fixed: 9}}}}
    rate_per_s: 1
    num_requests: 9
    mix: {{chat: 0.5, code: 0.5}}
replicas:
  - {{count: 1, parallelism: {{tensor: {tensor}}}{own}}}
"""
RATES = "acceptance: [0.8, 0.6, 0.45]"


def fleet_of(speculation: str | None, model: str = "llama-3.1-8b", tensor: int = 1):
    own = "" if speculation is None else f", speculation: {{{speculation}}}"
    return parse_fleet(FLEET.format(model=model, tensor=tensor, own=own))


def speculation_of(text: str, **more: object):
    found = fleet_of(text, **more).replicas[0].speculation
    assert found is not None
    return found


def test_all_forms_of_acceptance() -> None:
    listed = speculation_of(f"method: eagle3, tokens: 3, {RATES}")
    assert listed.acceptance_of("chat").rates == (0.8, 0.6, 0.45)
    lengths = speculation_of('method: ngram, tokens: 2, accepted_length: {"1": 1.8, "2": 2.4}')
    assert lengths.acceptance_of("chat").rates == pytest.approx((0.8, 0.6))
    named = speculation_of("method: eagle3, tokens: 2, acceptance: kimi-k2.5-eagle3")
    assert named.acceptance_of("code").tokens_per_turn(2) == pytest.approx(2.43)
    classes = speculation_of("method: eagle, tokens: 1, acceptance: {code: [0.9], chat: [0.5]}")
    assert classes.acceptance_of("code").rates == (0.9,)
    assert classes.acceptance_of("others").rates == (0.5,)  # the lowest that is stated


def test_published_acceptance_needs_no_statement() -> None:
    found = speculation_of("method: eagle3, tokens: 3", model="kimi-k2.5, precisions: [fp4]",
                           tensor=8)
    assert "SPEED-Bench" in found.acceptance_of("chat").source


@pytest.mark.parametrize("text", [
    f"method: eagle3, tokens: 3, {RATES}, by_batch: [[1, 8, 3], [9, 64, 1], [65, 900, 0]]",
    "method: draft_model, tokens: 2, acceptance: {chat: [0.7, 0.5], code: [0.9, 0.8]}, "
    "draft: {model: llama-3.2-1b, precision: fp8}",
    "method: ngram, tokens: 4, accepted_length: {\"4\": 2.0}",
    "method: eagle3, tokens: 4, acceptance: kimi-k2.5-eagle3-plain"])
def test_a_written_fleet_reads_the_same(text: str) -> None:
    fleet = fleet_of(text)
    again = parse_fleet(to_yaml(fleet)).replicas[0].speculation
    assert again == fleet.replicas[0].speculation


@pytest.mark.parametrize(("text", "said"), [
    ("method: eagle3, tokens: 3", r"fleet.yaml:10: .*speculation.acceptance: is left out, and none "
     r"is published for eagle3 with llama-3.1-8b; expected the share of turns"),
    (f"method: eagle4, tokens: 3, {RATES}",
     "speculation.method: found 'eagle4'; did you mean 'eagle'"),
    (f"method: eagle3, {RATES}", "speculation.tokens"),
    (f"method: eagle3, tokens: 0, {RATES}", "speculation.tokens: expected.*at least 1"),
    ("method: eagle3, tokens: 3, acceptance: [0.5, 0.6]", "speculation.acceptance: rate 0.6 of "
     "position 2; expected 0 to 0.5"),
    ("method: eagle3, tokens: 3, acceptance: kimi-k2.5-eagle", "did you mean 'kimi-k2.5-eagle3'"),
    (f"method: eagle3, tokens: 3, {RATES}, accepted_length: {{\"1\": 1.8}}",
     "accepted_length: stands beside acceptance"),
    ("method: eagle3, tokens: 3, accepted_length: {\"1\": 2.5}",
     "accepted_length: length 2.5 at 1 drafted tokens; expected 1 to 2"),
    (f"method: eagle3, tokens: 3, {RATES}, by_batch: [[9, 8, 1]]",
     "by_batch: .*expected rows in order"),
    (f"method: draft_model, tokens: 3, {RATES}", "speculation.draft: is left out; expected the "
     "draft model"),
    (f"method: eagle3, tokens: 3, {RATES}, draft: {{model: llama-3.2-1b}}",
     "draft: method eagle3 has no draft model"),
    (f"method: draft_model, tokens: 3, {RATES}, draft: {{model: llama-3.2-2b}}",
     "draft: .*did you mean"),
    ("method: eagle3, tokens: 3, acceptance: {chatt: [0.5]}", "acceptance: unknown service class "
     "'chatt'; did you mean 'chat'"),
])
def test_bad_input_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as found:
        fleet_of(text)
    assert "\n" not in str(found.value)


def test_a_draft_takes_memory_of_the_kv_cache() -> None:
    plain = kv_tokens(fleet_of(None), fleet_of(None).replicas[0])
    sizes = {}
    for method, more in (("ngram", ""), ("eagle3", ""), ("mtp", ""),
                         ("draft_model", ", draft: {model: llama-3.2-1b}")):
        fleet = fleet_of(f"method: {method}, tokens: 3, {RATES}{more}")
        sizes[method] = kv_tokens(fleet, fleet.replicas[0])
    assert sizes["ngram"] == plain
    assert sizes["draft_model"] < sizes["eagle3"] < plain
    assert all(size % 16 == 0 for size in sizes.values())


@pytest.mark.parametrize("kind", [
    "roofline", "vidur-a100-llama-3-8b", "{kind: measured, engine: sglang, factor: 2}"])
def test_every_step_time_can_draft(kind: str) -> None:
    fleet = parse_fleet(FLEET.format(
        model="llama-3.1-8b", tensor=1,
        own=f", step_time: {kind}, speculation: {{method: eagle3, tokens: 3, {RATES}}}"))
    plain = parse_fleet(FLEET.format(model="llama-3.1-8b", tensor=1, own=f", step_time: {kind}"))
    turn_s = step_time(fleet.replicas[0]).seconds(0, 0.0, 4, 4096)
    step_s = step_time(plain.replicas[0]).seconds(0, 0.0, 4, 4096)
    assert step_s < turn_s < 2.85 * step_s  # the 2.85 tokens of a turn


def test_sglang_runs_fewer_sequences_where_it_drafts() -> None:
    text = FLEET.format(model="llama-3.1-8b", tensor=1, own=", engine: sglang{drafts}")
    drafts = f", speculation: {{method: eagle3, tokens: 3, {RATES}}}"
    plain, drafted = (parse_fleet(text.replace("{drafts}", one)) for one in ("", drafts))
    assert drafted.schedule_of(drafted.replicas[0]).max_num_seqs == 48
    assert plain.schedule_of(plain.replicas[0]).max_num_seqs > 48
    stated = parse_fleet(text.replace("{drafts}", drafts) + "engine: {max_num_seqs: 64}\n")
    assert stated.schedule_of(stated.replicas[0]).max_num_seqs == 64


def test_schedulers_believe_the_stated_acceptance() -> None:
    fleet = fleet_of(f"method: eagle3, tokens: 3, {RATES}, by_batch: [[9, 64, 0]]")
    found = drafting_of(fleet.replicas[0])
    assert found is not None
    assert found.parts_of("chat", 3) == round(2.85 * CONTEXT_PARTS)
    assert found.parts_of("chat", 0) == CONTEXT_PARTS
    assert (found.depth.at(8), found.depth.at(9)) == (3, 0)
    assert drafting_of(fleet_of(None).replicas[0]) is None
    speculation = fleet.replicas[0].speculation
    assert speculation is not None
    assert turn_tokens(speculation, "code") == pytest.approx(2.85)
