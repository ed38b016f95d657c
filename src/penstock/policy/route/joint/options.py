"""Worth of an answer in money: the only knobs of joint routing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JointOptions:
    """All amounts are in the currency of the prices.

    ``answer_value`` is what a perfect answer in time is worth to a class of weight 1; an answer of
    quality q is worth q times that, a late one ``late_share`` of it. ``second_value`` is what a
    second of waiting costs, whoever waits. A replica is eligible when the chance that it keeps all
    of a request's targets is at least ``min_chance``, and when it meets what the client asked for.
    Where none is, the demands named in ``relax`` (``chance``, ``quality``) are given up in that
    order; a request that is left without a replica is refused. Expected quality counts less its
    uncertainty times ``caution``. ``affinity`` counts saved prompt tokens as what they save.
    """

    answer_value: float = 0.01
    second_value: float = 2e-5
    late_share: float = 0.0
    min_chance: float = 0.5
    relax: tuple[str, ...] = ("chance",)
    caution: float = 0.0
    affinity: bool = True
