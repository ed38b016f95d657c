"""The stream of a request's tokens from an engine to the request's reader."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple


class RefusedError(Exception):
    """A request gets no (further) tokens. The message says why.

    ``final`` means that the request itself is at fault, and that a retry would be refused, too.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Token(NamedTuple):
    """One output token, numbered from 0; ``time_s`` is when its step ended, in engine time.

    ``finish_reason`` of the last token is ``stop`` or ``length``, otherwise None. ``token_id`` is
    the token's index in the vocabulary, if there is a vocabulary.
    """

    number: int
    time_s: float
    finish_reason: str | None = None
    token_id: int = -1


class TokenStream:
    """A stream of tokens in order, for one reader, which may be slower than the engine."""

    def __init__(self) -> None:
        self._tokens: list[Token] = []
        self._refusal: RefusedError | None = None
        self._accepted = False
        self._changed = asyncio.Event()

    # -- the engine's side ----------------------------------------------------------------------

    def accept(self) -> None:
        """The scheduler accepted the request."""
        self._accepted = True
        self._changed.set()

    def put(self, token: Token) -> None:
        """Append the next token."""
        self._tokens.append(token)
        self._changed.set()

    def refuse(self, reason: str, *, final: bool = False) -> None:
        """End the stream with a refusal after the present tokens."""
        self._refusal = RefusedError(reason, final=final)
        self._changed.set()

    # -- the reader's side ----------------------------------------------------------------------

    async def accepted(self) -> None:
        """Wait until the request is accepted. Raises RefusedError if it is refused."""
        while not self._accepted:
            if self._refusal is not None:
                raise self._refusal
            await self._change()

    async def some(self) -> list[Token]:
        """Return all tokens since the last call, at least one. Raises RefusedError.

        Must not be called after the token that has a ``finish_reason``.
        """
        while not self._tokens:
            if self._refusal is not None:
                raise self._refusal
            await self._change()
        tokens, self._tokens = self._tokens, []
        return tokens

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[Token]:
        while True:
            for token in await self.some():
                yield token
                if token.finish_reason is not None:
                    return
