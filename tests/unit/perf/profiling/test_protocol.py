"""Times of a batch from its engine's steps."""

import pytest

from penstock.perf.profiling.protocol import batch_times


def test_prefill_in_one_step() -> None:
    times = batch_times([(1.0, [0, 1]), (1.5, [0, 1]), (2.1, [0, 1])], 2, 3)
    assert times.first_token_s == 1.0
    assert times.end_s == 2.1
    assert times.step_s == pytest.approx((0.5, 0.6))
    assert times.decode_step_s == pytest.approx(0.55)
    assert times.num_prefill_steps == 1


def test_prompts_in_pieces_with_decodes_beside_them() -> None:
    steps = [(1.0, []), (2.0, [0]), (3.0, [0, 1]), (3.5, [0, 1]), (3.9, [1])]
    times = batch_times(steps, 2, 3)
    assert (times.first_token_s, times.num_prefill_steps) == (3.0, 3)
    assert times.step_s == pytest.approx((0.5, 0.4))


def test_answers_of_one_token_have_no_decodes() -> None:
    times = batch_times([(1.0, range(4))], 4, 1)
    assert times.step_s == ()
    assert times.decode_step_s is None


@pytest.mark.parametrize("steps", [[(1.0, [0, 1])], [(1.0, [0, 1]), (2.0, [0])]])
def test_an_engine_that_gives_too_few_tokens_is_found_out(
        steps: list[tuple[float, list[int]]]) -> None:
    with pytest.raises(RuntimeError, match="2 were asked of it"):
        batch_times(steps, 2, 2)
