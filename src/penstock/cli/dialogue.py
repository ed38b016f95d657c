"""The dialogue of ``penstock init``: a few questions, each answer checked before the next."""

from collections.abc import Callable, MutableMapping
from typing import Any

import typer

from penstock.cli.console import note
from penstock.core.errors import InputError


def ask(given: MutableMapping[str, Any]) -> None:
    """Fill in what no option states. An empty answer takes the value in brackets."""
    from penstock.catalog import is_config_path, load_catalog
    from penstock.cli.answers import answered
    from penstock.fleet.draft import USUAL_CLASSES, check_targets, named_gpu
    from penstock.fleet.stock import simulated_engines

    catalog = load_catalog(given.get("catalog"))

    def model(text: str) -> str:
        if not is_config_path(text):
            catalog.listed_model(text)
        return text

    def gpus(text: str) -> list[str]:
        found = text.replace(",", " ").split()
        for gpu in found:
            named_gpu(catalog, gpu.partition(":")[0])
        answered({"model": "", "gpu": found})
        return found

    def rate(text: str) -> float:
        from penstock.fleet.declared import field_value

        return float(field_value("traffic.rate_per_s", text))

    def classes(text: str) -> list[str]:
        found = text.replace(",", " ").split()
        for answer in answered({"model": "", "gpu": [], "classes": found}).classes:
            check_targets(answer)
        return found

    def engine(text: str) -> str:
        from penstock.core.errors import nearest

        name = text.partition(":")[0]
        if name != "penstock" and name not in simulated_engines():
            raise InputError(f"unknown engine {name[:60]!r}{nearest(name, simulated_engines())}")
        return text

    questions: tuple[tuple[str, str, str | None, Callable[[str], Any]], ...] = (
        ("model", "Model (a name, or the path of a config.json)", None, model),
        ("gpu", "GPUs, such as h100-80gb:4 l40s:8 (no count: any number)", None, gpus),
        ("rate", "Requests per second", None, rate),
        ("classes", f"Service classes ({', '.join(USUAL_CLASSES)}, or NAME:ttft=1:itl=0.05)",
         "chat", classes),
        ("engine", "Engine (vllm, sglang, tensorrt-llm, penstock)", "vllm", engine))
    for name, question, usual, check in questions:
        stated = given[name] or (name == "classes" and any(
            given[target] for target in ("ttft", "itl", "tpot", "e2e")))
        if not stated and not (name == "rate" and given["trace"]):
            given[name] = _answer(question, usual, check)


def _answer(question: str, usual: str | None, check: Callable[[str], Any]) -> Any:
    """The first answer that passes its check."""
    while True:
        text = typer.prompt(question, default=usual, err=True)
        try:
            return check(str(text).strip())
        except InputError as error:
            note(str(error))
