"""Answers of the queue commands as flat documents, in every mode."""

from typing import TYPE_CHECKING, Any

from penstock.cli.queue_input import QueueInput

if TYPE_CHECKING:
    from penstock.perf.queueing.mode import QueueMode

LARGEST_BATCH = 256  # the largest that ``optimize`` tries where no --max-batch is given
# A key of the modes' documents -> its name in the output of these commands.
_NAMES = {"rate_tokens_per_s": "rate_tps_per_s"}


def answer(command: str, mode: str, given: QueueInput) -> dict[str, Any]:
    """The document that a mode answers to ``solve``, ``size`` or ``optimize``.

    ``means`` stand among the other keys. Raises InputError for values that the mode refuses.
    """
    from penstock.registry.sources import QUEUE_MODES

    model: QueueMode = QUEUE_MODES.load(mode)
    if command == "solve":
        found = model.solve(given.problem(), given.need("RPS"))
    elif command == "size":
        found = model.size(given.problem())
    else:
        found = model.optimize(given.with_default("maxBatchSize", LARGEST_BATCH).problem())
    means = found.pop("means", None) or {}
    return {"mode": mode, **{_NAMES.get(key, key): value for key, value in found.items()}, **means}
