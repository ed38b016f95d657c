"""Most accelerators of all groups together.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/budget.py, extended from two groups to
any number.
"""

from collections.abc import Sequence
from math import floor


def within_budget(counts: Sequence[int], widths: Sequence[int], least: Sequence[int],
                  max_gpus: int) -> list[int]:
    """Return the counts, shrunk in proportion where their accelerators are too many.

    Each group but the last gets its share, rounded down; the last gets what is left. No group gets
    less than its least, also where the budget is smaller than that.
    """
    total = sum(count * width for count, width in zip(counts, widths, strict=True))
    if total <= max_gpus:
        return list(counts)
    found: list[int] = []
    left = max_gpus
    for number, (count, width) in enumerate(zip(counts, widths, strict=True)):
        after = sum(one * wide for one, wide in zip(least[number + 1:], widths[number + 1:],
                                                    strict=True))
        share = count if number == len(counts) - 1 else floor(count * max_gpus / total)
        found.append(max(least[number], min(share, (left - after) // width)))
        left -= found[-1] * width
    return found
