"""Models that are set apart (get no requests for a while) because their engine keeps failing."""

from collections.abc import Sequence
from typing import NamedTuple


class Apart(NamedTuple):
    """Until when a model is set apart, and why."""

    until_s: float
    why: str


class Failures:
    """Counts consecutive failures of each model: failed loads and dead engines.

    A failure that other models on the device do not share is the model's own. A device that fails
    with several models is reported to ``device_fails``, and no model is set apart for it.
    """

    def __init__(self, names: Sequence[str], num_devices: int, attempts: int,
                 set_apart_s: float) -> None:
        self._names = names
        self._attempts = attempts
        self._set_apart_s = set_apart_s
        self._in_a_row = [0] * len(names)
        self._apart: list[Apart | None] = [None] * len(names)
        self._of_device: list[list[int]] = [[] for _ in range(num_devices)]
        self._device_apart: list[Apart | None] = [None] * num_devices

    def succeeded(self, model: int, device: int) -> None:
        """Reset the failures of a model that answered a request."""
        self._in_a_row[model] = 0
        self._of_device[device].clear()

    def failed(self, model: int, device: int, why: str, now_s: float) -> Apart | None:
        """Count a failed load or a dead engine. Returns the end and reason where the model is now
        set apart."""
        seen = self._of_device[device]
        seen.append(model)
        others = len(self._of_device) - sum(one is not None for one in self._device_apart)
        if len(seen) >= self._attempts and len(set(seen)) > 1 and others > 1:
            self._device_apart[device] = Apart(now_s + self._set_apart_s, why)
            for blamed in seen:
                self._in_a_row[blamed] = 0
            seen.clear()
            return None
        self._in_a_row[model] += 1
        if self._in_a_row[model] < self._attempts:
            return None
        self._in_a_row[model] = 0
        apart = Apart(now_s + self._set_apart_s,
                      f"{self._names[model]} failed {self._attempts} times in a row, last: {why}")
        self._apart[model] = apart
        return apart

    def apart(self, model: int, now_s: float) -> Apart | None:
        """Return until when and why a model is set apart, or None."""
        found = self._apart[model]
        if found is not None and now_s >= found.until_s:
            found = self._apart[model] = None
        return found

    def device_apart(self, device: int, now_s: float) -> Apart | None:
        """Return until when and why a device is set apart, or None."""
        found = self._device_apart[device]
        if found is not None and now_s >= found.until_s:
            found = self._device_apart[device] = None
        return found
