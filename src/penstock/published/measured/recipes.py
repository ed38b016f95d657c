"""Published recipes of runs whose prompts and answers were computed apart.

``recipes.csv`` states for each recipe of InferenceX (SemiAnalysisAI/InferenceX,
.github/configs/nvidia-master.yaml, December 2025 to August 2026; NVIDIA/srt-slurm, recipes; both
Apache-2.0) the system, the lengths, the releases, the numbers of clients, the drafted tokens, and
for each side ``workers x kind ranks``, the sequences of a worker at once, and the tokens of a
worker's step. The kind is ``tp`` or, with data-parallel attention, ``dp``; with an ``e`` the
experts are whole.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

_RELEASE = re.compile(r"\d+(\.\d+)+(\.post\d+|-rc\d+|-dev\.\d+)?")
_SIDE = re.compile(r"(\d+)x([td])(e?)p(\d+)")
_SAME_SIZE = {"deepseek-v3": "deepseek-r1"}


class System(NamedTuple):
    """System and requests that a recipe is for. The lengths are those that the load tool was asked
    for."""

    accelerator: str
    model: str
    precision: str
    engine: str
    isl: int
    osl: int


class Side(NamedTuple):
    """Workers of one role, the degrees of each, and the limits of each: sequences at once and
    tokens of a step, None where nobody states them."""

    workers: int
    tensor: int
    data: int = 1
    expert: int = 1
    pipeline: int = 1
    seqs: int | None = None
    step_tokens: int | None = None

    @property
    def ranks(self) -> int:
        """Return the accelerators of one worker."""
        return self.tensor * self.data * self.pipeline


class Recipe(NamedTuple):
    """A published deployment with a prefill and a decode side."""

    releases: tuple[str, ...]
    clients: tuple[int, ...]
    drafts: int
    prefill: Side
    decode: Side

    @property
    def workers(self) -> tuple[int, int]:
        """Return the workers of both sides."""
        return self.prefill.workers, self.decode.workers

    @property
    def spread(self) -> tuple[int, Side, Side]:
        """Return the drafted tokens and both sides without their limits."""
        prefill, decode = (side._replace(seqs=None, step_tokens=None)
                           for side in (self.prefill, self.decode))
        return self.drafts, prefill, decode

    @property
    def num_accelerators(self) -> int:
        """Return the accelerators of the whole deployment."""
        return sum(side.workers * side.ranks for side in (self.prefill, self.decode))

    def has(self, release: str, clients: int) -> bool:
        """Whether the recipe was run with so many clients, and on a release where one is known."""
        found = _RELEASE.search(release)
        return clients in self.clients and (
            found is None or not self.releases or found[0] in self.releases)


def recipes(system: System) -> tuple[Recipe, ...]:
    """Return the recipes of a system, none for an unknown one."""
    model = _SAME_SIZE.get(system.model, system.model)
    return _all().get(system._replace(model=model), ())


@cache
def _all() -> Mapping[System, tuple[Recipe, ...]]:
    found: dict[System, list[Recipe]] = defaultdict(list)
    file = resources.files("penstock.published.measured").joinpath("recipes.csv")
    for line in csv.DictReader(file.read_text("utf-8").splitlines()):
        system = System(line["accelerator"], line["model"], line["precision"], line["engine"],
                        int(line["isl"]), int(line["osl"]))
        found[system].append(Recipe(
            tuple(line["releases"].split()), tuple(map(int, line["clients"].split())),
            int(line["drafts"]),
            _side(line["prefill"], line["prefill_seqs"], line["prefill_tokens"]),
            _side(line["decode"], line["decode_seqs"], "")))
    return {system: tuple(all_of) for system, all_of in found.items()}


def _side(text: str, seqs: str, step_tokens: str) -> Side:
    found = _SIDE.fullmatch(text)
    assert found is not None, text
    workers, ranks = int(found[1]), int(found[4])
    data = ranks if found[2] == "d" else 1
    return Side(workers, ranks // data, data, ranks if found[3] else 1, 1,
                int(seqs) if seqs else None, int(step_tokens) if step_tokens else None)
