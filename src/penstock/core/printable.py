"""Text for a terminal: characters that steer it, or turn around what it shows, are escaped."""

_DIRECTIONS = ("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
               "\u2066\u2067\u2068\u2069")
_ESCAPES = {code: f"\\u{code:04x}" for code in (
    *(code for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"),
    *map(ord, _DIRECTIONS))}


def printable(text: str) -> str:
    """Return a text with control and direction characters as JSON escapes them; line feeds and
    tabs stay."""
    return text if text.isprintable() else text.translate(_ESCAPES)
