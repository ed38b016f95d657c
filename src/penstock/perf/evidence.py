"""Evidence behind a step-time model: source, measured error, range of measured inputs."""

from dataclasses import dataclass, field

from penstock.core.step import StepFeatures, StepTime

NO_LIMIT = StepFeatures(1 << 62, float("inf"), 1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Source of a model's numbers, relative errors (0.05 = 5 %) and the largest inputs measured.

    ``mean_error`` and ``p95_error`` are of |predicted / measured - 1|, held out where the source
    says so. Inputs above ``largest`` in any feature count as extrapolation, which doubles the
    interval. ``unmeasured`` names the parts of the replica without any measurement, such as
    ``accelerator``.
    """

    source: str
    mean_error: float
    p95_error: float
    largest: StepFeatures = field(default=NO_LIMIT)
    unmeasured: tuple[str, ...] = ()

    def covers(self, features: StepFeatures) -> bool:
        """Whether every feature lies within what was measured."""
        return all(value <= most for value, most in zip(features, self.largest, strict=True))

    def step_time(self, features: StepFeatures, total_s: float, parts: dict[str, float],
                  bound_s: float = 0.0, left: str = "") -> StepTime:
        """``total_s`` with its 95 % interval, whose low end is never under ``bound_s``.

        ``left`` says where the answer left its data, which counts as extrapolation, too.
        """
        inside = self.covers(features) and not left
        error = self.p95_error if inside else 2.0 * self.p95_error
        return StepTime(total_s=total_s, low_s=max(bound_s, total_s / (1.0 + error)),
                        high_s=total_s * (1.0 + error), parts=parts,
                        source=f"{self.source}; beyond the table: {left}" if left else self.source,
                        extrapolated=not inside, unmeasured=self.unmeasured)
