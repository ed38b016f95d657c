"""Seconds of steps that compute no prompt, with the part that repeats computed once."""

from penstock.perf.step_time.protocol import StepTimeModel


class DecodeTimes:
    """Seconds of steps of decodes alone, by a model.

    Such steps differ in the number of decodes and in the context that they read. Where the model is
    affine in the context, a step of each number of decodes is computed once.
    """

    __slots__ = ("_affine", "_context_s", "_model", "_without_context_s")

    def __init__(self, model: StepTimeModel) -> None:
        slopes = model.slopes
        self._model = model
        self._affine = slopes is not None and slopes.exact
        self._context_s = slopes.context_s if slopes is not None else 0.0
        self._without_context_s: list[float] = []  # by the number of decodes

    def seconds(self, decode_seqs: int, context_tokens: int) -> float:
        """Return the seconds of a step of so many decodes, which read so many tokens in all."""
        if not self._affine:
            return self._model.seconds(0, 0.0, decode_seqs, context_tokens)
        known_s = self._without_context_s
        while len(known_s) <= decode_seqs:
            known_s.append(self._model.seconds(0, 0.0, len(known_s), 0))
        return known_s[decode_seqs] + self._context_s * context_tokens
