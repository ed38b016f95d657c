"""Forecast for one request on one model, made before the request runs."""

from typing import NamedTuple


class Forecast(NamedTuple):
    """A prediction for a pair of request and model.

    ``output_tokens`` is the mean, ``output_high_tokens`` what nine of ten such requests stay below.
    ``quality`` is the expected quality of the answer, 0 to 1, and ``quality_sd`` how unsure that
    expectation is (not how much answers differ). ``source`` says who predicts.
    """

    output_tokens: float
    output_high_tokens: float
    quality: float
    quality_sd: float = 0.0
    source: str = "prior"
