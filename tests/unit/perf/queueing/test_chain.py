"""The open chain against closed forms of queueing theory."""

import math

import numpy as np
import pytest

from penstock.perf.queueing.chain import OpenChain


def erlang(servers: int, load: float) -> float:
    """Probability of waiting in M/M/c with ``load`` = rate over the rate of one server."""
    terms = [load**n / math.factorial(n) for n in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


def test_open_chain_is_m_m_c() -> None:
    servers, rate = 5, 3.7
    chain = OpenChain(np.arange(1.0, 9.0)[None, :], np.array([float(servers)]))
    found = chain.occupancy(np.array([rate]))
    assert found.probabilities[0, servers] == pytest.approx(erlang(servers, rate))
    assert found.in_service[0] == pytest.approx(rate)
    assert found.probabilities[0, servers + 1:].sum() == 0.0
    waiting = erlang(servers, rate) * rate / (servers - rate)
    assert found.in_system[0] - found.in_service[0] == pytest.approx(waiting)
