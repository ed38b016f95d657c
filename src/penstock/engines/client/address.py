"""Address of an engine or gateway, with its API key."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from penstock.core.errors import InputError

KEY_VARIABLES = ("PENSTOCK_API_KEY", "OPENAI_API_KEY")
_MOST_KEY_BYTES = 4096
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def base_url(text: str) -> str:
    """Return the base URL of an OpenAI-compatible server, without ``/v1`` and a trailing slash.

    Raises InputError for anything but an http(s) URL without query, fragment and password.
    """
    expected = "expected for example http://127.0.0.1:8000"
    try:
        parts = urlsplit(text.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InputError(f"URL {text[:200]!r}: {error}; {expected}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise InputError(f"URL {text[:200]!r}: {expected}")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"URL of {parts.hostname}: holds a user or password; give a key by "
                         f"{' or '.join(KEY_VARIABLES)}")
    if parts.query or parts.fragment:
        raise InputError(f"URL {text[:200]!r}: has a query or fragment; {expected}")
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1")).geturl().rstrip("/")


def tenant_keys(file: Path) -> dict[str, str]:
    """Read keys by tenant from a JSON object. Raises InputError, whose message never has a key."""
    import orjson

    try:
        document = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict) or not all(isinstance(key, str) and _is_key(key)
                                                 for key in document.values()):
        raise InputError(f"{file}: not the keys of tenants; expected a JSON object such as "
                         '{"acme": "sk-..."}')
    return document


def header(text: str) -> tuple[str, str]:
    """Return name and value of ``Name: value``. Raises InputError, whose message never has the
    value."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
        raise InputError(f"--header {name[:40]!r}: expected NAME: VALUE in ASCII")
    return name, value


def _is_key(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and " " not in key


def api_key(environment: Mapping[str, str], file: Path | None = None) -> str | None:
    """Return the API key to send: the file's only line, else the first of KEY_VARIABLES that is
    set.

    Raises InputError for a key that a header cannot carry. The message never has the key.
    """
    if file is not None:
        try:
            with file.open("rb") as opened:
                key, where = opened.read(_MOST_KEY_BYTES).decode("ascii").strip(), str(file)
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError:
            raise InputError(f"{file}: not an API key; expected one line of ASCII") from None
    else:
        where = next((name for name in KEY_VARIABLES if environment.get(name)), "")
        key = environment.get(where, "").strip()
        if not where:
            return None
    if not _is_key(key):
        raise InputError(f"{where}: not an API key; expected one line of ASCII without blanks")
    return key
