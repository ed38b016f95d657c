import pytest

from penstock.perf.step_time.decode_times import DecodeTimes
from penstock.registry.step_times import published_step_time


class Counted:
    """A model that counts its calls and may not be affine."""

    def __init__(self, model, affine):
        self._model = model
        self.slopes = model.slopes if affine else None
        self.num_calls = 0

    def seconds(self, *features):
        self.num_calls += 1
        return self._model.seconds(*features)


MODEL = published_step_time("vidur-a100-llama-3-8b")


@pytest.mark.parametrize("affine", [True, False])
def test_times_are_those_of_the_model(affine):
    times = DecodeTimes(Counted(MODEL, affine))
    for seqs, context_tokens in ((0, 0), (1, 7), (64, 100_000), (3, 0), (64, 5)):
        assert times.seconds(seqs, context_tokens) == MODEL.seconds(0, 0.0, seqs, context_tokens)


def test_an_affine_model_is_asked_once_for_each_number_of_decodes():
    model = Counted(MODEL, affine=True)
    times = DecodeTimes(model)
    for context_tokens in range(100):
        times.seconds(8, context_tokens)
    assert model.num_calls == 9
