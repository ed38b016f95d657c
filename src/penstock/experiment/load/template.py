"""How a server is asked: which endpoint, which fields, and what it turned out to accept."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from penstock.core.errors import InputError
from penstock.engines.client.answer import INVALID, UNREACHABLE, Answer
from penstock.engines.client.client import CHAT, COMPLETIONS, EngineClient, streamed
from penstock.experiment.load.prompts import WORDS, Form, Scale

Api = Literal["completions", "chat"]
CLASS_HEADER = "X-Penstock-Class"
SESSION_HEADER = "X-Penstock-Session"
_PROBE_WORDS = (64, 192)


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """How every request of a run is put.

    ``model`` replaces the workload's own names. ``exact`` asks for answers that go on until
    ``max_tokens`` (vLLM's ``ignore_eos`` and ``min_tokens``, which others ignore or refuse).
    ``class_to_engine`` also tells the class by ``vllm_xargs``, for engines without a gateway.
    ``extra`` are further fields of every body.
    """

    api: Api = "completions"
    model: str | None = None
    form: Form = "text"
    stream: bool = True
    exact: bool = True
    limit_field: str = "max_tokens"
    class_to_engine: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The endpoint's path."""
        return CHAT if self.api == "chat" else COMPLETIONS

    def body(self, prompt: "str | list[int] | list[dict[str, str]]", max_tokens: int,
             model: str = "", service_class: str | None = None) -> dict[str, Any]:
        """The body of one request; a chat's prompt may be its messages. Without any model the
        choice is the server's."""
        body: dict[str, Any] = {}
        if self.model or model:
            body["model"] = self.model or model
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}] if isinstance(
                prompt, str) else prompt
        else:
            body["prompt"] = prompt
        body[self.limit_field] = max_tokens
        if self.exact:
            body |= {"ignore_eos": True, "min_tokens": max_tokens}
        if self.class_to_engine and service_class is not None:
            body["vllm_xargs"] = {"service_class": service_class}
        body |= self.extra
        return streamed(body) if self.stream else body


@dataclass(frozen=True, slots=True)
class Probed:
    """Findings of a few short requests before a run.

    ``notes`` say in a sentence each what will not be as asked for.
    """

    manner: RequestTemplate
    scale: Scale
    notes: tuple[str, ...] = ()


async def probe(client: EngineClient, manner: RequestTemplate, model: str = "",
                headers: Mapping[str, str] | None = None) -> Probed:
    """Find out which of the manner's fields the server takes and how it counts words.

    Raises InputError when it cannot be reached or takes none of them.
    """
    notes: list[str] = []
    refusals: dict[str, None] = {}
    for tried in _manners(manner):
        answer = await _ask(client, tried, model, _PROBE_WORDS[0], headers)
        if answer.outcome == UNREACHABLE:
            raise InputError(f"{client.base_url}: cannot be reached ({answer.reason})")
        if answer.outcome != INVALID:
            break
        refusals[answer.reason] = None
    else:
        raise InputError(f"{client.base_url}{manner.path}: does not accept requests: "
                         + "; ".join(refusals))
    if manner.exact and not tried.exact:
        notes.append("answers end where the model ends them: the server does not take ignore_eos")
    if not answer.finished:
        notes.append(f"a first short request did not finish: {answer.reason}")
        return Probed(tried, Scale(), tuple(notes))
    if manner.stream and not answer.streamed:
        notes.append("answers come in one piece: TTFT equals e2e, and tokens have no gaps")
    scale = Scale()
    if tried.form == "text":
        scale = _scale(answer, await _ask(client, tried, model, _PROBE_WORDS[1], headers))
    if answer.prompt_tokens is None:
        notes.append("the server counts no tokens: prompts are as planned, outputs one per event")
    return Probed(tried, scale, tuple(notes))


def _manners(manner: RequestTemplate) -> list[RequestTemplate]:
    """The manner, then without what some servers refuse."""
    plain = replace(manner, exact=False)
    found = [manner, *([plain] if manner.exact else [])]
    if manner.api == "chat" and manner.limit_field == "max_tokens":
        # OpenAI's models that reason know the limit by this name only.
        found.append(replace(plain, limit_field="max_completion_tokens"))
    return found


async def _ask(client: EngineClient, manner: RequestTemplate, model: str, num_words: int,
               headers: Mapping[str, str] | None) -> Answer:
    prompt: str | list[int] = " ".join(WORDS[i % len(WORDS)] for i in range(num_words))
    if manner.form == "ids":
        prompt = [100 + i for i in range(num_words)]
    return await client.ask(manner.body(prompt, 1, model), manner.path, headers)


def _scale(short: Answer, long: Answer) -> Scale:
    """The line through two counts; one token per word where there are none."""
    if short.prompt_tokens is None or long.prompt_tokens is None:
        return Scale()
    per_word = (long.prompt_tokens - short.prompt_tokens) / (_PROBE_WORDS[1] - _PROBE_WORDS[0])
    if not 0.05 <= per_word <= 20.0:
        return Scale()  # a server that counts something else, or caches what it counts
    return Scale(per_word, short.prompt_tokens - per_word * _PROBE_WORDS[0])
