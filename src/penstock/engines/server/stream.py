"""The tokens of one request on their way from an engine to whoever asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple


class RefusedError(Exception):
    """A request will get no (more) tokens; the message says why.

    ``final`` says that the request itself is to blame, and will be refused whenever it comes.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Token(NamedTuple):
    """One output token, numbered from 0; ``time_s`` is when its step ended, in engine time.

    ``finish_reason`` is None but for the last one: ``stop`` or ``length``. ``token_id`` is its
    place in the vocabulary, where there is one.
    """

    number: int
    time_s: float
    finish_reason: str | None = None
    token_id: int = -1


class TokenStream:
    """Tokens in order, as they come. One reader; it may be slower than the engine."""

    def __init__(self) -> None:
        self._tokens: list[Token] = []
        self._refusal: RefusedError | None = None
        self._accepted = False
        self._changed = asyncio.Event()

    # -- the engine's side ----------------------------------------------------------------------

    def accept(self) -> None:
        """The scheduler took the request in."""
        self._accepted = True
        self._changed.set()

    def put(self, token: Token) -> None:
        """The next token has been computed."""
        self._tokens.append(token)
        self._changed.set()

    def refuse(self, reason: str, *, final: bool = False) -> None:
        """No token will follow those that are there."""
        self._refusal = RefusedError(reason, final=final)
        self._changed.set()

    # -- the reader's side ----------------------------------------------------------------------

    async def accepted(self) -> None:
        """Return once the request is taken in. Raises RefusedError if it is not."""
        while not self._accepted:
            if self._refusal is not None:
                raise self._refusal
            await self._change()

    async def some(self) -> list[Token]:
        """All tokens that came since the last call, at least one. Raises RefusedError.

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
