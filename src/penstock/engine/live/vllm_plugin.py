"""Old path of `penstock.engines.vllm.scheduler`; vLLM's ``--scheduler-cls`` may still name it."""

import sys

from penstock.engines.vllm.scheduler import PenstockAsyncScheduler, PenstockScheduler

__all__ = ["PenstockAsyncScheduler", "PenstockScheduler"]

sys.stderr.write("penstock: penstock.engine.live.vllm_plugin is now "
                 "penstock.engines.vllm.scheduler; the old path goes with the next release\n")
