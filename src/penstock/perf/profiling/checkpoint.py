"""Models of transformers: drawn at random, kept as a checkpoint, or read from one."""

from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, missing_extra
from penstock.perf.profiling.architecture import Architecture

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def libraries(whose: str) -> tuple[Any, Any]:
    """Torch and transformers, quiet. Raises InputError that names the extra."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise missing_extra(whose, "transformers", error) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def drawn_model(cut: Architecture, precision: str, seed: int, device: str = "cpu") -> Any:
    """A model of random weights. Raises InputError where transformers cannot build the shape."""
    torch, transformers = libraries(f"a model of random weights ({cut.name})")
    config = dict(cut.config)
    kind = config.pop("model_type", None)
    torch.manual_seed(seed)
    try:
        made = transformers.AutoConfig.for_model(kind, **config)
        with torch.device(device):
            return transformers.AutoModelForCausalLM.from_config(
                made, dtype=getattr(torch, DTYPES[precision]))
    except (ValueError, KeyError) as error:
        raise InputError(f"model {cut.name}: transformers cannot build it "
                         f"({' '.join(str(error).split())[:150]})") from error


def read_model(folder: Path, precision: str) -> Any:
    """A checkpoint's model. Raises InputError where transformers cannot read it."""
    torch, transformers = libraries(f"{folder}")
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, DTYPES[precision]), local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: transformers cannot read it "
                         f"({' '.join(str(error).split())[:150]})") from error


def random_checkpoint(cut: Architecture, precision: str, seed: int, folder: Path) -> None:
    """Keep a model of random weights, unless the folder is there already."""
    if folder.exists():
        return
    partial = folder.with_name(f".partial-{folder.name}")
    drawn_model(cut, precision, seed).save_pretrained(partial)
    partial.rename(folder)


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
