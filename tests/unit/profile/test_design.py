"""Which points are measured."""

from random import Random

import pytest

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.perf.profiles.points import ModelConfiguration
from penstock.profile.design import (
    fingerprint_points,
    fingerprint_settings,
    model_points,
    spread,
)
from penstock.profile.points import by_configuration, room_for
from support.scripted_profiling import WHOLE, point

FP16 = [("fp16", "fp16")]
ONE = Configuration(Parallelism(), "fp16", "fp16")


def test_maveriqs_design_is_24_runs_per_precision() -> None:
    settings, left_out = fingerprint_settings("maveriq", [("fp16", "fp16"), ("int4", "int8")], 8)
    assert left_out == []
    points = [one for setting in settings
              for one in fingerprint_points("maveriq", "m", setting, 4096)]
    assert len(points) == len({one.key for one in points}) == 2 * 24
    degrees = {(one.configuration.tensor, one.configuration.pipeline) for one in points}
    assert degrees == {(1, 1), (1, 2), (2, 1)}
    assert {(one.batch, one.output_tokens) for one in points} == {(1, 10), (1, 20), (2, 10),
                                                                  (2, 20)}
    layers = {one.configuration.layers_by_stage for one in points}
    assert layers == {(1,), (2,), (1, 1), (2, 1)}


def test_ours_varies_prompt_and_batch_and_adds_wide_tensors() -> None:
    settings, _ = fingerprint_settings("penstock", FP16, 8)
    assert [one.parallelism for one in settings] == [
        Parallelism(1, 1), Parallelism(1, 2), Parallelism(2, 1), Parallelism(4, 1),
        Parallelism(8, 1)]
    points = fingerprint_points("penstock", "m", settings[0], 4096)
    assert {one.prompt_tokens for one in points} == {32, 256, 1024}
    assert max(one.batch for one in points) == 32
    assert len(points) == 18


def test_settings_that_do_not_fit_are_named() -> None:
    settings, left_out = fingerprint_settings("penstock", FP16, 2)
    assert [one.name for one in left_out] == ["tp4 pp1 fp16 kv fp16", "tp8 pp1 fp16 kv fp16"]
    assert len(settings) == 3


def test_a_short_context_has_fewer_points() -> None:
    points = fingerprint_points("penstock", "m", ONE, 300)
    assert max(one.prompt_tokens for one in points) == 256
    with pytest.raises(InputError, match="too short for a fingerprint"):
        fingerprint_points("penstock", "m", ONE, 20)


def test_layers_are_spread_evenly() -> None:
    three = Configuration(Parallelism(2, 3), "int4", "int8")
    assert spread("m", 8, three) == ModelConfiguration("m", (3, 3, 2), "int4", "int8", 2)
    with pytest.raises(InputError, match="fewer than stages"):
        spread("m", 2, three)


def test_points_of_a_model_leave_room_for_answers() -> None:
    points = model_points(WHOLE, [10, 100], [1, 2], 8, 107)
    assert [(one.prompt_tokens, one.batch) for one in points] == [(10, 1), (10, 2)]
    with pytest.raises(InputError, match="exceed the model's context of 107"):
        model_points(WHOLE, [100], [1], 8, 107)


def test_an_unknown_design_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'maveriq'"):
        fingerprint_settings("maveric", FP16, 1)


def test_points_of_a_configuration_stay_together_and_are_shuffled() -> None:
    other = ModelConfiguration("small", (4, 4), "fp32", "fp32")
    points = [point(batch, configuration=one) for batch in range(1, 21)
              for one in (WHOLE, other)]
    first, second = by_configuration(points, Random(3))
    assert {one.configuration for one in first} == {WHOLE}
    assert {one.configuration for one in second} == {other}
    assert [one.batch for one in first] != sorted(one.batch for one in first)
    assert by_configuration(points, Random(3)) == [first, second]


def test_room_is_for_each_point_alone() -> None:
    room = room_for([point(8, 10, 2), point(1, 100, 20)])
    assert (room.max_batch, room.max_sequence_tokens, room.kv_tokens) == (8, 120, 120)
    assert room_for([point()], 5000).kv_tokens == 5000


def test_cuts_of_a_mixture_reach_beyond_its_dense_layers() -> None:
    settings, _ = fingerprint_settings("maveriq", FP16, 8)
    sizes = [sorted({point.configuration.layers_by_stage for point in
                     fingerprint_points("maveriq", "m", setting, 4096, 3)}) for setting in settings]
    assert sizes == [[(4,), (5,)], [(3, 2), (3, 3)], [(4,), (5,)]]
