"""The constants of a system of kernel tables: its GPU's peaks and links, from its YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator

# Fields of the file's ``gpu`` section, by our number formats.
_PEAKS = {"bf16": "bfloat16_tc_flops", "fp16": "bfloat16_tc_flops", "int8": "int8_tc_flops",
          "fp8": "fp8_tc_flops", "fp4": "fp4_tc_flops"}


def system_accelerator(folder: Path | str, system: str) -> Accelerator | None:
    """The accelerator of ``<system>.system.yaml`` or ``<system>.yaml`` below ``folder``.

    None without such a file. Raises InputError for one that is broken.
    """
    path = next((found for name in (f"{system}.system.yaml", f"{system}.yaml")
                 for found in sorted(Path(folder).rglob(name))), None)
    if path is None:
        return None
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    gpu, node = _section(document, "gpu", path), _section(document, "node", path)
    peaks = {ours: _number(gpu, theirs, path) for ours, theirs in _PEAKS.items() if theirs in gpu}
    if "bf16" not in peaks:
        raise InputError(f"{path}: gpu has no {_PEAKS['bf16']}")
    return Accelerator(
        name=system, vendor="unknown", memory_bytes=int(_number(gpu, "mem_capacity", path)),
        bandwidth_bytes_per_s=_number(gpu, "mem_bw", path), peak_flops=peaks,
        power_w=_number(gpu, "power", path),
        link_bytes_per_s=_number(node, "intra_node_bw", path),
        pcie_bytes_per_s=_number(node, "pcie_bw", path), price_per_hour=0.0,
        max_per_node=int(_number(node, "num_gpus_per_node", path)),
        sources={"peaks": path.name})


def _section(document: Any, name: str, path: Path) -> Mapping[str, Any]:
    found = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: no section {name!r}; expected gpu and node")
    return found


def _number(section: Mapping[str, Any], name: str, path: Path) -> float:
    value = section.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(f"{path}: {name} is {value!r}; expected a number above 0")
    return float(value)
