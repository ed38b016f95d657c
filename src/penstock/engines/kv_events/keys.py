"""Names of prompt blocks that do not depend on the engine: equal tokens have equal keys."""

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

MOST_TOKENS = 16_384
"""Tokens of a prompt that are read for its keys."""

MOST_BLOCKS = 2048
"""Blocks of a prompt that have keys: each costs some microseconds."""


def root_key(adapter: str = "") -> int:
    """Return the key before the first block of prompts for a model, or for one of its adapters."""
    return _digest(adapter.encode(errors="replace")) if adapter else 0


def next_key(before: int, tokens: Sequence[int], extra: Sequence[str] = ()) -> int:
    """Return the key of a block of tokens after the block of another key. ``extra`` are the texts
    that set the block apart from others of the same tokens: a cache salt, an image."""
    content = before.to_bytes(8, "big") + array("Q", tokens).tobytes()
    if extra:
        content += "\0".join(extra).encode(errors="replace")
    return _digest(content)


def prompt_keys(tokens: Sequence[int], block_tokens: int, adapter: str = "",
                salt: str = "") -> tuple[int, ...]:
    """Return the keys of a prompt's full blocks, as far as its tokens are read. The salt belongs to
    the first block."""
    found: list[int] = []
    key, extra = root_key(adapter), (salt,) if salt else ()
    num_read = min(len(tokens), MOST_TOKENS, MOST_BLOCKS * block_tokens)
    for start in range(0, num_read - block_tokens + 1, block_tokens):
        key = next_key(key, tokens[start:start + block_tokens], extra)
        extra = ()
        found.append(key)
    return tuple(found)


def chained(before: int, tokens: Sequence[int], block_tokens: int,
            extras: Sequence[Sequence[str]]) -> Iterable[int]:
    """Yield the keys of blocks that follow the block of a key."""
    key = before
    for number, start in enumerate(range(0, len(tokens), block_tokens)):
        key = next_key(key, tokens[start:start + block_tokens],
                       extras[number] if extras else ())
        yield key


def _digest(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big") >> 1
