"""Plain data as YAML text, a line per entry, for people to copy."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

# What every YAML reads as text without quotes, inside braces too.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


def section(name: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """A section of a fleet file that is a list, each entry in braces on a line of its own."""
    lines = [f"  - {flow(entry)}" for entry in entries]
    return "\n".join([f"{name}:", *lines] if lines else [f"{name}: []"]) + "\n"


def flow(value: Any) -> str:
    """Mappings, lists, text, numbers, booleans and None in YAML's flow style.

    YAML 1.1 and 1.2 read it alike.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return _number(value)
    return str(value) if isinstance(value, int) else _text(str(value))


def _number(value: float) -> str:
    text = repr(value)
    mantissa, e, exponent = text.partition("e")
    if not e:
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)
    # YAML 1.1 takes 1e-05 for text: it wants a point and the exponent's sign.
    point = "" if "." in mantissa else ".0"
    return f"{mantissa}{point}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
