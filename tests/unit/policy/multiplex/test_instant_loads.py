"""Loads that take no time."""

from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.penstock import ValueRate
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import Took
from support.multiplexing_cases import TableMachine


class PatientMachine(TableMachine):
    """Loads in no time, a hundred times at most."""

    num_loads = 0

    def load(self, device: int, model: int, now_s: float) -> Took:
        PatientMachine.num_loads += 1
        assert PatientMachine.num_loads <= 100, "models displace each other for ever"
        return Took(0.0)


def test_models_do_not_displace_each_other_for_ever_at_one_instant() -> None:
    """Beside an idle model each of two has less room than it would have alone, so each is worth
    more before its load than after."""
    models = [HostedModel(name, size, BatchTime(1.0, 0.01), 1, 64)
              for name, size in (("a", 3), ("b", 3), ("idle", 4))]
    requests = [Queued(0, 2, 0.0, 60.0, 1, 0),
                *(Queued(1 + place, place % 2, 10.0, 70.0, 1, 0) for place in range(14))]
    loads_s = [0.0] * len(models)
    run = MultiplexSimulation(
        ValueRate(models, LoadTable(loads_s)), [Device(0, 10, models)],
        PatientMachine(models, loads_s)).run(requests)
    assert run.num_waiting == 0
    assert max(run.end_s) < 20.0
