"""When tokens are due: deadlines of prompts, pace of decodes, and which decodes a step runs."""

from typing import Final, Protocol

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.core.step import StepPlan
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.sequence import Sequence

NO_DEADLINE_S: Final = 1e9
UNBOUNDED: Final = 1 << 60


class Decodes(Protocol):
    """View of a scheduler's decodes for pacing."""

    groups: list[DecodeGroup]

    @property
    def prompts_wait(self) -> bool:
        """Whether any prompt is not fully computed."""

    def move(self, sequence: Sequence, group: int, joined: list[tuple[int, int]],
             left: list[int]) -> None:
        """Let a decoding sequence decode in another group."""


class Pacing(Protocol):
    """Turns objectives into due times, and due times into the time a step may take."""

    prefill_share: float

    def itl_s(self, slo: Slo) -> float | None:
        """Seconds per token that decodes of a class are held to, None for no pace."""

    def prefill_deadline_s(self, request: Request) -> float:
        """When the prompt should be computed."""

    def next_due_s(self, sequence: Sequence, group: DecodeGroup) -> float:
        """When a member's next token is due."""

    def groups_to_run(self, decodes: Decodes, now_s: float, joined: list[tuple[int, int]],
                      left: list[int]) -> tuple[int, ...]:
        """The groups whose members decode in the step planned at ``now_s``."""

    def steady_turns(self, groups: list[DecodeGroup], now_s: float) -> int:
        """For how many turns without prompts ``groups_to_run`` answers as it just did."""

    def slack_s(self, groups: list[DecodeGroup], running: tuple[int, ...], now_s: float) -> float:
        """Return how long the step may take without making these groups late."""

    def admitted(self, sequence: Sequence) -> None:
        """A request was added."""

    def finished(self, sequence: Sequence) -> None:
        """A request has ended."""

    def committed(self, plan: StepPlan, num_steps: int, planned_s: float, now_s: float) -> None:
        """A step that could start at ``planned_s`` ended at ``now_s``."""

    def believe(self, step_time: StepTimeModel) -> None:
        """Replace the step-time model."""


def all_groups(groups: list[DecodeGroup]) -> tuple[int, ...]:
    """Every group that has members."""
    return tuple([index for index, group in enumerate(groups) if group.members])


class PlainPacing(Pacing):
    """No pace: every decode runs in every step, and prompts are due when the class says so."""

    def __init__(self) -> None:
        self.prefill_share = 1.0

    def itl_s(self, slo: Slo) -> float | None:
        return None

    def prefill_deadline_s(self, request: Request) -> float:
        slo = request.service_class.slo
        budget_s = NO_DEADLINE_S
        if slo.ttft_s is not None:
            budget_s = slo.ttft_s
        if slo.e2e_s is not None:
            budget_s = min(budget_s, slo.e2e_s)
        return request.arrival_s + budget_s

    def next_due_s(self, sequence: Sequence, group: DecodeGroup) -> float:
        return sequence.deadline_s

    def groups_to_run(self, decodes: Decodes, now_s: float,
                      joined: list[tuple[int, int]],
                      left: list[int]) -> tuple[int, ...]:
        return all_groups(decodes.groups)

    def steady_turns(self, groups: list[DecodeGroup], now_s: float) -> int:
        return UNBOUNDED

    def slack_s(self, groups: list[DecodeGroup], running: tuple[int, ...],
                now_s: float) -> float:
        return float("inf")

    def admitted(self, sequence: Sequence) -> None:
        """Do nothing."""

    def finished(self, sequence: Sequence) -> None:
        """Do nothing."""

    def committed(self, plan: StepPlan, num_steps: int, planned_s: float, now_s: float) -> None:
        """Do nothing."""

    def believe(self, step_time: StepTimeModel) -> None:
        """Do nothing, since step times are not used."""
