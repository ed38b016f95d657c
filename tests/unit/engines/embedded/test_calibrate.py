"""A step-time model learnt from an engine's own steps."""

from random import Random

from penstock.core.step import StepFeatures
from penstock.engines.embedded.calibrate import Calibrator
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel


def truth(features: StepFeatures) -> float:
    prefill, work, seqs, context = features
    return 0.004 + 2e-4 * prefill + 1e-8 * work + 1e-3 * seqs + 1e-6 * context


def fed(calibrator: Calibrator, num: int, rng: Random, *, prompts: bool = True
        ) -> list[StepTimeModel]:
    models = []
    for _ in range(num):
        prefill = rng.choice((0, 10, 100, 400)) if prompts else 0
        seqs = rng.randrange(1, 16)
        features = StepFeatures(prefill, prefill * (rng.randrange(500) + prefill / 2), seqs,
                                seqs * rng.randrange(1, 900))
        model = calibrator.observe(features, truth(features) * rng.uniform(0.95, 1.05))
        if model is not None:
            models.append(model)
    return models


def test_it_comes_to_know_the_device() -> None:
    models = fed(Calibrator(), 600, Random(1))
    last = models[-1]
    assert isinstance(last, LinearStepTime)
    for features in (StepFeatures(200, 20000.0, 8, 3000), StepFeatures(0, 0.0, 4, 100)):
        assert abs(last.seconds(*features) / truth(features) - 1) < 0.05


def test_fits_come_at_doubling_numbers_of_steps_then_regularly() -> None:
    calibrator, rng = Calibrator(), Random(2)
    at = [number for number in range(1, 2200) if fed(calibrator, 1, rng)]
    assert at == [32, 64, 128, 256, 512, 1024, 1536, 2048]


def test_prompts_are_remembered_while_there_are_none() -> None:
    calibrator = Calibrator()
    fed(calibrator, 600, Random(3))
    last = fed(calibrator, 3000, Random(4), prompts=False)[-1]
    assert abs(last.seconds(400, 0.0, 0, 0) / 0.084 - 1) < 0.1


def test_decodes_alone_teach_nothing_about_prompts() -> None:
    assert not fed(Calibrator(), 100, Random(5), prompts=False)
