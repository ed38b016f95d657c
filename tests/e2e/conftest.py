"""A small fleet in a folder of its own, and the command line called within this process."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import orjson
import pytest

from penstock.cli.main import main
from support import kube_api_server
from support.small_fleet import FLEET


@pytest.fixture(scope="session")
def kube(tmp_path_factory):
    """A real API server with Kubernetes' controllers."""
    try:
        with kube_api_server.api_server(tmp_path_factory.mktemp("kube"), controllers=True) as one:
            yield one
    except kube_api_server.AbsentError as reason:
        kube_api_server.skip_or_fail(reason)


@pytest.fixture
def kubeconfig(kube):
    return kube.kubeconfig


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self):
        return orjson.loads(self.out)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory: empty but for fleet.yaml and a fleet without replicas.

    It is a day on which the catalog's prices were new.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("penstock.cli.moments.today", lambda: date(2025, 12, 1))
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "unsized.yaml").write_text(FLEET.replace("replicas: [{count: 1}]\n", ""))
    return tmp_path


@pytest.fixture
def penstock(capfd, folder):
    """Runs one command line in ``folder``."""
    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call
