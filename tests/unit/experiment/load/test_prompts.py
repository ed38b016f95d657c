from dataclasses import replace

import numpy as np
import pytest

from penstock.experiment.load.plan import LoadOptions, option_plan
from penstock.experiment.load.prompts import WORDS, Prompts, Scale


def workload(num=50, prompt="30-200", **columns):
    return replace(option_plan(LoadOptions(1.0, num, prompt=prompt)).workload, **columns)


def test_words_are_alike_for_every_way_of_counting() -> None:
    assert len(set(WORDS)) == len(WORDS) == 128
    assert {len(word) for word in WORDS} == {3}


@pytest.mark.parametrize("form", ["text", "ids"])
def test_prompts_have_the_length_of_their_row_and_come_again(form) -> None:
    rows = workload()
    prompts = Prompts(rows, 3, form)
    made = [prompts.prompt(number) for number in range(120)]
    lengths = [len(one.split()) if form == "text" else len(one) for one in made]
    assert lengths == rows.prompt_tokens[np.arange(120) % 50].tolist()
    assert made == [Prompts(rows, 3, form).prompt(number) for number in range(120)]
    assert made != [Prompts(rows, 4, form).prompt(number) for number in range(120)]


@pytest.mark.parametrize("form", ["text", "ids"])
def test_prompts_differ_in_their_first_tokens(form) -> None:
    prompts = Prompts(workload(prompt="4"), 0, form)
    made = [tuple(p.split() if form == "text" else p) for p in map(prompts.prompt, range(3000))]
    assert len(set(made)) == 3000


def test_a_scale_makes_as_many_words_as_come_closest() -> None:
    assert Scale(1.5, 10.0).words(100) == 60
    assert Scale(1.0, 500.0).words(100) == 1
    prompt = Prompts(workload(prompt="100"), 0, scale=Scale(0.5, 4.0)).prompt(0)
    assert len(prompt.split()) == 192


def test_shared_tokens_stand_at_the_beginning_of_all() -> None:
    prompts = Prompts(workload(prompt="100"), 0, shared_tokens=60)
    one, other = (prompts.prompt(number).split() for number in (0, 7))
    assert one[:60] == other[:60]
    assert one[60:64] != other[60:64]
    assert len(one) == len(other) == 100


def test_equal_hashes_are_equal_beginnings() -> None:
    rows = workload(3, "50", hash_offsets=np.array([0, 2, 4, 5]),
                    hash_values=np.array([7, 8, 7, 9, 1]), hash_block_tokens=16)
    first, second, third = (Prompts(rows, 0).prompt(number).split() for number in range(3))
    assert first[:16] == second[:16]
    assert first[16:32] != second[16:32]
    assert first[:16] != third[:16]
    again = Prompts(rows, 0).prompt(3).split()
    assert again[:16] != first[:16], "another round is other people's prompts"
