"""Whether a profile of loads and loads in service say the same, and why not."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.units import GB
from penstock.perf.loading.fitting import LoadFit
from penstock.perf.loading.records import LoadRecord, missing_bytes, working_set_bytes

# Profiles and runs that are closer than this agree: a quarter either way.
_AGREE = 1.25


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Mean seconds of a load by the profile and in service, over the same models, each model
    weighted by its loads in service.

    ``read_s`` is what reading from disk takes of the latter by the fitted model, ``read_bytes`` how
    much that is per load; ``profile_read_s`` what the profile's loads had of it.
    """

    kind: str
    profile_s: float
    service_s: float
    read_s: float
    profile_read_s: float
    read_bytes: float
    working_set_bytes: int
    page_cache_bytes: int | None

    @property
    def factor(self) -> float:
        """How many times longer a load takes in service."""
        return self.service_s / self.profile_s

    @property
    def agrees(self) -> bool:
        """Whether the two are close enough to take one for the other."""
        return 1.0 / _AGREE <= self.factor <= _AGREE

    @property
    def cause(self) -> str:
        """The likely cause, in words."""
        if self.agrees:
            return "the profile agrees with loads in service"
        gap_s = self.service_s - self.profile_s
        if gap_s < 0.0:
            return ("loads in service are faster than the profile: it read more from disk, or had "
                    "a busier machine")
        cache, more_s = self.page_cache_bytes, self.read_s - self.profile_read_s
        causes = []
        if cache is not None and self.working_set_bytes > cache and more_s > 0.0:
            causes.append(
                f"the models in rotation ({self.working_set_bytes / GB:.0f} GB) do not fit into "
                f"the page cache (about {cache / GB:.0f} GB), so that a load in service reads "
                f"{self.read_bytes / GB:.0f} GB from disk: {more_s:.1f} of the {gap_s:.1f} s "
                "between them")
        elif more_s > 0.1 * gap_s:
            causes.append(f"loads in service read {self.read_bytes / GB:.0f} GB from disk: "
                          f"{more_s:.1f} of the {gap_s:.1f} s between them")
        rest_s = gap_s - max(0.0, more_s)
        if rest_s > 0.2 * gap_s:
            causes.append(f"{rest_s:.1f} s are there with everything cached: the server's own work "
                          "beside the load")
        return "; ".join(causes)


def disagreements(fit: LoadFit, service: Sequence[LoadRecord], profile: Sequence[LoadRecord]
                  ) -> list[Disagreement]:
    """The profile beside the loads that were fitted, plain and confidential ones apart. First
    loads of runs are left out; models that only one of the two has, too."""
    return [found for kind, confidential in (("plain", False), ("confidential", True))
            if (found := _one(fit, service, profile, kind, confidential)) is not None]


def _one(fit: LoadFit, service: Sequence[LoadRecord], profile: Sequence[LoadRecord], kind: str,
         confidential: bool) -> Disagreement | None:
    cache = fit.page_cache_bytes
    lacks = missing_bytes(service, cache if cache is not None else working_set_bytes(service))
    mine = [(one, missing) for one, missing in zip(service, lacks, strict=True)
            if one.confidential is confidential and not one.first]
    profiled: dict[str, list[LoadRecord]] = {}
    for one in profile:
        if one.confidential is confidential and not one.first:
            profiled.setdefault(one.model, []).append(one)
    mine = [(one, missing) for one, missing in mine if one.model in profiled]
    if not mine:
        return None
    extra = fit.model.confidential
    per_byte = 1.0 / fit.model.disk_bytes_per_s + (
        extra.disk_s_per_gb / GB if extra is not None and confidential else 0.0)
    means = {model: (sum(one.seconds for one in found) / len(found),
                     sum(_missing(one) for one in found) / len(found))
             for model, found in profiled.items()}
    num = len(mine)
    read_bytes = sum(missing for _, missing in mine) / num
    return Disagreement(
        kind, sum(means[one.model][0] for one, _ in mine) / num,
        sum(one.seconds for one, _ in mine) / num, read_bytes * per_byte,
        per_byte * sum(means[one.model][1] for one, _ in mine) / num, read_bytes,
        working_set_bytes(one for one, _ in mine), cache)


def _missing(one: LoadRecord) -> int:
    return 0 if one.cached_bytes is None else max(0, one.size_bytes - one.cached_bytes)
