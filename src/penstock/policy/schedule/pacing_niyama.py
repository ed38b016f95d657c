"""Niyama's due times (sarathi-serve branch niyama_asplos2026), for the compatibility mode."""

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.pacing import Decodes, PlainPacing, all_groups
from penstock.policy.schedule.sequence import Sequence


class NiyamaPacing(PlainPacing):
    """Every class has a pace; the clock of a decode starts at its deadline or its real first token,
    whichever is later, so that an early first token banks slack and a late one forgives it.

    With more than ``max_decodes`` decodes the artefact runs those with the most slack and leaves
    out the tightest; ``most_slack_first=False`` corrects that.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        super().__init__()
        self._batch_itl_s = options.batch_itl_s
        self._predicted_output_tokens = options.predicted_output_tokens
        self._max_decodes = options.max_decodes
        self._most_slack_first = options.most_slack_first
        self._benches: dict[int,
                            int] = {}  # group -> its bench, the group of members that do not decode

    def itl_s(self, slo: Slo) -> float | None:
        return self._batch_itl_s if slo.itl_s is None else slo.itl_s

    def prefill_deadline_s(self, request: Request) -> float:
        slo = request.service_class.slo
        if slo.ttft_s is not None or slo.e2e_s is None:
            return super().prefill_deadline_s(request)
        decode_s = self._predicted_output_tokens * self._batch_itl_s
        return request.arrival_s + slo.e2e_s - decode_s

    def next_due_s(self, sequence: Sequence, group: DecodeGroup) -> float:
        assert group.itl_s is not None
        start_s = max(sequence.first_token_s, sequence.deadline_s)
        outputs = group.generated(sequence)
        return start_s + group.itl_s * (outputs + 1)

    def groups_to_run(self, decodes: Decodes, now_s: float, joined: list[tuple[int, int]],
                      left: list[int]) -> tuple[int, ...]:
        benches = self._benches
        if self._max_decodes:
            total = sum(len(group.members) for group in decodes.groups)
            if total > self._max_decodes or (benches and any(
                    decodes.groups[bench].members for bench in benches.values())):
                self._split_decodes(decodes, now_s, joined, left)
        if not benches:
            return all_groups(decodes.groups)
        benched = set(benches.values())
        return tuple([i for i in all_groups(decodes.groups) if i not in benched])

    def _split_decodes(self, decodes: Decodes, now_s: float, joined: list[tuple[int, int]],
                       left: list[int]) -> None:
        """Keep ``max_decodes`` decodes in running groups and move the others to benches."""
        home_of_bench = {bench: home for home, bench in self._benches.items()}
        ranked: list[tuple[float, int, Sequence]] = []
        for group in decodes.groups:
            for sequence in group.members.values():
                slack_s = self.next_due_s(sequence, group) - now_s
                ranked.append((-slack_s if self._most_slack_first else slack_s, sequence.serial,
                               sequence))
        ranked.sort(key=_rank)
        for place, (_, _, sequence) in enumerate(ranked):
            home = home_of_bench.get(sequence.group, sequence.group)
            group_index = home if place < self._max_decodes else self._bench(decodes, home)
            if group_index != sequence.group:
                decodes.move(sequence, group_index, joined, left)

    def _bench(self, decodes: Decodes, home: int) -> int:
        if home not in self._benches:
            self._benches[home] = len(decodes.groups)
            decodes.groups.append(decodes.groups[home].empty())
        return self._benches[home]

    def slack_s(self, groups: list[DecodeGroup], running: tuple[int, ...], now_s: float) -> float:
        tightest_s = float("inf")
        for index in running:
            due_s = groups[index].next_due_s()
            if due_s is not None and due_s < tightest_s:
                tightest_s = due_s
        return tightest_s - now_s


def _rank(entry: tuple[float, int, Sequence]) -> tuple[float, int]:
    return entry[0], entry[1]
