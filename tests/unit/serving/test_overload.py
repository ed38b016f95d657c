"""The overload guard: decisions by measured figures, and bodies bounded together."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.slo import ServiceClass
from penstock.fleet.values_gateway import RequestParameters, Tenant
from penstock.serving import overload
from penstock.serving.errors import ServiceError
from penstock.serving.overload import (
    UNKNOWN,
    Load,
    OverloadGuard,
    OverloadLimits,
    machine_bytes,
    next_lag_s,
    pressures,
    shed_from,
)

LIMITS = OverloadLimits(0.5, 1000, 100)
CLASSES = {name: ServiceClass(name, priority=priority)
           for name, priority in (("chat", 1), ("tools", 2), ("batch", 5))}
ANY = Tenant("any")


def guard(lag_s=0.0):
    found = OverloadGuard(LIMITS, lambda: CLASSES, lambda: 0.0)
    found._lag_s = lag_s
    return found


def test_the_pressure_is_each_figure_over_its_limit() -> None:
    assert pressures(Load(0.1, 250, 90), LIMITS) == pytest.approx(
        {"event_loop": 0.2, "memory": 0.25, "bodies": 0.9})


def test_the_least_urgent_class_is_shed_first_and_unknown_ones_last() -> None:
    priorities = frozenset({1, 2, 5})
    assert [shed_from(one, priorities) for one in (1, 2, 5, None)] == pytest.approx(
        [1.0, 0.85, 0.7, 1.0])
    assert shed_from(5, frozenset({5})) == 1.0
    assert shed_from(7, priorities) == 1.0  # a class that a reload has removed


@pytest.mark.parametrize(("lag_s", "shed"), [
    (0.34, set()), (0.36, {"batch"}), (0.43, {"batch", "tools"}),
    (0.5, {"batch", "tools", "chat"})])
def test_more_classes_are_shed_as_pressure_rises(lag_s, shed) -> None:
    found, said = guard(lag_s), {}
    for name, service_class in CLASSES.items():
        try:
            found.check(service_class)
        except ServiceError as error:
            said[name] = error.status, error.code, error.headers["Retry-After"]
    assert said == dict.fromkeys(shed, (503, "overloaded", "1"))
    assert set(found.num_shed) == shed


def test_before_the_body_header_and_tenant_tell_the_class() -> None:
    found, batch = guard(0.4), Tenant("b", defaults=RequestParameters("batch"))
    found.check_before_body("chat", batch)
    found.check_before_body(None, ANY)
    for name, tenant in (("batch", ANY), (None, batch)):
        with pytest.raises(ServiceError):
            found.check_before_body(name, tenant)
    with pytest.raises(ServiceError):
        guard(0.6).check_before_body(None, ANY)


def test_bodies_are_bounded_together_and_given_back() -> None:
    found = guard()
    with found.body() as one, found.body() as other:
        one.add(60)
        with pytest.raises(ServiceError, match="request bodies"):
            other.add(41)
        other.add(10)
        assert found.load.body_bytes == 70
    assert found.load.body_bytes == 0
    assert found.num_shed == {UNKNOWN: 1}


def test_one_stall_is_no_overload_and_a_lasting_lag_is() -> None:
    once = next_lag_s(0.0, 30.0, LIMITS.lag_s)
    assert guard(once).check(CLASSES["batch"]) is None
    lag_s = 0.0
    for _ in range(20):
        lag_s = next_lag_s(lag_s, 1.0, LIMITS.lag_s)
    with pytest.raises(ServiceError):
        guard(lag_s).check(CLASSES["chat"])


def test_the_document_shows_rounded_pressures() -> None:
    found = guard(0.111)
    with pytest.raises(ServiceError):
        found.take(101)
    assert found.document(lambda number: number + 15) == {
        "pressures": {"event_loop": 0.25, "memory": 0.0, "bodies": 0.0},
        "max_resident_bytes": 1000, "max_body_bytes": 100, "num_shed": {UNKNOWN: 16}}


def test_a_late_event_loop_is_measured(monkeypatch) -> None:
    """The clock jumps by a second during each sleep."""
    times = iter(range(1000))
    found = OverloadGuard(LIMITS, lambda: CLASSES, lambda: float(next(times)))

    async def run():
        monkeypatch.setattr(overload, "_TICK_S", 0.001)
        task = asyncio.create_task(found.run())
        while found.load.lag_s < LIMITS.lag_s:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert found.load.resident_bytes > 10 * 2**20


def test_a_control_group_around_the_process_limits_its_memory(tmp_path) -> None:
    whole = machine_bytes(tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/engine\n")
    (tmp_path / "sys/fs/cgroup/pod/engine").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/pod/engine/memory.max").write_text("max\n")
    assert machine_bytes(tmp_path) == whole
    (tmp_path / "sys/fs/cgroup/pod/memory.max").write_text("1048576\n")
    assert machine_bytes(tmp_path) == 1048576


def test_processes_of_one_server_share_the_memory() -> None:
    alone, each = overload.default_limits(), overload.default_limits(None, 4)
    assert each.resident_bytes == pytest.approx(alone.resident_bytes / 4, abs=1)
    assert each.body_bytes == pytest.approx(alone.body_bytes / 4, abs=1)
    assert overload.default_limits(1000, 4).resident_bytes == 1000
