"""How many layers fit on a device, and how layers are spread over stages."""

from collections.abc import Iterable, Sequence

from penstock.policy.place.values import Device, Footprint, Infeasible, gib


def room(footprint: Footprint, free_bytes: int, *, first: bool = False, last: bool = False) -> int:
    """Return the number of layers that fit on a device with this free memory, in a first, middle or
    last stage."""
    left = (free_bytes - footprint.fixed_bytes - (footprint.first_bytes if first else 0)
            - (footprint.last_bytes if last else 0))
    return min(footprint.num_layers, max(0, left // footprint.layer_bytes))


def spread(num_layers: int, rooms: Sequence[int]) -> tuple[int, ...] | None:
    """Return the layers of each stage, at least one and as even as memory allows; None if they do
    not fit.

    The largest stage is as small as possible. Of stages with equal room, earlier ones take the
    remainder.
    """
    if not rooms or min(rooms) < 1 or not len(rooms) <= num_layers <= sum(rooms):
        return None
    open_rooms, left = sorted(rooms), num_layers
    level = 0
    for index, smallest in enumerate(open_rooms):
        num_open = len(open_rooms) - index
        if left <= smallest * num_open:
            level = left // num_open
            break
        left -= smallest
    layers = [min(each, level) for each in rooms]
    rest = num_layers - sum(layers)
    for index, each in enumerate(rooms):
        if rest and each > level:
            layers[index] += 1
            rest -= 1
    return tuple(layers)


def shortfall(footprint: Footprint, devices: Iterable[Device]) -> Infeasible:
    """Return the shortfall of a replica on the devices with most free memory, ignoring topology.

    The devices with most memory count as first and last stage.
    """
    ranked = sorted(devices, key=lambda d: (-d.free_bytes, d.device_id))
    spread_name = f"{footprint.model} at tp {footprint.tensor} pp {footprint.pipeline}"
    if footprint.num_layers < footprint.pipeline:
        return Infeasible(f"{spread_name} has {footprint.num_layers} layers, fewer than stages")
    if len(ranked) < footprint.num_devices:
        return Infeasible(f"{spread_name} needs {footprint.num_devices} devices, "
                          f"there are {len(ranked)}")
    least = footprint.fixed_bytes + footprint.layer_bytes
    fitting = sum(1 for device in ranked if device.free_bytes >= least)
    if fitting < footprint.num_devices:
        lacking = sum(least - device.free_bytes
                      for device in ranked[fitting:footprint.num_devices])
        return Infeasible(
            f"{spread_name} needs {footprint.num_devices} devices with {gib(least)} free, enough "
            f"for one layer; {fitting} of {len(ranked)} have it: {gib(lacking)} are short",
            0, lacking)
    held = min(footprint.num_layers, sum(_rooms(footprint, ranked)))
    those = f"{footprint.num_devices} devices" if footprint.num_devices > 1 else "device"
    short = footprint.tensor * (footprint.num_layers - held) * footprint.layer_bytes
    return Infeasible(
        f"{spread_name}: the {those} with most free memory can hold {held} of "
        f"{footprint.num_layers} layers at {gib(footprint.layer_bytes)} each: {gib(short)} are "
        f"short; {held} layers would fit, or all of them {_smaller(footprint, ranked)}",
        held, short)


def _rooms(footprint: Footprint, ranked: Sequence[Device]) -> list[int]:
    """Return the room of blocks of the devices with most memory; the larger extra goes on the
    larger block."""
    mins = [ranked[(block + 1) * footprint.tensor - 1].free_bytes
            for block in range(footprint.pipeline)]
    if len(mins) == 1:
        return [room(footprint, mins[0], first=True, last=True)]
    first = footprint.first_bytes >= footprint.last_bytes
    return [room(footprint, mins[0], first=first, last=not first),
            room(footprint, mins[1], first=not first, last=first),
            *(room(footprint, free) for free in mins[2:])]


def _smaller(footprint: Footprint, ranked: Sequence[Device]) -> str:
    """Return the bytes per layer at which all layers would fit, by bisection."""
    low, high = 0, footprint.layer_bytes
    while high - low > 1:
        middle = (low + high) // 2
        trial = Footprint(footprint.model, footprint.num_layers, footprint.tensor,
                          footprint.pipeline, middle, footprint.first_bytes, footprint.last_bytes,
                          footprint.fixed_bytes)
        if spread(trial.num_layers, _rooms(trial, ranked)) is None:
            high = middle
        else:
            low = middle
    return f"at {gib(low)} each" if low else "at no smaller size"
