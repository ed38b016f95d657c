"""Tokens to charge: the engine's count where the count can be true, else the gateway's own."""

from typing import NamedTuple

from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.ask_limits import MOST_BYTES_PER_TOKEN, SLACK_TOKENS, with_slack

NO_NUMBER = "its count of tokens is no whole number"
PROMPT_ABOVE = "it counted more prompt tokens than the request can have"
OUTPUT_ABOVE = "it counted more output tokens than the request allows"
BELOW = "it counted fewer output tokens than it sent"
FAR_ABOVE = "it counted more output tokens than its text has bytes"
CUT = "it went on after the most tokens that the request allows"

_HIDDEN_TOKENS = 64  # of one answer that no text shows: ends of turns, marks of tool calls


class Relayed(NamedTuple):
    """The part of an answer that passed the gateway.

    ``num_tokens`` are the events of a stream, or an estimate from the text of an answer in one
    piece. ``num_bytes`` is at least the text's size. ``is_whole`` says whether the engine has told
    that the answer is complete, ``is_cut`` whether the gateway stopped the stream at its limit.
    """

    num_tokens: int = 0
    num_bytes: int = 0
    is_stream: bool = False
    is_whole: bool = False
    is_cut: bool = False


class Usage(NamedTuple):
    """Tokens to charge. ``dispute`` says why the engine's count was not taken, None where it
    was."""

    prompt_tokens: int
    output_tokens: int
    dispute: str | None


def judge(ask: Ask, prompt_tokens: object, output_tokens: object, relayed: Relayed) -> Usage:
    """Return the tokens to charge, given the engine's counts (None: it told none). They are never
    above the most that was held for the request."""
    prompt, prompt_dispute = _prompt(ask, prompt_tokens)
    output, output_dispute = _output(ask, output_tokens, relayed)
    return Usage(min(prompt, ask.most_prompt_tokens), min(output, ask.most_output_tokens),
                 CUT if relayed.is_cut else output_dispute or prompt_dispute)


def _prompt(ask: Ask, claim: object) -> tuple[int, str | None]:
    count = whole_number(claim)
    if count is None:
        return ask.prompt_tokens, None if claim is None else NO_NUMBER
    if count > ask.most_prompt_tokens:
        return ask.prompt_tokens, PROMPT_ABOVE
    return count, None


def _output(ask: Ask, claim: object, relayed: Relayed) -> tuple[int, str | None]:
    seen, count = relayed.num_tokens, whole_number(claim)
    if relayed.is_cut or count is None:
        return seen, None if claim is None else NO_NUMBER
    if count > ask.most_output_tokens:
        return seen, OUTPUT_ABOVE
    if relayed.is_whole:
        if _is_below(count, relayed):
            return seen, BELOW
        most = relayed.num_bytes + _HIDDEN_TOKENS * max(1, ask.num_answers)
        if count > most and not ask.hides_tokens:
            return seen, FAR_ABOVE
    return count, None


def _is_below(count: int, relayed: Relayed) -> bool:
    """Whether more was sent than so many tokens can hold."""
    if count == 0:
        return relayed.num_tokens > 0
    if relayed.is_stream:
        return relayed.num_tokens > with_slack(count)
    return relayed.num_bytes > MOST_BYTES_PER_TOKEN * (count + SLACK_TOKENS)


def whole_number(claim: object) -> int | None:
    """Return an engine's count of tokens, None where it is no count."""
    if isinstance(claim, int) and not isinstance(claim, bool) and claim >= 0:
        return claim
    return None
