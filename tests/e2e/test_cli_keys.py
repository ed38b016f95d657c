"""``penstock keys`` as a user runs it."""

import json
import os
import sqlite3
import stat

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

TENANTS = "gateway: {tenants: [{name: shop}, {name: bar}]}\n"


@pytest.fixture
def tenants(folder):
    """A fleet file with two tenants."""
    path = folder / "fleet.yaml"
    path.write_text(path.read_text() + TENANTS)
    return folder


def test_a_key_is_made_listed_and_revoked(tenants, penstock) -> None:
    made = penstock("keys", "create", "fleet.yaml", "shop", "--label", "site")
    assert made.status == 0
    key = made.out.strip()
    public = key.split("-")[1]
    assert made.out == f"{key}\n"
    assert made.err == f"key {public} of shop: it is not shown again\n"
    listed = penstock("keys", "list", "fleet.yaml")
    assert public in listed.out
    assert "site" in listed.out
    assert key.split("-", 2)[2] not in listed.out
    (one,) = penstock("keys", "list", "fleet.yaml", "--json").json
    assert one.keys() == {"key_id", "tenant", "admin", "label", "created_s", "revoked_s", "scopes",
                          "expires_s"}
    assert (one["tenant"], one["admin"], one["revoked_s"]) == ("shop", False, None)
    assert penstock("keys", "revoke", "fleet.yaml", public).status == 0
    (one,) = penstock("keys", "list", "fleet.yaml", "--json").json
    assert one["revoked_s"] >= one["created_s"]


def test_whoever_pastes_the_whole_key_means_the_same(tenants, penstock) -> None:
    key = penstock("keys", "create", "fleet.yaml", "shop", "--json").json["key"]
    assert penstock("keys", "revoke", "fleet.yaml", key).status == 0
    wrong = penstock("keys", "revoke", "fleet.yaml", "psk-000000000000-hush")
    assert wrong.status == 2
    assert "no key '000000000000'" in wrong.err
    assert "hush" not in wrong.err


def test_the_key_itself_is_kept_nowhere(tenants, penstock) -> None:
    key = penstock("keys", "create", "fleet.yaml", "--admin", "--json").json
    assert (key["admin"], key["tenant"]) == (True, "")
    secret = key["key"].split("-", 2)[2].encode()
    files = [path for path in tenants.iterdir() if "ledger" in path.name]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]
    if os.name == "posix":
        assert stat.S_IMODE((tenants / "fleet.ledger.db").stat().st_mode) == 0o600


def test_the_ledger_may_be_elsewhere(tenants, penstock, monkeypatch) -> None:
    assert penstock("keys", "create", "fleet.yaml", "shop", "--ledger", "sqlite:///a.db"
                    ).status == 0
    monkeypatch.setenv("PENSTOCK_LEDGER_URL", "sqlite:///b.db")
    assert penstock("keys", "create", "fleet.yaml", "bar").status == 0
    for name, tenant in (("a.db", "shop"), ("b.db", "bar")):
        with sqlite3.connect(tenants / name) as connection:
            assert connection.execute("select tenant from penstock_keys").fetchall() == [(tenant,)]
    assert not (tenants / "fleet.ledger.db").exists()


def test_without_tenants_in_the_file_any_name_will_do(folder, penstock) -> None:
    assert penstock("keys", "create", "fleet.yaml", "whoever").status == 0


@pytest.mark.parametrize(("arguments", "said"), [
    (["create", "fleet.yaml", "shpo"], "no tenant 'shpo'; did you mean 'shop'?"),
    (["create", "fleet.yaml"], "expected a TENANT, or --admin"),
    (["create", "fleet.yaml", "shop", "--label", "x" * 201], "--label: expected"),
    (["create", "nowhere.yaml", "shop"], "nowhere.yaml"),
    (["create", "fleet.yaml", "shop", "--ledger", "nonsense"], "--ledger: expected an SQLAlchemy"),
    (["create", "fleet.yaml", "shop", "--ledger", "sqlite:////no/where.db"], "unable to open"),
    (["list", "fleet.yaml"], "no ledger yet"), (["revoke", "fleet.yaml", "x"], "no ledger yet")])
