"""Computes medians, ranges and ratios of the starts, and writes the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, Self

from benchmarks.coldstart.candidates import Candidate
from benchmarks.coldstart.goals import GOALS, Goal
from benchmarks.coldstart.starts import Start

LIMIT_BYTES = 262_144_000  # for function and layers together ("Lambda quotas")
MEASURES = ("wall_s", "cpu_s", "read_bytes", "peak_rss_bytes")


@dataclass(frozen=True)
class Setting:
    """The conditions of a series of starts."""

    memory_mb: int
    dropped: bool

    @property
    def title(self) -> str:
        """The setting as people read it."""
        return f"{self.memory_mb:,} MB, page cache {'dropped' if self.dropped else 'warm'}"

    @property
    def name(self) -> str:
        """The setting as a key of the JSON file."""
        return f"{self.memory_mb}-{'dropped' if self.dropped else 'warm'}"

    @classmethod
    def named(cls, name: str) -> Self:
        """The setting of a key of the JSON file."""
        memory, _, cache = name.partition("-")
        return cls(int(memory), cache == "dropped")


Series = Mapping[str, Sequence[Start]]  # by the candidate's name


def summary(candidate: Candidate, series: Mapping[Setting, Series]) -> dict[str, Any]:
    """A candidate's figures: for each setting, and the main figures.

    The main figures of time and memory are from the first warm setting. The bytes read are from the first setting with
    the page cache dropped.
    """
    by = {setting.name: _figures(starts[candidate.name]) for setting, starts in series.items()}
    warm = next(each for each in by if each.endswith("warm"))
    cold = next((each for each in by if each.endswith("dropped")), None)
    figures = {measure: by[warm][measure] for measure in MEASURES}
    figures["read_bytes"] = by[cold]["read_bytes"] if cold else None
    return {"title": candidate.title, **figures, "unzipped_bytes": candidate.unzipped_bytes, "settings": by}


def _figures(starts: Sequence[Start]) -> dict[str, Any]:
    values = {measure: [float(getattr(start, measure)) for start in starts] for measure in MEASURES}
    figures: dict[str, Any] = {measure: median(each) for measure, each in values.items()}
    # Half of the starts lie between these two.
    figures["middle_half"] = {
        measure: [*quantiles(each, n=4, method="inclusive")[::2]] if len(each) > 1 else each * 2
        for measure, each in values.items()
    }
    figures["starts"] = len(starts)
    # The phases are those of one real start, so that they add up: the start whose time is the median.
    figures["phases"] = sorted(starts, key=lambda start: start.wall_s)[len(starts) // 2].phases
    return figures


def ratios(candidates: Mapping[str, Mapping[str, Any]], goals: Sequence[Goal] = GOALS) -> list[dict[str, Any]]:
    """The goals that this run measured, with the results."""
    found = []
    for goal in goals:
        ours, other = candidates["ours"][goal.measure], candidates.get(goal.other, {}).get(goal.measure)
        if ours is not None and other:
            reached = None if goal.reach is None else ours / other <= goal.reach
            found.append({**asdict(goal), "ratio": round(ours / other, 3), "reached": reached})
    return found


def table(candidates: Mapping[str, Mapping[str, Any]], setting: Setting) -> str:
    """The figures of one setting, as Markdown."""
    lines = [
        f"| {setting.title} | first answer, s | CPU, s | read, MB | peak memory, MB | unzipped, MB |",
        "|---|---|---|---|---|---|",
    ]
    for each in candidates.values():
        figures = each["settings"][setting.name]
        cells = [
            each["title"],
            _spread(figures, "wall_s"),
            _spread(figures, "cpu_s"),
            f"{figures['read_bytes'] / 1e6:.0f}",
            f"{figures['peak_rss_bytes'] / 1e6:.0f}",
            f"{each['unzipped_bytes'] / 1e6:.1f}{' (too large)' if each['unzipped_bytes'] > LIMIT_BYTES else ''}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(figures: Mapping[str, Any], measure: str) -> str:
    low, high = figures["middle_half"][measure]
    return f"{figures[measure]:.2f} ({low:.2f}-{high:.2f})"


def goals_table(found: Sequence[Mapping[str, Any]], subject: str = "the sample function") -> str:
    """The ratios, as Markdown."""
    lines = [f"| first answer of {subject}, from process start | measured | aim |", "|---|---|---|"]
    lines += [f"| {each['title']} | {each['ratio']:.2f} | {_aim(each)} |" for each in found]
    return "\n".join(lines)


def _aim(goal: Mapping[str, Any]) -> str:
    if goal["reach"] is None:
        return ""
    return f"{goal['reach']} or less" + ("" if goal["reached"] else f", {goal['ratio'] - goal['reach']:.2f} short")
