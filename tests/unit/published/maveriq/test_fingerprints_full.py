"""MaverIQ's rule from whole runs: its equations, solved from what fits."""

import pytest

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.cuts import Cuts
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.maveriq.fingerprints import Exponents
from penstock.published.maveriq.fingerprints_full import FullModelEstimator

LAYERS = 40
POWERS = Exponents(0.9, 0.8, 1.0, 0.3)
FORMATS = ("fp16", "fp16")
SPREADS = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (4, 2), (1, 8))


def law(tensor: int, pipeline: int, output: int) -> float:
    """Latency as the equation has it: 2 s and 0.05 s a token alone, ranks and stages add a part."""
    alone = 2.0 + 0.05 * output
    return (alone / (tensor * pipeline**POWERS.alpha)
            + 0.2 * alone * (tensor - 1) ** POWERS.beta / pipeline**POWERS.gamma
            + 0.1 * alone * (pipeline - 1) ** POWERS.delta)


def size(tensor: int, pipeline: int) -> float:
    return 10e9 + 2e9 * (tensor - 1) + 1e9 * tensor * (pipeline - 1)


def estimator(left_out: tuple[tuple[int, int], ...] = ()) -> FullModelEstimator:
    runs = [ProfiledRun("m", tensor, pipeline, (LAYERS - pipeline + 1, *[1] * (pipeline - 1)),
                        *FORMATS, None, output, 1, law(tensor, pipeline, output),
                        size(tensor, pipeline), None, "law")
            for tensor, pipeline in SPREADS if (tensor, pipeline) not in left_out
            for output in (10, 20)]
    return FullModelEstimator(Cuts(runs), {FORMATS: POWERS})


@pytest.mark.parametrize("left_out", [(), ((1, 1), (1, 2), (2, 1))],
                         ids=["on one accelerator", "from three stages on"])
@pytest.mark.parametrize("spread", SPREADS)
def test_what_obeys_the_equation_is_found_exactly(left_out: tuple[tuple[int, int], ...],
                                                  spread: tuple[int, int]) -> None:
    found = estimator(left_out)
    configuration = Configuration(Parallelism(*spread), *FORMATS)
    assert found.latency_s("m", LAYERS, configuration, 200) == pytest.approx(law(*spread, 200))
    if not left_out:
        assert found.memory_bytes("m", LAYERS, configuration) == pytest.approx(size(*spread))


def test_upstreams_slip_with_two_and_three_stages_is_kept() -> None:
    configuration = Configuration(Parallelism(1, 1), *FORMATS)
    found = estimator(((1, 1),)).latency_s("m", LAYERS, configuration, 100)
    two, three = law(1, 2, 100), law(1, 3, 100)
    assert found == pytest.approx((three - 2**POWERS.delta * two)
                                  / (3**-POWERS.alpha - 2 ** (POWERS.delta - 1)))
    assert found != pytest.approx(law(1, 1, 100), rel=0.01)


def test_memory_from_more_stages() -> None:
    configuration = Configuration(Parallelism(2, 3), *FORMATS)
    found = estimator(((1, 1),)).memory_bytes("m", LAYERS, configuration)
    assert found == pytest.approx(size(2, 3))
    assert estimator(((1, 1), (1, 2), (2, 1))).memory_bytes(
        "m", LAYERS, Configuration(Parallelism(1, 1), *FORMATS)) == pytest.approx(size(1, 1))


def test_too_few_runs_are_no_estimate() -> None:
    configuration = Configuration(Parallelism(1, 1), *FORMATS)
    few = estimator(tuple(one for one in SPREADS if one != (1, 1)))
    assert few.latency_s("m", LAYERS, configuration, 100) is None
    assert few.memory_bytes("m", LAYERS, configuration) is None
    assert estimator().latency_s("m", LAYERS, Configuration(Parallelism(1, 1), "int8", "fp16"),
                                 100) is None
