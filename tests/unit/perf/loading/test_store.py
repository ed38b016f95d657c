"""Loading models as files."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.store import (
    load_loading,
    loading_document,
    loading_from,
    save_loading,
)
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence

MODEL = LoadingModel(2e9, float("inf"), LoadEvidence("here", 0.1, 0.2, 0.5, 1e9, 3e9), 2e10, 1e10,
                     1.5, 0.01, 0.25, FirstLoad(3.0, 9.0), ConfidentialTerms(1.0, 0.2, 0.3), 6.4e10)


@pytest.mark.parametrize("model", [MODEL, replace(MODEL, confidential=None, first=FirstLoad())])
@pytest.mark.parametrize("cache", [None, 48_000_000_000])
def test_what_is_saved_is_read(tmp_path: Path, model: LoadingModel, cache: int | None) -> None:
    save_loading(model, tmp_path / "one.yaml", cache)
    assert load_loading(tmp_path / "one.yaml") == (model, cache)


@pytest.mark.parametrize(("change", "message"), [
    ({"disk_bytes_per_s": 0}, "disk_bytes_per_s: 0; expected a number above 0"),
    ({"fixed_s": -1}, "fixed_s: found -1; expected a number of at least 0"),
    ({"fixed_s": "fast"}, "fixed_s: found 'fast'; expected a number"),
    ({"overlap": 2}, "overlap: 2; expected 0 to 1"),
    ({"fixd_s": 1}, "unknown key 'fixd_s'; did you mean 'fixed_s'"),
    ({"first": 3}, "first: found int; expected a mapping"),
    ({"confidential": {"copy": 1}}, "confidential: unknown key 'copy'"),
    ({"evidence": {"source": "x"}}, "evidence: 'mean_error' is missing")])
def test_what_cannot_be(change: dict[str, object], message: str) -> None:
    document = {**loading_document(MODEL), **change}
    with pytest.raises(InputError, match=message):
        loading_from(document, "one.yaml")


def test_what_is_missing_and_unreadable(tmp_path: Path) -> None:
    document = loading_document(MODEL)
    del document["disk_bytes_per_s"]
    with pytest.raises(InputError, match="'disk_bytes_per_s' is missing"):
        loading_from(document, "one.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_loading(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match="is not YAML"):
        load_loading(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text(yaml.safe_dump([1]))
    with pytest.raises(InputError, match="found list; expected a mapping"):
        load_loading(tmp_path / "list.yaml")