def test_what_is_wrong_is_one_clear_line(tenants, penstock, arguments, said) -> None:
    outcome = penstock("keys", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_names_that_no_file_could_have_are_refused(folder, penstock) -> None:
    for name in ("", "a b", "x" * 201, "a\x07"):
        assert penstock("keys", "create", "fleet.yaml", name).status == 2


def test_a_gateway_without_keys_stays_at_home(folder, penstock) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
    outcome = penstock("serve", "fleet.yaml", "--host", "0.0.0.0", "--port", "0", "--set",
                       f"replicas[0].endpoints={json.dumps(['http://127.0.0.1:9'])}")
    assert outcome.status == 2
    assert "beyond the loopback interface a gateway needs keys" in outcome.err


def test_a_key_has_scopes_and_expires(tenants, penstock) -> None:
    made = penstock("keys", "create", "fleet.yaml", "--scope", "status", "--scope", "metrics",
                    "--expires", "30d", "--json").json
    assert (made["tenant"], made["admin"], made["scopes"]) == ("", False, ["metrics", "status"])
    assert made["expires_s"] - made["created_s"] == pytest.approx(30 * 86_400)
    text = penstock("keys", "create", "fleet.yaml", "shop", "--expires", "2199-12-31")
    assert "valid until 2199-12-31 00:00:00Z: it is not shown again" in text.err
    listed = penstock("keys", "list", "fleet.yaml").out
    assert "2199-12-31 00:00:00Z ask spend" in " ".join(listed.split())
    assert "metrics status" in listed


@pytest.mark.parametrize(("arguments", "said"), [
    (("shop", "--scope", "metric"), "--scope: unknown scope 'metric'; did you mean 'metrics'?"),
    (("--scope", "ask"), "--scope ask: needs a TENANT"),
    (("shop", "--expires", "2001-01-01"), "--expires: 2001-01-01 has passed"),
    (("shop", "--expires", "soon"), "--expires: found 'soon'; expected a length of time"),
    (("shop", "--expires", "-3d"), "--expires: found '-3d'; expected a length of time"),
    (("shop", "--expires", "0s"), "--expires: 0s has passed")])
def test_a_wrong_scope_or_moment_is_one_clear_line(tenants, penstock, arguments, said) -> None:
    found = penstock("keys", "create", "fleet.yaml", *arguments)
    assert found.status == 2
    assert said in found.err
    assert not [path for path in tenants.iterdir() if "ledger" in path.name]


def test_a_rotated_key_has_a_successor_and_an_end(tenants, penstock) -> None:
    old = penstock("keys", "create", "fleet.yaml", "shop", "--label", "site", "--scope", "ask",
                   "--expires", "30d", "--json").json
    new = penstock("keys", "rotate", "fleet.yaml", old["key"], "--overlap", "24h", "--json").json
    assert new["key"] != old["key"]
    assert [new[name] for name in ("tenant", "label", "scopes", "admin")] == [
        "shop", "site", ["ask"], False]
    assert new["expires_s"] - new["created_s"] == pytest.approx(30 * 86_400)
    before, after = penstock("keys", "list", "fleet.yaml", "--json").json
    assert before["expires_s"] == pytest.approx(new["created_s"] + 86_400)
    assert after["expires_s"] == new["expires_s"]
    assert penstock("keys", "rotate", "fleet.yaml", new["key_id"], "--overlap", "0s").status == 0
    again = penstock("keys", "rotate", "fleet.yaml", new["key_id"])
    assert again.status == 2
    assert "is revoked or has expired" in again.err


def test_an_overlap_does_not_lengthen_a_life(tenants, penstock) -> None:
    old = penstock("keys", "create", "fleet.yaml", "shop", "--expires", "1h", "--json").json
    assert penstock("keys", "rotate", "fleet.yaml", old["key_id"], "--overlap", "7d").status == 0
    assert penstock("keys", "list", "fleet.yaml", "--json").json[0]["expires_s"] == \
        old["expires_s"]


def test_every_act_on_keys_stands_in_the_audit_log_without_a_secret(tenants, penstock) -> None:
    made = penstock("keys", "create", "fleet.yaml", "shop", "--json").json
    new = penstock("keys", "rotate", "fleet.yaml", made["key_id"], "--json").json
    penstock("keys", "revoke", "fleet.yaml", new["key"])
    entries = penstock("keys", "audit", "fleet.yaml", "--since", "1h", "--json").json
    assert [(one["action"], one["target"], one["outcome"]) for one in entries] == [
        ("create a key", f"key {made['key_id']} of shop", "done"),
        (f"rotate key {made['key_id']}", f"key {new['key_id']} of shop", "done"),
        ("revoke a key", f"key {new['key_id']} of shop", "done")]
    assert all(one["peer"].startswith("user ") and one["at_s"] > 0 for one in entries)
    shown = penstock("keys", "audit", "fleet.yaml").out
    assert "revoke a key" in shown
    for key in (made["key"], new["key"]):
        assert key.split("-", 2)[2] not in shown + str(entries)
