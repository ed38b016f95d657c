"""Problems of objectives: targets that contradict each other."""

from collections.abc import Iterator, Sequence

from penstock.fleet.document import ServiceClassSection
from penstock.fleet.problems import Problem


def objective_problems(classes: Sequence[ServiceClassSection]) -> Iterator[Problem]:
    """Yield targets that are longer than the target of a time that contains theirs."""
    for i, section in enumerate(classes):
        for key, longer in (("ttft_s", "e2e_s"), ("e2e_s", "task_s"), ("ttft_s", "task_s")):
            one, other = getattr(section.slo, key), getattr(section.slo, longer)
            if one is not None and other is not None and one > other:
                yield Problem(("service_classes", i, "slo", key),
                              f"{one:g} s is later than {longer}, {other:g} s")
