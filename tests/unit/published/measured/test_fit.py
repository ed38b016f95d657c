"""Rates of engines from few points."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.published.measured.fit import FEWEST_RUNS, fit_rates
from support.measured_rows import write_measured


def test_errors_that_no_left_out_point_tells(tmp_path: Path) -> None:
    """Without a throughput in any point, no error of a throughput is known."""
    write_measured(tmp_path, *({"load_value": 1, "osl": 8 + size} for size in range(FEWEST_RUNS)))
    with pytest.raises(InputError, match=r"has output_tok_per_s, so the errors are unknown; .* all "
                                         r"of ttft_s, tpot_s, output_tok_per_s$"):
        fit_rates([tmp_path], 2)


def test_too_few_points(tmp_path: Path) -> None:
    write_measured(tmp_path, {"osl": 8})
    with pytest.raises(InputError, match=r"1 points with a time per output token .* at least 40"):
        fit_rates([tmp_path])
