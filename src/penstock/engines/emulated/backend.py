"""The server's backend for an emulated engine: bytes are prompt tokens, and answers are made-up
words."""

from penstock.core.request import Request
from penstock.engines.emulated.answers import Answers
from penstock.engines.emulated.engine import EmulatedEngine
from penstock.engines.emulated.kv_events import KvPublisher
from penstock.engines.emulated.kv_loans import KvLoans
from penstock.engines.server.ask import Ask
from penstock.engines.server.server import Answer, Prompt
from penstock.engines.server.stream import RefusedError


class EmulatedBackend:
    """Backend of an emulated engine. ``hash_block_tokens`` is 0 where no prefixes are cached.
    ``publisher`` tells of those that are, None where nobody asks. ``loans`` are the KV caches that
    engines with roles lend each other, None where none does; ``name`` is the engine's name there.
    """

    def __init__(self, engine: EmulatedEngine, answers: Answers, hash_block_tokens: int = 0,
                 publisher: KvPublisher | None = None, loans: KvLoans | None = None,
                 name: str = "") -> None:
        self._publisher = publisher
        self._loans = loans
        self._name = name
        self._engine = engine
        self._answers = answers
        self._hash_block_tokens = hash_block_tokens

    def read(self, ask: Ask) -> Prompt:
        size = self._hash_block_tokens
        hashes = ask.prefix_hashes(size) if size else ()
        if self._publisher is not None:
            self._publisher.saw(ask, hashes, ask.adapter)
        return Prompt(ask.prompt_tokens, (), hashes, size if hashes else 0)

    async def begin(self, ask: Ask, prompt: Prompt, request: Request) -> Answer:
        answers = self._answers
        key = answers.key(ask.prompt)
        output_tokens = (request.max_tokens if ask.ignore_eos
                         else answers.output_tokens(key, request.max_tokens))
        told, more = ask.kv_transfer, {}
        if self._loans is not None and told.get("do_remote_decode"):
            request, output_tokens = request._replace(max_tokens=1, lends=True), 1
        elif self._loans is not None and told.get("do_remote_prefill"):
            if not self._loans.fetch(told):  # vLLM's kv_load_failure_policy: fail
                raise RefusedError("the KV cache of the prompt is not there any more")
            request = request._replace(remote_tokens=request.prompt_tokens - 1)
        tokens = await self._engine.submit(request, output_tokens)
        if request.lends and self._loans is not None:
            more = {"kv_transfer_params": self._loans.lend(self._engine, self._name,
                                                           request.request_id)}
        return Answer(tokens, lambda token: answers.text(key, token.number), more)

    def cancel(self, request_id: int) -> None:
        self._engine.cancel(request_id)
