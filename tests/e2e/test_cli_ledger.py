"""``penstock ledger check`` as a user runs it."""

import json
import sqlite3

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.serving.tenants.records import Batch, Settlement
from penstock.serving.tenants.store import open_store


@pytest.fixture
def books(folder):
    """A folder with a fleet, and the ledger of two charges."""
    store, batch = open_store(f"sqlite:///{folder}/fleet.ledger.db"), Batch()
    for name in ("d1", "d2"):
        batch.add(Settlement(name, "shop", "m", 1e9, 3, 4, 7))
    store.write(batch, "g")
    store.close()
    return folder


def test_right_and_wrong_books(books, penstock) -> None:
    for place in ("fleet.yaml", "fleet.ledger.db", f"sqlite:///{books}/fleet.ledger.db"):
        right = penstock("ledger", "check", place)
        assert (right.status, right.out, right.err) == (0, "2 charges: no differences\n", "")
    with sqlite3.connect(books / "fleet.ledger.db") as connection:
        connection.execute("update penstock_charges set charged_nanos = -1 "
                           "where decision_id = 'd1'")
    wrong = penstock("ledger", "check", "fleet.yaml")
    assert (wrong.status, wrong.out) == (
        1, "decision d1: tokens or charge are below 0\n2 charges: 1 differences\n")
    document = penstock("ledger", "check", "fleet.yaml", "--json").json
    assert document == {"consistent": False, "num_charges": 2, "num_decisions": 0,
                        "differences": ["decision d1: tokens or charge are below 0"]}


def test_logs_and_metrics(books, penstock) -> None:
    line = {"decision_id": "d3", "tenant": "shop", "gateway": "g", "settled_at_s": 4e9, "outcome": {
        "outcome": "finished", "prompt_tokens": 1, "output_tokens": 1, "charged_nanos": 2,
        "dispute": None}}
    (books / "log.jsonl").write_text(json.dumps(line) + "\n")
    (books / "metrics").write_text('penstock:gateway_info{gateway="h"} 1.0\n')
    found = penstock("ledger", "check", "fleet.yaml", "--decisions", "log.jsonl", "--metrics",
                     "metrics")
    assert (found.status, found.out.splitlines()) == (1, [
        "decision d3: the log has shop, 1 + 1 tokens, 2 nanos, the ledger no charge",
        "2 charges and 1 decisions: 1 differences"])


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere.yaml"], "nowhere.yaml: cannot be read"), (["other.yaml"], "no ledger yet"),
    (["sqlite://"], "keeps nothing"),
    (["fleet.yaml", "--decisions", "nowhere"], "nowhere: cannot be read"),
    (["fleet.yaml", "--metrics", "nowhere"], "--metrics nowhere: cannot be read"),
    (["fleet.yaml", "--metrics", "fleet.yaml"], "--metrics: expected"),
    (["fleet.yaml", "--metrics", "http://127.0.0.1:9"], "--metrics http://127.0.0.1:9/metrics: ")])
def test_bad_input_is_one_line(books, penstock, arguments, said) -> None:
    (books / "other.yaml").write_text("name: other\n")
    found = penstock("ledger", "check", *arguments)
    assert (found.status, found.out, found.err.count("\n")) == (2, "", 1)
    assert said in found.err


def test_a_newer_ledger_is_refused(books, penstock) -> None:
    with sqlite3.connect(books / "fleet.ledger.db") as connection:
        connection.execute("update penstock_facts set value = '99' where name = 'version'")
    for words in (("ledger", "check", "fleet.yaml"), ("keys", "list", "fleet.yaml")):
        found = penstock(*words)
        assert (found.status, found.err.count("\n")) == (2, 1)
        assert "this ledger has version 99" in found.err


def test_keys_are_listed_with_disputed_requests(books, penstock) -> None:
    (books / "fleet.yaml").write_text((books / "fleet.yaml").read_text()
                                      + "gateway: {tenants: [{name: shop}]}\n")
    penstock("keys", "create", "fleet.yaml", "shop")
    assert "disputed" not in penstock("keys", "list", "fleet.yaml").out
    with sqlite3.connect(books / "fleet.ledger.db") as connection:
        connection.execute("update penstock_spend set num_disputed = 2")
    assert "disputed requests" in penstock("keys", "list", "fleet.yaml").out
    (key,) = penstock("keys", "list", "fleet.yaml", "--json").json
    assert key["num_disputed"] == 2
