"""Query parameters of a plan; its body is a fleet file."""

from penstock.fleet.document_run import RunSection
from penstock.fleet.fields import Positive, Section, again, described


class PlanQuery(Section):
    """Settings of one plan beside its fleet file."""

    seed: int | None = again(RunSection, "seed", left_out="the file's")
    what_if: list[str] = described(
        "KEY=VALUE: plan again with this setting and print the differences, for example "
        "traffic[0].rate_per_s=20; repeatable, all settings apply together.",
        ["traffic[0].rate_per_s=20"], default=[])
    time_limit_s: Positive | None = described(
        "Stop a plan after this time, seconds, counted from its begin; an Inferno MILP then "
        "returns its best plan. A server's own limit is the most and the default of its callers.",
        60)
