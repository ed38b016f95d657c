import random

import pytest

from penstock.serving.tenants.keys import Keyring, new_key


def made(tenant="shop", seed=0, **more):
    return new_key(tenant, 5.0, random.Random(seed).randbytes, **more)


def test_a_key_opens_and_is_not_kept() -> None:
    text, key = made(label="ci")
    assert Keyring([key]).find(text) == key
    assert text.startswith(f"psk-{key.key_id}-")
    secret = text.split("-", 2)[2]
    assert len(secret) == 43, "256 bits"
    assert secret not in repr(key)
    assert (key.tenant, key.label, key.created_s, key.admin) == ("shop", "ci", 5.0, False)


@pytest.mark.parametrize("change", [
    lambda text: text[:-1], lambda text: text + "A", lambda text: text.swapcase(),
    lambda text: "", lambda text: "psk", lambda text: "psk-", lambda text: "psk--",
    lambda text: text.replace("psk-", "xsk-"), lambda text: text.rsplit("-", 1)[0] + "-",
    lambda text: "psk-000000000000-" + text.split("-", 2)[2], lambda text: "\udcff" + text,
    lambda text: text + "\udcff", lambda text: "\u0000"])
def test_nothing_else_opens(change) -> None:
    text, key = made()
    assert change(text) != text
    assert Keyring([key]).find(change(text)) is None
    assert Keyring().find(text) is None


def test_a_secret_belongs_to_its_own_key() -> None:
    first, one = made(seed=1)
    second, two = made(seed=2)
    keys = Keyring([one, two])
    assert keys.find(f"psk-{one.key_id}-{second.split('-', 2)[2]}") is None
    assert keys.find(first) == one


def test_a_revoked_key_opens_nothing_but_is_remembered() -> None:
    from dataclasses import replace
    text, key = made()
    keys = Keyring([replace(key, revoked_s=9.0)])
    assert keys.find(text) is None
    assert (keys.had_keys, keys.num_valid) == (True, 0)
    assert (Keyring().had_keys, Keyring([key]).num_valid) == (False, 1)


def test_known_and_unknown_ids_are_compared_alike(monkeypatch) -> None:
    from penstock.serving.tenants import keys as module
    seen = []
    monkeypatch.setattr(module, "compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    text, key = made()
    keyring = Keyring([key])
    keyring.find(text[:-1] + "_")
    keyring.find("psk-000000000000-" + text.split("-", 2)[2])
    keyring.find("nonsense")
    assert len(seen) == 3, "each attempt is one comparison"
    assert {(len(a), len(b)) for a, b in seen} == {(64, 64)}
