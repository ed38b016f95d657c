"""A fleet file from a few answers: it loads, and says what nobody stated."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.fleet.draft import (
    USUAL_CLASSES,
    Answers,
    ClassAnswer,
    Draft,
    GpuAnswer,
    drafted,
    unstated,
)
from penstock.fleet.load import parse_fleet
from penstock.fleet.stock import simulated_engines
from penstock.fleet.values import Fleet
from penstock.report.draft_text import assumed_lines, draft_text
from support.scaled_examples import unit_examples

CATALOG = load_catalog()
GPUS = (GpuAnswer("h100", 4),)


def loaded(draft: Draft) -> Fleet:
    return parse_fleet(draft_text(draft.data, draft.assumed, "A heading."), base=None)


def assumed(draft: Draft) -> set[str]:
    return {entry.what for entry in draft.assumed}


def test_three_answers_are_a_fleet_and_all_else_is_told() -> None:
    draft = drafted(Answers("Llama-3.3-70B", GPUS, 5.0), CATALOG)
    fleet = loaded(draft)
    assert fleet.models[0].spec.name == "llama-3.3-70b"
    assert (fleet.accelerators[0].accelerator.name, fleet.accelerators[0].count) == ("h100-80gb", 4)
    assert fleet.traffic[0].rate_per_s == 5.0
    assert assumed(draft) == {"engine", "price", "weights", "targets of chat",
                              "prompts and outputs", "requests"}
    assert "--engine" in "\n".join(assumed_lines(draft.assumed))


def test_nothing_is_assumed_of_what_is_stated() -> None:
    draft = drafted(Answers(
        "llama-3.3-70b", (GpuAnswer("h100-80gb", 4, 2.5),), 5.0, {"ttft_s": 1.0, "itl_s": 0.05},
        lengths={"trace": "azure-2023-code"}, engine="sglang", precisions=("fp8",),
        num_requests=2000), CATALOG)
    assert draft.assumed == ()
    assert assumed_lines(draft.assumed) == []
    fleet = loaded(draft)
    assert fleet.accelerators[0].price_per_hour == 2.5
    assert fleet.models[0].precisions == ("fp8",)
    assert fleet.schedule_of(fleet.sizing.groups[0]).prefill_first


def test_lengths_fit_the_context() -> None:
    draft = drafted(Answers("llama-3-70b", GPUS, 5.0), CATALOG)
    assert loaded(draft).traffic[0].lengths == "sharegpt-8k"
    with pytest.raises(InputError, match="no table of lengths fits a context of 2,048"):
        drafted(Answers("llama-3-70b", GPUS, 5.0, max_context_tokens=2048), CATALOG)


@pytest.mark.parametrize("rate", [0.1, 5000.0])
def test_the_number_of_requests_is_told_where_no_option_states_one(rate: float) -> None:
    draft = drafted(Answers("llama-3.3-70b", GPUS, rate), CATALOG)
    told = next(entry for entry in draft.assumed if entry.what == "requests")
    assert told.value == f"{draft.data['run']['num_requests']:,} in all"
    assert told.option == "--requests"


@pytest.mark.parametrize("model", ["llama-2-7b", "phi-2"])
def test_the_example_for_a_short_context_can_be_drawn(model: str) -> None:
    with pytest.raises(InputError) as refused:
        drafted(Answers(model, GPUS, 5.0), CATALOG)
    prompt, output = map(int, re.findall(r"-tokens (\d+)", str(refused.value)))
    lengths = {"lengths": {"prompt": {"fixed": prompt}, "output": {"fixed": output}}}
    assert loaded(drafted(Answers(model, GPUS, 5.0, lengths=lengths), CATALOG))


@pytest.mark.parametrize(("gpu", "tokens", "seqs"), [
    ("h100-80gb", 8192, 1024), ("a100-80gb", 2048, 256), ("l4", 2048, 256), ("b200", 16_384, 1024)])
def test_vllm_has_the_defaults_of_its_device(gpu: str, tokens: int, seqs: int) -> None:
    fleet = loaded(drafted(Answers("llama-3.2-1b", (GpuAnswer(gpu),), 1.0), CATALOG))
    schedule = fleet.schedule_of(fleet.sizing.groups[0])
    assert (schedule.chunk_tokens, schedule.max_num_seqs) == (tokens, seqs)


def test_general_targets_go_to_the_classes_that_have_such() -> None:
    answers = Answers("llama-3.3-70b", GPUS, 5.0, {"ttft_s": 3.0, "percentile": 95.0},
                      (ClassAnswer("chat"), ClassAnswer("batch"),
                       ClassAnswer("mine", slo={"e2e_s": 9.0}, priority=7)))
    chat, batch, mine = loaded(drafted(answers, CATALOG)).service_classes
    assert (chat.slo.ttft_s, chat.slo.itl_s, chat.slo.percentile) == (3.0, None, 95.0)
    assert (batch.slo.e2e_s, batch.slo.percentile) == (300.0, 95.0)
    assert (mine.slo.e2e_s, mine.priority) == (9.0, 7)


def test_a_general_mean_itl_goes_to_the_classes_that_have_an_itl() -> None:
    answers = Answers("llama-3.3-70b", GPUS, 5.0, {"itl_s": 0.1, "itl": "mean"},
                      (ClassAnswer("chat"), ClassAnswer("batch")))
    chat, batch = loaded(drafted(answers, CATALOG)).service_classes
    assert (chat.slo.itl_s, chat.slo.itl) == (0.1, "mean")
    assert (batch.slo.itl_s, batch.slo.itl, batch.slo.e2e_s) == (None, "paced", 300.0)


def test_classes_with_lengths_or_rates_of_their_own_have_entries_of_their_own() -> None:
    answers = Answers("llama-3.3-70b", GPUS, 5.0, classes=(
        ClassAnswer("chat", share=0.4),
        ClassAnswer("batch", rate_per_s=9.0, lengths={"trace": "azure-2023-code"})))
    chat, batch = loaded(drafted(answers, CATALOG)).traffic
    assert (chat.rate_per_s, chat.lengths) == (2.0, "azure-2023-conv")
    assert (batch.rate_per_s, batch.lengths) == (9.0, "azure-2023-code")


def test_classes_without_a_rate_of_their_own_share_the_general_one() -> None:
    answers = Answers("llama-3.3-70b", GPUS, 5.0, classes=(
        ClassAnswer("chat", rate_per_s=9.0), ClassAnswer("batch")))
    chat, batch = loaded(drafted(answers, CATALOG)).traffic
    assert (chat.rate_per_s, batch.rate_per_s) == (9.0, 5.0)


def test_prices_and_schedulers_that_a_file_leaves_open_are_told() -> None:
    data = drafted(Answers("llama-3.3-70b", (GpuAnswer("l4"), GpuAnswer("h100", price_per_hour=2)),
                           5.0), CATALOG).data
    fleet = parse_fleet(draft_text(data, ()), base=None)
    assert unstated(data, fleet) == ()
    for key in ("price_per_hour", "price_basis", "price_date"):
        data["accelerators"][0].pop(key, None)
    del data["engine"]
    fleet = parse_fleet(draft_text(data, ()), base=None)
    price, engine = unstated(data, fleet)
    assert price.value.startswith("l4 $0.805 an hour each (catalog")
    assert (price.option, engine.option) == ("price_per_hour", "engine.name")
    assert engine.value.startswith("vllm ")
    assert engine.value.endswith("its own scheduler")


BAD = {
    "unknown GPU": (Answers("llama-3.3-70b", (GpuAnswer("h10"),), 1.0), "--gpu: unknown"),
    "unknown model": (Answers("llama-33-70b", GPUS, 1.0), "--model: unknown model"),
    "unknown engine": (Answers("llama-3.3-70b", GPUS, 1.0, engine="vlm"), "did you mean 'vllm'"),
    "no rate": (Answers("llama-3.3-70b", GPUS), "no --rate"),
    "no targets": (Answers("llama-3.3-70b", GPUS, 1.0, classes=(ClassAnswer("x"),)), "no target"),
    "shares over 1": (Answers("llama-3.3-70b", GPUS, 1.0, classes=(
        ClassAnswer("chat", share=1.0), ClassAnswer("batch"))), "nothing is left for batch"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_told(name: str) -> None:
    answers, words = BAD[name]
    with pytest.raises(InputError, match=words):
        drafted(answers, CATALOG)


@unit_examples(20)
@given(model=st.sampled_from(sorted(CATALOG.models)),
       gpus=st.lists(st.tuples(st.sampled_from(sorted(CATALOG.accelerators)),
                               st.none() | st.integers(1, 64)),
                     min_size=1, max_size=3, unique_by=lambda gpu: gpu[0]),
       classes=st.lists(st.sampled_from(sorted(USUAL_CLASSES)), max_size=3, unique=True),
       rate=st.floats(0.01, 1e4), engine=st.none() | st.sampled_from(simulated_engines()))
def test_whatever_is_asked_loads_unless_no_lengths_fit(
        model: str, gpus: list[tuple[str, int | None]], classes: list[str], rate: float,
        engine: str | None) -> None:
    answers = Answers(model, tuple(GpuAnswer(*gpu) for gpu in gpus), rate,
                      classes=tuple(map(ClassAnswer, classes)), engine=engine)
    try:
        draft = drafted(answers, CATALOG)
    except InputError as error:
        lacks = [gpu.name for gpu in answers.gpus
                 if CATALOG.accelerator(gpu.name).price_per_hour is None]
        assert "no table of lengths" in str(error) or (  # noqa: PT017
            lacks and f"no list price of {lacks[0]} is known" in str(error))
        return
    fleet = loaded(draft)
    assert {c.name for c in fleet.service_classes} == set(classes or ["chat"])
    assert (engine is None) == ("engine" in assumed(draft))
