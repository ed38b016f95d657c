"""What several models would answer, and what a router may see of it."""

from dataclasses import replace

import numpy as np

from penstock.core.forecast import Forecast
from penstock.core.request import AUTO, NO_FORECASTS
from penstock.core.slo import ServiceClass
from penstock.workload.answers import Answers, Predictions
from penstock.workload.requests import requests
from penstock.workload.workload import Workload


def answers(num: int = 4) -> Answers:
    rows = np.arange(num, dtype=np.float64)[:, None]
    return Answers(("a", "b"), np.array([[10 * i + 1, 10 * i + 2] for i in range(num)]),
                   np.hstack([0.1 * rows, 0.1 * rows + 0.05]),
                   Predictions(np.hstack([rows, rows + 0.5]), np.hstack([rows + 2, rows + 3]),
                               np.hstack([0.2 + 0 * rows, 0.3 + 0 * rows]),
                               np.hstack([0.01 + 0 * rows, 0.02 * rows]), "somebody"))


def test_each_model_has_lengths_of_its_own() -> None:
    assert answers().tokens_of("a").tolist() == [1, 11, 21, 31]
    assert answers().tokens_of("b").tolist() == [2, 12, 22, 32]


def test_forecasts_show_predictions_not_the_truth() -> None:
    found = list(answers().forecasts(slice(1, 3)))
    assert found == [
        {"a": Forecast(1.0, 3.0, 0.2, 0.01, "somebody"),
         "b": Forecast(1.5, 4.0, 0.3, 0.02, "somebody")},
        {"a": Forecast(2.0, 4.0, 0.2, 0.01, "somebody"),
         "b": Forecast(2.5, 5.0, 0.3, 0.04, "somebody")}]
    assert all(type(value) is float for one in found for forecast in one.values()
               for value in forecast[:4])


def test_some_of_the_requests_take_their_answers_with_them() -> None:
    rows = np.array([3, 0])
    some, whole = answers().take(rows), answers()
    assert some.tokens_of("b").tolist() == [32, 2]
    assert some.quality.tolist() == whole.quality[rows].tolist()
    every = list(whole.forecasts(slice(0, 4)))
    assert list(some.forecasts(slice(0, 2))) == [every[3], every[0]]


def test_requests_carry_forecasts_where_there_are_answers() -> None:
    none = np.zeros(4, dtype=np.int64)
    plain = Workload(np.arange(4.0), none + 9, none + 5, none + 7, (AUTO,), none, ("any",), none,
                     ("default",), none, np.zeros(5, dtype=np.int64), none[:0])
    classes = {"any": ServiceClass("any")}
    assert all(one.forecasts is NO_FORECASTS for one in requests(plain, classes))
    full = list(requests(replace(plain, answers=answers()), classes))
    assert [one.forecasts for one in full] == list(answers().forecasts(slice(0, 4)))
    assert {one.model for one in full} == {""}
