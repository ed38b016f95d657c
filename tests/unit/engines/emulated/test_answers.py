"""Answers: the same for the same prompt, and as long as the fleet's traffic says."""

from collections import Counter

from penstock.engines.emulated.answers import Answers, answers
from penstock.fleet.load import parse_fleet
from support.small_fleet import FLEET

SAMPLE = Answers((3, 5, 5, 200), seed=1)
PROMPTS = [f"prompt {number}".encode() for number in range(400)]


def sentence(prompt: bytes, source: Answers = SAMPLE, num: int = 120) -> str:
    return "".join(source.text(source.key(prompt), number) for number in range(num))


def test_the_same_prompt_has_the_same_answer() -> None:
    again = Answers((3, 5, 5, 200), seed=1)
    assert sentence(PROMPTS[0]) == sentence(PROMPTS[0], again)
    assert SAMPLE.key(PROMPTS[0]) == again.key(PROMPTS[0])


def test_prompts_and_seeds_make_a_difference() -> None:
    assert len({sentence(prompt) for prompt in PROMPTS}) > 350
    assert sentence(PROMPTS[0]) != sentence(PROMPTS[0], Answers((), seed=2))


def test_a_token_is_a_word() -> None:
    words = sentence(PROMPTS[0]).split(" ")
    assert len(words) == 120
    assert all(word.isalpha() for word in words)
    assert len(set(words)) > 50


def test_lengths_are_drawn_in_proportion_and_capped() -> None:
    drawn = Counter(SAMPLE.output_tokens(SAMPLE.key(prompt), 50) for prompt in PROMPTS)
    assert set(drawn) == {3, 5, 50}
    assert 140 < drawn[5] < 260


def test_without_lengths_an_answer_goes_on() -> None:
    assert Answers((), 0).output_tokens(7, 50) == 50


def lengths_of(traffic: str, tmp_path=None) -> set[int]:
    head, _, rest = FLEET.partition("    lengths: ")
    fleet = parse_fleet(head + f"    {traffic}\n" + rest.split("\n", 1)[1], base=tmp_path)
    found = answers(fleet, "llama-3-8b", 3)
    return {found.output_tokens(found.key(prompt), 10**6) for prompt in PROMPTS}


def test_lengths_of_a_fleet() -> None:
    assert lengths_of("lengths: {prompt: {fixed: 400}, output: {fixed: 40}}") == {40}
    assert len(lengths_of("trace: azure-2023-code")) > 20


def test_lengths_of_a_trace_file(tmp_path) -> None:
    rows = "\n".join(f"{number},100,{10 + number % 7}" for number in range(50))
    (tmp_path / "own.csv").write_text(f"arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}\n")
    assert lengths_of("trace: {file: own.csv}", tmp_path) == set(range(10, 17))


def test_a_model_without_traffic_and_the_seed() -> None:
    fleet = parse_fleet(FLEET)
    assert answers(fleet, "another", 1).output_tokens(7, 123) == 123
    assert answers(fleet, "llama-3-8b", 1).key(b"x") != answers(fleet, "llama-3-8b", 2).key(b"x")
