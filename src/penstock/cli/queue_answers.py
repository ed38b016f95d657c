"""Answers of the queue commands as flat documents, in every mode."""

from typing import Any

from penstock.cli.queue_input import QueueInput

LARGEST_BATCH = 256  # the largest that ``optimize`` tries where no --max-batch is given
# A key of the modes' documents -> its name in the output of these commands.
_NAMES = {"rate_tokens_per_s": "rate_tps_per_s"}


def answer(command: str, mode: str, given: QueueInput) -> dict[str, Any]:
    """The document that a mode answers to ``solve``, ``size`` or ``optimize``.

    ``means`` stand among the other keys. Raises InputError for values that the mode refuses.
    """
    from penstock.serving.planning.queue_body import mode_of, problem_of

    if command == "solve":
        rated = given.at_rate(mode)
        found = mode_of(rated).solve(problem_of(rated), rated.rate_per_s)
    elif command == "size":
        asked = given.under_targets(mode)
        found = mode_of(asked).size(problem_of(asked, asked.targets))
    else:
        asked = given.with_default("max_batch", LARGEST_BATCH).under_targets(mode)
        found = mode_of(asked).optimize(problem_of(asked, asked.targets))
    means = found.pop("means", None) or {}
    return {"mode": mode, **{_NAMES.get(key, key): value for key, value in found.items()}, **means}
