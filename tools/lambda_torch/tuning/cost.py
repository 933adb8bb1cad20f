"""What requests cost at a memory size, from the dated table beside this module, and which size to choose."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lambda_torch.tuning.price_table import PriceTable

# A faster size may cost up to this factor times the cheapest size.
TOLERANCE = 1.1


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars, with their source and date.

    Attributes:
        gb_second: the price of 1 GB of memory for 1 second, by architecture.
        request: the price of one request.
    """

    source: str
    date: str
    region: str
    request: float
    gb_second: dict[str, float]

    @classmethod
    def read(cls) -> "Prices":
        """Read the table."""
        table = PriceTable.read()
        compute = {architecture: table[f"lambda-{architecture}"] for architecture in ("x86_64", "arm64")}
        row = compute["x86_64"]
        by_architecture = {name: each.first_usd for name, each in compute.items()}
        return cls(row.source, row.date, table.region, table["lambda-request"].first_usd, by_architecture)

    def million(self, memory_mb: int, milliseconds: float, architecture: str) -> float:
        """The price of a million requests, each with this duration in milliseconds."""
        seconds = math.ceil(milliseconds) / 1000  # billed by the whole millisecond, "AWS Lambda pricing"
        return 1e6 * (self.request + seconds * memory_mb / 1024 * self.gb_second[architecture])


@dataclass(frozen=True)
class Row:
    """The figures of one memory size.

    Attributes:
        cold_ms: the time of the first request, including the start-up.
        p50_ms: the median time of later requests.
        p99_ms: the time that 99 of 100 later requests do not exceed.
        mean_ms: the mean time that AWS bills for a later request.
        peak_mb: the most memory in use. None if it was not measured.
        million_usd: the price of a million warm requests.
        cold_million_usd: the price of a million requests if all are cold.
    """

    memory_mb: int
    cold_ms: float
    p50_ms: float
    p99_ms: float
    mean_ms: float
    peak_mb: int | None
    million_usd: float
    cold_million_usd: float

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        return asdict(self)


def row(
    memory_mb: int, cold_ms: float, warm_ms: Sequence[float], peak_mb: int | None, prices: Prices, architecture: str
) -> Row:
    """The figures of one memory size from its times in milliseconds."""
    ordered = sorted(warm_ms)
    # AWS rounds each request up to a whole millisecond, so this is the mean of what it bills.
    mean = statistics.fmean(math.ceil(each) for each in ordered)
    return Row(
        memory_mb,
        round(cold_ms, 1),
        round(statistics.median(ordered), 2),
        round(ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)) - 1)], 2),
        round(mean, 2),
        peak_mb,
        round(1e6 * prices.request + mean / 1000 * memory_mb / 1024 * prices.gb_second[architecture] * 1e6, 2),
        round(prices.million(memory_mb, cold_ms, architecture), 2),
    )


def recommend(rows: Sequence[Row], target_ms: float | None) -> tuple[Row, str]:
    """The recommended memory size, and the reason.

    Args:
        rows: at least one.
        target_ms: the time that 99 of 100 warm requests must not exceed. None for no target.
    """
    if target_ms is not None:
        fitting = [each for each in rows if each.p99_ms <= target_ms]
        if not fitting:
            best = min(rows, key=lambda each: each.p99_ms)
            return best, f"no size keeps p99 within {target_ms:g} ms, and this one is the closest"
        best = min(fitting, key=lambda each: (each.million_usd, each.memory_mb))
        return best, f"the cheapest size that keeps p99 within {target_ms:g} ms"
    cheapest = min(each.million_usd for each in rows)
    near = [each for each in rows if each.million_usd <= TOLERANCE * cheapest]
    best = min(near, key=lambda each: (each.p50_ms, each.million_usd))
    percent = round(100 * (TOLERANCE - 1))
    return best, f"the fastest size that costs at most {percent} % more than the cheapest"
