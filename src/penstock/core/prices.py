"""Prices of one accelerator for one hour: by basis and date, and as the cost of owning it."""

from dataclasses import dataclass
from datetime import date, timedelta

YOURS = "yours"
"""Basis of a price that the user states without another basis."""
OWNERSHIP = "ownership"
"""Basis of a cost of ownership."""
OLD_AFTER = timedelta(days=180)
_HOURS_PER_YEAR = 8760


@dataclass(frozen=True, slots=True)
class HourlyPrice:
    """Price of one accelerator for one hour.

    ``basis`` names the price list, such as ``AWS on-demand us-east-1``: prices of one basis can be
    compared. ``date`` is a day or a month in ISO 8601, empty where unknown.
    """

    per_hour: float
    basis: str = YOURS
    date: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Terms on which one accelerator is owned.

    ``purchase`` is its price with its share of server and network; ``years`` its life; ``use`` the
    share of hours in which it is there to serve. ``pue`` is the power of the whole site divided by
    that of its computers (power usage effectiveness, ISO/IEC 30134-2).
    """

    purchase: float
    years: float = 4.0
    use: float = 1.0
    power_price_per_kwh: float | None = None
    pue: float = 1.0

    def energy_per_hour(self, power_w: float) -> float:
        """Return the cost of one hour's energy at a power, 0 without a price of energy."""
        return power_w / 1000.0 * self.pue * (self.power_price_per_kwh or 0.0)

    def per_hour(self, power_w: float) -> float:
        """Return the cost of one hour: straight-line depreciation of the purchase, and energy.

        These are the server and energy terms of the cost model in Barroso, Hölzle and Ranganathan,
        "The Datacenter as a Computer", 3rd edition (2018), chapter 6. Interest, building and staff
        are left out; who wants them adds them to ``purchase``.
        """
        return (self.purchase / (self.years * _HOURS_PER_YEAR * self.use)
                + self.energy_per_hour(power_w))


def is_old(day: str, today: date) -> bool:
    """Whether a price of that date is more than 180 days old; a month counts from its first day.

    A date that is unknown is not old.
    """
    try:
        return today - date.fromisoformat(day if len(day) > 7 else f"{day}-01") > OLD_AFTER
    except ValueError:
        return False


def price_fields(price: HourlyPrice) -> dict[str, float | str]:
    """Return a price as the fields of a fleet file; the user's own has no basis there."""
    found: dict[str, float | str] = {"price_per_hour": price.per_hour}
    if price.basis != YOURS:
        found["price_basis"] = price.basis
    return found | {"price_date": price.date} if price.date else found


def price_on(basis: str, prices: tuple[HourlyPrice, ...]) -> HourlyPrice | None:
    """Return the user's own price, else the price on a basis, else the first; None without any."""
    for wanted in (YOURS, basis):
        for price in prices:
            if price.basis == wanted:
                return price
    return prices[0] if prices else None
