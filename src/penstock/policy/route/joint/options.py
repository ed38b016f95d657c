"""Value of an answer in money: the only settings of joint routing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JointOptions:
    """All amounts are in the currency of the prices.

    ``answer_value`` is the value of a perfect answer in time for a class of weight 1. An answer of
    quality q has q times that value, and a late one ``late_share`` of it. ``second_value`` is the
    cost of a second of waiting, for any request. A replica is eligible when it meets all of a
    request's targets with a probability of at least ``min_chance``, and the client's own
    requirements. Where none is eligible, the requirements named in ``relax`` (``chance``,
    ``quality``) are dropped in that order; a request that is still without a replica is rejected.
    Expected quality is reduced by its uncertainty times ``caution``. With ``affinity``, cached
    prompt tokens count as saved time.
    """

    answer_value: float = 0.01
    second_value: float = 2e-5
    late_share: float = 0.0
    min_chance: float = 0.5
    relax: tuple[str, ...] = ("chance",)
    caution: float = 0.0
    affinity: bool = True
