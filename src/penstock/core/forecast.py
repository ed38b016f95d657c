"""Forecast for one request on one model, made before the request runs."""

from typing import NamedTuple


class Forecast(NamedTuple):
    """A prediction for a pair of request and model.

    ``output_tokens`` is the mean, ``output_high_tokens`` the 0.9 quantile. ``quality`` is the
    expected quality of the answer, 0 to 1, and ``quality_sd`` the uncertainty of that expectation
    (not the variation of answers). ``source`` names the predictor.
    """

    output_tokens: float
    output_high_tokens: float
    quality: float
    quality_sd: float = 0.0
    source: str = "prior"
