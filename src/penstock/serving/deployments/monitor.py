"""Memory in use on this machine's accelerators, by any process (NVIDIA's, by NVML)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import ON_GPUS
from penstock.serving.deployments.deployments import Deployment


def used_bytes(cluster: Cluster, one: Deployment) -> Mapping[int, int]:
    """Return the bytes in use by device, as the driver reports them. The mapping is empty for
    engines that use no accelerator, and without the driver or its library (pynvml)."""
    found: dict[int, int] = {}
    if one.engine not in ON_GPUS:
        return found
    with suppress(Exception):  # whatever NVML lacks, the usage is then unknown
        import pynvml

        library: Any = pynvml
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
        for device in cluster.devices():
            # Processes start on this machine, which is the first node.
            if device.device_id < min(count, cluster.accelerator.max_per_node):
                handle = library.nvmlDeviceGetHandleByIndex(device.device_id)
                found[device.device_id] = int(library.nvmlDeviceGetMemoryInfo(handle).used)
    return found
