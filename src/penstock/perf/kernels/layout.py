"""The columns of kernel tables, and which files of a folder hold which table.

Column names are those of AIConfigurator's database (ai-dynamo/aiconfigurator @095f58a). Two ways
of naming files are understood: flat, ``<system>_<backend><version>_<table>.csv.gz``, and the
database's own tree, ``<system>/.../<backend>/<version>/<table>_perf.parquet``.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.core.errors import InputError, nearest

BACKENDS = ("vllm", "sglang", "trtllm")
_ENDINGS = r"\.(?:csv|csv\.gz|parquet)"


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of one kind of table. ``defaults`` stand for columns that a file may leave out."""

    numbers: tuple[str, ...]
    words: tuple[str, ...]
    defaults: Mapping[str, float | str] = field(default_factory=dict)


# Published subsets drop columns that never vary: a head of 128 values, no sliding window.
LAYOUTS: Mapping[str, Layout] = {
    "gemm": Layout(("m", "n", "k"), ("gemm_dtype",)),
    "context_attention": Layout(
        ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "window_size"),
        ("attn_dtype", "kv_cache_dtype"),
        {"head_dim": 128.0, "window_size": 0.0, "attn_dtype": "bfloat16",
         "kv_cache_dtype": "bfloat16"}),
    "generation_attention": Layout(
        ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim",
         "window_size"),
        ("attn_dtype", "kv_cache_dtype"),
        {"isl": 1.0, "head_dim": 128.0, "window_size": 0.0, "attn_dtype": "bfloat16",
         "kv_cache_dtype": "bfloat16"}),
    "custom_allreduce": Layout(("num_gpus", "message_size"), ("allreduce_dtype", "backend"),
                               {"allreduce_dtype": "bfloat16", "backend": ""}),
    "nccl": Layout(("num_gpus", "message_size"), ("op_name", "nccl_dtype"),
                   {"nccl_dtype": "half"}),
    "moe": Layout(
        ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size",
         "moe_ep_size"), ("moe_dtype", "distribution"), {"distribution": ""}),
}
_TABLES = "|".join(LAYOUTS)
_FLAT = re.compile(rf"(?P<system>.+?)_(?P<backend>{'|'.join(BACKENDS)})(?P<version>[\w.]*?)_"
                   rf"(?P<table>{_TABLES})(?:_perf)?{_ENDINGS}")
_FLAT_NCCL = re.compile(rf"(?P<system>.+?)_(?P<table>nccl)(?P<version>[\d.]*?)(?:_perf)?{_ENDINGS}")
_IN_TREE = re.compile(rf"(?P<table>{_TABLES})(?:_perf)?{_ENDINGS}")


@dataclass(frozen=True, slots=True)
class TableFile:
    """One table's file: of which system, serving software (empty for NCCL) and version."""

    path: Path
    system: str
    backend: str
    version: str
    table: str


def table_files(folder: Path | str) -> tuple[TableFile, ...]:
    """Every kernel table below ``folder``, by path. Raises InputError when there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected kernel tables")
    paths = sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names
                   if re.search(f"{_ENDINGS}$", name))
    found = [known for path in paths if (known := _known(path, root)) is not None]
    if not found:
        raise InputError(f"{root}: holds no kernel table; expected files such as "
                         "h100_sxm_vllm0.24.0_gemm.csv.gz")
    return tuple(found)


def systems_in(files: tuple[TableFile, ...]) -> tuple[str, ...]:
    """Systems that have a GEMM table, without which no step can be composed; by name."""
    return tuple(sorted({file.system for file in files if file.table == "gemm"}))


def backend_of(files: tuple[TableFile, ...], system: str) -> str:
    """The serving software whose GEMM table a system has: vLLM where there is a choice."""
    own = {file.backend for file in files if file.system == system and file.table == "gemm"}
    return next((backend for backend in BACKENDS if backend in own), BACKENDS[0])


def chosen_files(files: tuple[TableFile, ...], system: str, backend: str = "vllm",
                 version: str | None = None) -> dict[str, TableFile]:
    """The file of each table: of ``version``, or of the newest that the table has."""
    own = [file for file in files if file.system == system]
    if not own:
        raise InputError(f"system {system!r} has no kernel tables"
                         + nearest(system, {file.system for file in files}))
    if backend not in {file.backend for file in own}:
        raise InputError(f"{system}: no tables of {backend!r}"
                         + nearest(backend, {file.backend for file in own} - {""}))
    mine = [file for file in own if file.backend in (backend, "")]
    if version is not None and version not in {file.version for file in mine if file.backend}:
        raise InputError(f"{system}: no tables of {backend} {version!r}"
                         + nearest(version, {f.version for f in mine if f.backend}))
    chosen: dict[str, TableFile] = {}
    for file in sorted(mine, key=lambda file: _order(file.version)):
        if version is None or not file.backend or file.version == version:
            chosen[file.table] = file
    return chosen


def _known(path: Path, root: Path) -> TableFile | None:
    flat = _FLAT.fullmatch(path.name) or _FLAT_NCCL.fullmatch(path.name)
    if flat is not None:
        named = flat.groupdict()
        return TableFile(path, named["system"], named.get("backend") or "", named["version"],
                         named["table"])
    tree = _IN_TREE.fullmatch(path.name)
    folders = path.relative_to(root).parts[:-1]
    if "data" in folders:
        folders = folders[folders.index("data") + 1:]
    if tree is None or len(folders) < 3:
        return None
    backend = "" if folders[-2] == "nccl" else folders[-2]
    return TableFile(path, folders[0], backend, folders[-1], tree["table"])


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
