"""A device does nothing that its memory does not allow, whatever a policy asks for."""

from collections.abc import Callable

import pytest

from penstock.policy.multiplex.device import Device, NotPossibleError
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Load, Queued

MODELS = [HostedModel(name, 10, BatchTime(1.0, 0.1), request_bytes=1, max_batch=3)
          for name in "abc"]


def holding(*models: int, memory_bytes: int = 25, max_residents: int | None = None) -> Device:
    device = Device(0, memory_bytes, MODELS, max_residents=max_residents)
    for model in models:
        device.begin_load(Load(model))
        device.end_load(0.0, loaded=True)
    return device


def batch(model: int, num_requests: int) -> Batch:
    return Batch(model, tuple(Queued(number, model, 0.0) for number in range(num_requests)))


def test_a_model_is_loaded_only_into_free_memory() -> None:
    device = holding(0, 1)
    assert device.free_bytes == 5
    assert not device.fits(2)
    with pytest.raises(NotPossibleError, match="does not fit"):
        device.begin_load(Load(2))
    assert set(device.residents) == {0, 1}
    device.begin_load(Load(2, evict=(0,)))
    assert (device.loading, set(device.residents), device.free_bytes) == (2, {1}, 5)


def test_what_is_being_loaded_takes_its_memory_at_once_and_gives_it_back_on_failure() -> None:
    device = holding(memory_bytes=15)
    device.begin_load(Load(0))
    assert device.free_bytes == 5
    assert not device.fits(1)
    device.end_load(1.0, loaded=False)
    assert (device.free_bytes, device.residents) == (15, {})


def test_no_more_models_are_resident_than_allowed() -> None:
    device = holding(0, memory_bytes=100, max_residents=1)
    assert not device.fits(1)
    assert device.fits(1, evict=(0,))


def begun(device: Device) -> Device:
    device.begin_batch(batch(0, 2))
    return device


@pytest.mark.parametrize(("act", "words"), [
    (lambda: holding(0).begin_load(Load(0)), "is resident"),
    (lambda: holding(0).begin_load(Load(1, evict=(2,))), "is not on device"),
    (lambda: begun(holding(0)).begin_load(Load(1, evict=(0,))), "model 0 runs"),
    (lambda: begun(holding(0)).drop((0,)), "model 0 runs"),
    (lambda: begun(holding(0)).begin_batch(batch(0, 1)), "room for 0"),
    (lambda: begun(holding(0)).end_batch(0, 3, 1.0), "3 of 2 requests"),
    (lambda: holding(0).begin_batch(batch(0, 4)), "room for 3"),
    (lambda: holding(0).begin_batch(batch(0, 0)), "0 requests"),
    (lambda: holding(0).begin_batch(batch(1, 1)), "room for 0"),
    (lambda: holding(0).end_load(1.0, loaded=True), "was not loading"),
    (lambda: holding(0, memory_bytes=11).begin_batch(batch(0, 2)), "room for 1"),
])
def test_what_cannot_be_is_refused(act: Callable[[], object], words: str) -> None:
    with pytest.raises(NotPossibleError, match=words):
        act()


def test_a_device_loads_one_model_at_a_time() -> None:
    device = holding()
    device.begin_load(Load(0))
    with pytest.raises(NotPossibleError, match="already loading 0"):
        device.begin_load(Load(1))
