"""``penstock serve`` of ten models that take turns, emulated engines being started and ended."""

import os

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from support.ten_models import PENSTOCK, serve_ten

ONE = """\
accelerators: [{name: h100-80gb}]
models: [{name: tiny-0, config: config.json}]
service_classes: [{name: patient}]
traffic: [{lengths: {prompt: {fixed: 9}, output: {fixed: 9}}, rate_per_s: 1}]
replicas: [{count: 1}]
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")
@pytest.mark.long
def test_ten_models_with_memory_for_two_are_all_served(repository, folder) -> None:
    (folder / "one.yaml").write_text(ONE)
    serve_ten(repository, folder, [*PENSTOCK, "emulate", "one.yaml", "--port", "{port}", "--set",
                                   "models[0].name={model}"])
