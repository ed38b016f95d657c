"""Lines through cuts: exact where two sizes were run, absent where not."""

from dataclasses import replace

import pytest

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.cuts import Cuts, Key, configuration_of, key_of, straight_line
from support.fingerprint_world import PROMPT_TOKENS, SUBJECTS, cuts_of, run

ALONE = Configuration(Parallelism(1, 1), "fp16", "fp16")
KEY = Key("llama-2-7b", 1, 1, "fp16", "fp16")


def test_the_line_goes_through_both_cuts_at_the_longest_answer() -> None:
    one, two = (run("llama-2-7b", ALONE, layers, 20) for layers in (1, 2))
    line = Cuts([one, two, run("llama-2-7b", ALONE, 1, 50)]).line(KEY)
    assert line is not None
    assert line.output_tokens == 20, "only one cut answered with 50"
    assert line.rest_s + line.layer_s == pytest.approx(one.latency_s)
    assert line.rest_s + 2 * line.layer_s == pytest.approx(two.latency_s)


def test_one_size_is_no_line_and_no_run_no_cut() -> None:
    cuts = Cuts([run("llama-2-7b", ALONE, 1, 20)])
    assert cuts.line(KEY) is None
    assert cuts.line(KEY._replace(tensor=2)) is None
    assert cuts.smallest(KEY._replace(tensor=2)) is None


def test_repeats_count_by_their_mean_and_failures_not_at_all() -> None:
    first = run("llama-2-7b", ALONE, 1, 20)
    again = replace(first, latency_s=3.0 * (first.latency_s or 0.0))
    failed = replace(first, latency_s=None, memory_bytes=None)
    cuts = Cuts([first, again, failed])
    assert cuts.seconds(KEY)[20][1] == pytest.approx(2.0 * (first.latency_s or 0.0))
    assert cuts.bytes(KEY)[1] == first.memory_bytes


def test_the_smallest_cut_has_the_fewest_layers() -> None:
    smallest = Cuts(cuts_of()).smallest(Key("llama-2-7b", 1, 4, "fp16", "fp16"))
    assert smallest is not None
    assert smallest.num_layers == 4


def test_a_prompt_that_was_written_down_is_believed() -> None:
    cuts = Cuts(cuts_of(["llama-2-7b"]))
    assert cuts.prompt_tokens("llama-2-7b", 1.0) == PROMPT_TOKENS


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-2-70b", "gpt-j-6b"])
def test_a_prompt_that_nobody_wrote_down_is_inferred_from_its_time(model: str) -> None:
    cuts = Cuts(cuts_of(prompt_tokens=None))
    found = cuts.prompt_tokens(model, SUBJECTS[model].prompt_tokens_per_s)
    assert found == pytest.approx(PROMPT_TOKENS / 0.7, rel=0.05), "the world computes at 70 %"


def test_nothing_is_known_of_a_model_without_runs() -> None:
    assert Cuts(()).prompt_tokens("llama-2-7b", 1.0) == 0.0
    assert Cuts(()).models == frozenset()


def test_a_key_says_how_runs_were_spread() -> None:
    configuration = Configuration(Parallelism(2, 2), "int4", "int8")
    assert configuration_of(key_of(run("llama-2-7b", configuration, 4, 10))) == configuration


def test_a_straight_line_of_more_points_is_the_least_squares_one() -> None:
    assert straight_line({0: 1.0, 1: 3.0, 2: 5.0}) == pytest.approx((2.0, 1.0))
    assert straight_line({0: 0.0, 1: 0.0, 2: 3.0}) == pytest.approx((1.5, -0.5))
