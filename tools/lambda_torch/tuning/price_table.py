"""The dated table of AWS's prices beside this module (prices.toml)."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRICES = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class PriceRow:
    """What one kind of use costs.

    Attributes:
        name: by which the code knows it.
        tiers: pairs of the units in a month up to which a price holds, and the price in US dollars of `per` units.
        per: how many units that price is for.
        unit: in words.
        free: units that an account has free in each month, for all of its stacks together.
        source, date: the public document that the price was read in, and when.
    """

    name: str
    tiers: tuple[tuple[float, float], ...]
    per: int
    unit: str
    free: float
    source: str
    date: str

    @property
    def first_usd(self) -> float:
        """The price of one unit in the first tier."""
        return self.tiers[0][1] / self.per

    def cost(self, units: float, free_tier: bool = False) -> float:
        """US dollars for so many units in a month."""
        paid = max(0.0, units - self.free) if free_tier else units
        total, below = 0.0, 0.0
        for up_to, usd in self.tiers:
            total += (min(paid, up_to) - below) * usd / self.per
            if paid <= up_to:
                break
            below = up_to
        return total


class PriceTable:
    """The rows of the table by their names.

    Attributes:
        region: that the prices are of.
        rows: name to row.
    """

    def __init__(self, region: str, rows: dict[str, PriceRow]) -> None:
        self.region = region
        self.rows = rows

    @classmethod
    def read(cls, path: Path = PRICES) -> "PriceTable":
        """The table in a file."""
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(table["region"], {each["name"]: _row(each) for each in table["price"]})

    def __getitem__(self, name: str) -> PriceRow:
        return self.rows[name]

    @property
    def dates(self) -> tuple[str, str]:
        """The days of the oldest row and of the newest."""
        dates = sorted(row.date for row in self.rows.values())
        return dates[0], dates[-1]


def _row(each: dict[str, Any]) -> PriceRow:
    tiers = tuple((float(up_to), float(usd)) for up_to, usd in each.get("tiers", [[math.inf, each.get("usd")]]))
    return PriceRow(
        each["name"],
        tiers,
        each.get("per", 1),
        each["unit"],
        float(each.get("free", 0)),
        each["source"],
        str(each["date"]),
    )
