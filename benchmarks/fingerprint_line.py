"""How straight the line is: cuts of one layer and two against deeper ones, on a real engine.

    penstock profile fingerprint config.json --engine vllm --depths 4,8 --out profile
    python benchmarks/fingerprint_line.py profile

For each depth beyond two of a profile on one accelerator, and each batch and lengths, the line
through the cuts of one layer and of two is compared with what was measured: prediction /
measurement - 1, of the whole batch, of the prefill, of a decode step and of memory. ``--anchors
2,4`` takes other depths for the line (more than two: least squares), to tell what small cuts owe to
caches. Two layers carry a line to N with N - 1 times the second's error and N - 2 times the
first's: ``noise`` is what the medians' own intervals allow, half their width carried along.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from penstock.perf.profiles.folder import Profile, read_profile
from penstock.perf.profiles.summary import PointSummary, summaries

QUANTITIES: dict[str, Callable[[PointSummary], float | None]] = {
    "batch": lambda point: point.seconds.median if point.seconds else None,
    "prefill": lambda point: point.first_token_s,
    "decode": lambda point: point.decode_step_s,
    "memory": lambda point: point.memory_bytes,
}
Shape = tuple[str, int, int, int]


def by_shape(profile: Profile) -> dict[Shape, dict[int, PointSummary]]:
    """Points on one accelerator by precision, batch, prompt and output, and then by depth."""
    found: dict[Shape, dict[int, PointSummary]] = defaultdict(dict)
    for point in summaries(profile.measurements):
        one = point.example
        if one.kind == "batch" and one.configuration.num_accelerators == 1 and point.seconds:
            shape = (one.configuration.precision, one.batch or 0, one.prompt_tokens or 0,
                     one.output_tokens or 0)
            found[shape][one.configuration.num_layers] = point
    return found


def line(depths: Sequence[int], values: Sequence[float], depth: int) -> float:
    slope, intercept = np.polyfit(depths, values, 1)
    return float(intercept + slope * depth)


def errors(profile: Profile, anchors: Sequence[int]) -> dict[str, Any]:
    """By depth and quantity: the errors of the line, and of the whole batch what noise allows."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for depths in by_shape(profile).values():
        if not set(anchors) <= set(depths):
            continue
        for depth in sorted(set(depths) - set(range(max(anchors) + 1))):
            for name, quantity in QUANTITIES.items():
                values = [quantity(depths[anchor]) for anchor in anchors]
                true = quantity(depths[depth])
                if true and None not in values:
                    predicted = line(anchors, [value or 0.0 for value in values], depth)
                    found[str(depth)][name].append(predicted / true - 1)
            found[str(depth)]["noise"].append(noise(depths, anchors, depth))
    return {depth: {name: of(values) for name, values in quantities.items()}
            for depth, quantities in found.items()}


def noise(depths: dict[int, PointSummary], anchors: Sequence[int], depth: int) -> float:
    """Root of the squared half widths of the anchors' intervals, each times what it weighs."""
    weights = [line(anchors, [float(one == anchor) for one in anchors], depth)
               for anchor in anchors]
    half = [0.5 * (found.high - found.low) for found in (depths[anchor].seconds
                                                         for anchor in anchors) if found]
    true = depths[depth].seconds
    assert true is not None
    return float(np.sqrt(sum((w * h) ** 2 for w, h in zip(weights, half, strict=True)))
                 / true.median)


def of(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)),
            "median_absolute": float(np.median(np.abs(values))),
            "worst": float(max(values, key=abs)), "num": len(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", type=Path, nargs="+")
    parser.add_argument("--anchors", default="1,2")
    arguments = parser.parse_args()
    anchors = [int(word) for word in arguments.anchors.split(",")]
    result = {}
    for path in arguments.profiles:
        profile = read_profile(path)
        subject = profile.document["subject"]
        result[str(path)] = {"engine": subject["engine"], "clock": subject["clock"],
                             "load_average": [one["at_start"]["load_average"][0]
                                              for one in profile.document["sessions"]],
                             "errors": errors(profile, anchors)}
    show({"anchors": anchors, "profiles": result})


if __name__ == "__main__":
    main()
