"""What Penstock's scheduler adds to a step inside vLLM, beside a stand-in for vLLM's own.

``python benchmarks/inside.py``: CPU time of ``schedule`` and ``update_from_output`` with so many
running decodes, with the stand-in's plain scheduler and with Penstock's on top of it; the
difference is Penstock's. The stand-in (``tests/support/fake_vllm.py``) needs no vLLM.
"""

import sys
import time
from typing import Any

from common import REPOSITORY, show

sys.path.insert(0, str(REPOSITORY / "tests"))
from support import fake_vllm

sys.modules.update(fake_vllm.modules())
from penstock.engines.vllm.scheduler import PenstockMixin  # noqa: E402 - after the stand-in

STEPS = 400
OPTIONS = {"service_classes": [{"name": "chat", "slo": {"ttft_s": 9, "itl_s": 5}}]}


class Large(fake_vllm.Scheduler):
    """With room for many."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.max_num_running_reqs = self.max_num_active_reqs = 1024
        self.max_num_scheduled_tokens = 4096


class LargePenstock(PenstockMixin, Large):
    """The same with Penstock's scheduler."""


def microseconds(kind: type, num_running: int) -> tuple[float, float]:
    """CPU time per step of (schedule, update_from_output)."""
    config = fake_vllm.configuration(OPTIONS)
    config.cache_config.num_gpu_blocks = 100_001
    scheduler = kind(config)
    for number in range(num_running):
        scheduler.add_request(fake_vllm.Request(f"r{number}", 20, 10_000,
                                                arrival_time=time.time()))
    spent = [0.0, 0.0]
    for step in range(STEPS + 50):
        begun = time.process_time()
        output = scheduler.schedule()
        planned = time.process_time()
        scheduler.update_from_output(output, None)
        ended = time.process_time()
        if step >= 50:
            spent[0] += planned - begun
            spent[1] += ended - planned
    assert len(scheduler.running) == num_running
    return spent[0] / STEPS * 1e6, spent[1] / STEPS * 1e6


def main() -> None:
    rows = {}
    for num_running in (16, 64, 256):
        plain, ours = microseconds(Large, num_running), microseconds(LargePenstock, num_running)
        rows[str(num_running)] = {"schedule_us": round(ours[0] - plain[0], 1),
                                  "update_us": round(ours[1] - plain[1], 1)}
    show({"added by Penstock, by running decodes": rows})


if __name__ == "__main__":
    main()
