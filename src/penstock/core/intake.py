"""How requests reach the scheduler of an engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intake:
    """Path of a request from its arrival at an engine to the scheduler.

    The engine's front end takes one request after another. It spends ``request_s`` on each, and
    ``token_s`` on each token of the prompt (HTTP, tokenizer, messages between processes). While
    steps run, the scheduler reads new requests after every ``every_steps`` steps of decodes, and
    after each step with prompts. ``plans_ahead`` says that the scheduler plans a step when the step
    before begins (asynchronous scheduling), so a new request waits for one step more.
    """

    request_s: float = 0.0
    token_s: float = 0.0
    every_steps: int = 1
    plans_ahead: bool = False

    @property
    def immediate(self) -> bool:
        """Whether the next step may have a request that has just arrived."""
        return self == DIRECT

    def delay_s(self, prompt_tokens: int) -> float:
        """Return the seconds that the front end spends on a request."""
        return self.request_s + self.token_s * prompt_tokens


DIRECT = Intake()
