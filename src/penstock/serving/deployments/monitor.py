"""Memory in use on this machine's accelerators, by any process (NVIDIA's, by NVML)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import ON_GPUS
from penstock.serving.deployments.deployments import Deployment


def used_bytes(cluster: Cluster, one: Deployment) -> Mapping[int, int]:
    """Bytes in use by device, of those that the driver tells of. Nothing for engines that are not
    on accelerators, and where there is no driver or its library (pynvml)."""
    found: dict[int, int] = {}
    if one.engine not in ON_GPUS:
        return found
    with suppress(Exception):  # whatever NVML lacks, nothing is known then
        import pynvml

        library: Any = pynvml
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
        for device in cluster.devices():
            # Processes are started on this machine, which is the first node.
            if device.device_id < min(count, cluster.accelerator.max_per_node):
                handle = library.nvmlDeviceGetHandleByIndex(device.device_id)
                found[device.device_id] = int(library.nvmlDeviceGetMemoryInfo(handle).used)
    return found
