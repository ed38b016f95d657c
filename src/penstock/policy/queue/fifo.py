"""One queue for all deployments, as MaverIQ has it (UT-SysML/MaverIQ, commit 067d7a1)."""

from collections import deque
from collections.abc import Sequence

from penstock.policy.queue.values import Shared, Start, Waiting, masks_of


class GlobalFifo:
    """Only the head may start, once all devices of its deployment are idle; until then all requests
    behind it wait, even if other devices are idle. One request per start, whatever ``max_batch``.
    Requests with ``ahead`` go to the head, the latest first.
    """

    def __init__(self, deployments: Sequence[Shared]) -> None:
        self._masks = masks_of(deployments)
        self._line: deque[Waiting] = deque()
        self._busy = 0

    @property
    def num_waiting(self) -> int:
        return len(self._line)

    def deploy(self, shared: Shared) -> int:
        self._masks += masks_of([shared])
        return len(self._masks) - 1

    def add(self, request: Waiting) -> None:
        if request.ahead:
            self._line.appendleft(request)
        else:
            self._line.append(request)

    def next(self, now_s: float) -> Start | None:
        if not self._line:
            return None
        head = self._line[0]
        for index, mask in enumerate(self._masks[head.deployment]):
            if not mask & self._busy:
                self._line.popleft()
                self._busy |= mask
                return Start(head.deployment, index, (head.request_id,))
        return None

    def ended(self, start: Start) -> None:
        self._busy &= ~self._masks[start.deployment][start.set_index]

    def cancel(self, request_id: int) -> bool:
        found = next((one for one in self._line if one.request_id == request_id), None)
        if found is not None:
            self._line.remove(found)
        return found is not None
