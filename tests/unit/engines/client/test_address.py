import pytest

from penstock.core.errors import InputError
from penstock.engines.client.address import api_key, base_url, header, tenant_keys


@pytest.mark.parametrize(("text", "base"), [
    ("http://localhost:8000", "http://localhost:8000"),
    ("http://localhost:8000/", "http://localhost:8000"),
    ("http://localhost:8000/v1", "http://localhost:8000"),
    ("https://api.example.org/openai/v1/", "https://api.example.org/openai"),
    (" http://[::1]:8000 ", "http://[::1]:8000"),
])
def test_bases(text, base) -> None:
    assert base_url(text) == base


@pytest.mark.parametrize("text", [
    "", "localhost:8000", "ftp://host", "http://", "http://host:99999", "http://host:0",
    "http://host/?a=1", "http://host/#a", "http://me:secret@host"])
def test_what_is_no_base(text) -> None:
    with pytest.raises(InputError) as caught:
        base_url(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_key_comes_from_a_file_or_the_environment(tmp_path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    both = {"OPENAI_API_KEY": "sk-openai", "PENSTOCK_API_KEY": "sk-own"}
    assert api_key(both, file) == "sk-file"
    assert api_key(both) == "sk-own"
    assert api_key({"OPENAI_API_KEY": "sk-openai", "PENSTOCK_API_KEY": ""}) == "sk-openai"
    assert api_key({}) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xffsecret"])
def test_a_key_that_no_header_can_carry(tmp_path, content) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        api_key({}, file)
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError):
        api_key({}, tmp_path / "absent")


def test_keys_of_tenants(tmp_path) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"acme": "sk-1", "umbrella": "sk-2"}')
    assert tenant_keys(file) == {"acme": "sk-1", "umbrella": "sk-2"}


@pytest.mark.parametrize("content", ["", "[]", '{"acme": 1}', '{"acme": "sk secret"}',
                                     '{"acme": ""}', "secret"])
def test_what_is_no_file_of_keys(tmp_path, content) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        tenant_keys(file)
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError):
        tenant_keys(tmp_path / "absent")


def test_headers() -> None:
    assert header("X-Penstock-Deadline:  3.5 ") == ("X-Penstock-Deadline", "3.5")
    assert header("a: b:c") == ("a", "b:c")


@pytest.mark.parametrize("text", ["", "X-Only", ": value", "two words: x", "X: secret\r\nY: z",
                                  "X: \u00e9secret"])
def test_what_is_no_header(text) -> None:
    with pytest.raises(InputError) as caught:
        header(text)
    assert "secret" not in str(caught.value)
