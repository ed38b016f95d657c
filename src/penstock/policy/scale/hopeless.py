"""Requests without a replica whose objective cannot be met any more."""

from collections.abc import Callable
from math import inf
from typing import Final

from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import ScalerContext

HOPELESS: Final = "no replica was ready before the objective was out of reach"
"""Reason of the refusal of such a request."""


Patience = Callable[[str, ServiceClass, int], float]
"""Function that returns the seconds after its arrival for which the objective of a request is
within reach, by model, class and prompt tokens."""


def hopeless_after_s(slo: Slo, least_s: float) -> float:
    """Return the time after the arrival from which no replica that begins then can meet a
    request's objectives: its time to the first token or to the last less ``least_s``, the least
    time of an answer; infinite without such an objective. An answer may end with its first
    token."""
    due_s = min(inf if slo.ttft_s is None else slo.ttft_s,
                inf if slo.e2e_s is None else slo.e2e_s)
    return max(0.0, due_s - least_s)


class LeastTimes:
    """Believed least times of answers: that of the prompt, as the only work of a fresh replica, in
    a single step. No chunks and no work beside it would be faster."""

    def __init__(self, context: ScalerContext) -> None:
        self._groups = tuple(zip(context.groups, context.step_s, strict=True))

    def least_s(self, model: str, service_class: ServiceClass, prompt_tokens: int) -> float:
        """Return the least time of an answer at any group of a model that serves the class, of any
        model where it is empty; infinite where there is none."""
        alone = StepFeatures(prompt_tokens, prompt_tokens * prompt_tokens / 2, 0, 0)
        return min((step_s(alone) for group, step_s in self._groups
                    if model in ("", group.model) and (
                        group.service_classes is None
                        or service_class.name in group.service_classes)), default=inf)

    def patience_s(self, model: str, service_class: ServiceClass, prompt_tokens: int) -> float:
        """Return the time after its arrival from which a request is hopeless."""
        if service_class.slo.ttft_s is None and service_class.slo.e2e_s is None:
            return inf
        least_s = self.least_s(model, service_class, prompt_tokens)
        return inf if least_s == inf else hopeless_after_s(service_class.slo, least_s)
