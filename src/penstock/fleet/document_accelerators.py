"""The section `accelerators` of the fleet file."""

from typing import Annotated

from pydantic import Field

from penstock.fleet.document_attestation import PoolEvidenceSection
from penstock.fleet.document_energy import PowerSection
from penstock.fleet.fields import (
    Count,
    IsoDate,
    Name,
    NotNegative,
    Positive,
    Section,
    Share,
    Words,
    described,
)

Pue = Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)]


class OwnershipSection(Section):
    """Terms on which one accelerator is owned, for its cost of ownership."""

    purchase: NotNegative = described(
        "Price of one accelerator with its share of server and network.", 30_000, default=...)
    years: Positive = described("Years over which the purchase is written off.", 5, default=4.0)
    use: Share = described("Share of hours in which it is there to serve.", 0.9, default=1.0)
    power_price_per_kwh: NotNegative | None = described(
        "Price of a kilowatt-hour; left out, energy costs nothing.", 0.12)
    pue: Pue = described("Power of the site divided by that of its computers.", 1.3, default=1.0)


class AcceleratorSection(Section):
    """Accelerators of one kind that may be used."""

    name: Name = described("Name in the catalog.", "a100-80gb", default=...)
    count: Count | None = described(
        "Number available; left out, unlimited.", 8)
    price_per_hour: NotNegative | None = described(
        "Price of one accelerator for one hour; left out, the catalog's.", 4.10)
    price_basis: Words | None = described(
        "Basis of that price; without a price, the basis of the catalog's to take. Left out, yours "
        "for a stated price, else the fleet's.", "Lambda on-demand")
    price_date: IsoDate | None = described("Day or month of the stated price.", "2026-01-31")
    ownership: OwnershipSection | None = described(
        "Terms on which they are owned; left out, no cost of ownership is shown.",
        {"purchase": 30_000, "years": 4, "power_price_per_kwh": 0.12, "pue": 1.3})
    power: PowerSection | None = described("Power of one; left out, the catalog's, if any.",
                                           {"idle_w": 100, "mid_w": 250})
    confidential: bool | None = described(
        "Whether they run in confidential-computing mode.", True)
    attestation: PoolEvidenceSection | None = described(
        "Their attestation for `penstock deployments` and `multiplexing`; left out, they serve "
        "no confidential requests.",
        {"evidence": "evidence.json", "nonce": "5b" * 32, "devices": ["GPU-7f31"]})
