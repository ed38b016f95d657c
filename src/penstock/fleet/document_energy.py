"""Sections of the fleet file on the power of accelerators and the carbon of their electricity."""

from typing import Annotated

from pydantic import Field

from penstock.fleet.fields import FilePath, NotNegative, Positive, Section, described

InnerShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class PowerSection(Section):
    """Power of one accelerator by the share of time in which it computes."""

    idle_w: NotNegative = described(
        "Power of an idle accelerator with a model in memory, watts.", 100, default=...)
    mid_w: NotNegative | None = described(
        "Power at `mid_utilization`, watts; left out, the power is linear.", 250)
    mid_utilization: InnerShare | None = described(
        "Utilization at which `mid_w` holds; left out, 0.6.", 0.6)
    full_w: Positive | None = described(
        "Power at full load, watts; left out, the catalog's.", 350)


class CarbonPointSection(Section):
    """Carbon intensity from a time on."""

    time_s: NotNegative = described("From when it holds, seconds.", 3600, default=...)
    gco2_per_kwh: NotNegative = described("Grams of CO2 per kilowatt-hour.", 120, default=...)


class CarbonSection(Section):
    """Carbon intensity of the electricity: one of a constant, a file, and points."""

    gco2_per_kwh: NotNegative | None = described(
        "Grams of CO2 per kilowatt-hour, at all times.", 300)
    file: FilePath | None = described(
        "CSV file with the columns time_s and gco2_per_kwh; times rise.", "carbon.csv")
    points: list[CarbonPointSection] | None = described(
        "Intensity from each time to the next; times rise.",
        [{"time_s": 0, "gco2_per_kwh": 350}, {"time_s": 43200, "gco2_per_kwh": 120}])
    repeat_s: Positive | None = described(
        "Time after which the series begins again, seconds; left out, its last value holds for "
        "good.", 86400)
