"""What the project wants to reach: ratios of the layer's figures to those of other ways."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A ratio: our figure divided by another candidate's.

    Attributes:
        title: what is compared, for people.
        other: the other candidate.
        measure: the figure.
        reach: the ratio that the project wants to reach, or less. None: the ratio is only reported.
    """

    title: str
    other: str
    measure: str
    reach: float | None = None


GOALS = (
    Goal("against stock with valid bytecode, CPU seconds", "stock", "cpu_s", 0.3),
    Goal("against stock as SAM ships it, CPU seconds", "stock-as-sam-ships-it", "cpu_s", 0.22),
    Goal("against nested zip, CPU seconds", "nested-zip", "cpu_s", 0.35),
    Goal("against zstd into memfd, CPU seconds", "zstd-memfd", "cpu_s", 0.35),
    Goal("against ONNX Runtime, same network and answer, CPU seconds", "onnxruntime", "cpu_s", 1.0),
    Goal("peak memory against stock", "stock", "peak_rss_bytes", 0.5),
    Goal("bytes read against stock, page cache dropped", "stock", "read_bytes", 0.25),
)
