"""Draws the picture: a bar for each candidate, a colour for each phase. Plain SVG, for light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT = 960, 190, 70
BAR, GAP, TOP = 26, 14, 96
# Phases in the order of time, each with a colour. People with any kind of colour vision can tell these colours apart
# (Okabe and Ito, 2008).
COLOURS = {
    "Lambda's emulator": "#bbbbbb",
    "Python and the runtime client": "#56b4e9",
    "unpack": "#d55e00",
    "the function's imports": "#0072b2",
    "load torch's libraries": "#009e73",
    "import the rest of torch, and the model": "#f0e442",
    "wait for the release": "#000000",
    "build and warm up the model": "#cc79a7",
    "the request": "#e69f00",
}
OURS = "ours"


class Bar(NamedTuple):
    """One candidate: its name, its title, and the milliseconds of each phase."""

    name: str
    title: str
    phases: Mapping[str, float]

    @property
    def total(self) -> float:
        """All milliseconds together."""
        return sum(self.phases.values())


def draw(bars: Sequence[Bar], title: str, subtitle: str) -> str:
    """Return the SVG document."""
    longest = max(bar.total for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + len(bars) * (BAR + GAP) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="17" font-weight="600" fill="#111111">{escape(title)}</text>',
        f'<text x="16" y="45" font-size="12" fill="#555555">{escape(subtitle)}</text>',
        *_legend(),
        *_axis(longest, scale, height),
    ]
    for number, bar in enumerate(bars):
        lines += _bar(bar, TOP + number * (BAR + GAP), scale)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> list[str]:
    lines, x, y = [], 16, 64
    for phase, colour in COLOURS.items():
        width = 22 + round(len(phase) * 6.9)
        if x + width > WIDTH - 16:
            x, y = 16, y + 17
        lines.append(f'<rect x="{x}" y="{y - 10}" width="11" height="11" fill="{colour}"/>')
        lines.append(f'<text x="{x + 15}" y="{y}" font-size="11.5" fill="#333333">{escape(phase)}</text>')
        x += width
    return lines


def _axis(longest: float, scale: float, height: int) -> list[str]:
    step = next(each for each in (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if longest / each <= 10)
    lines = []
    for tick in range(0, int(longest) + 1, step):
        x = LEFT + tick * scale
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 30}" stroke="#e5e5e5"/>')
        lines.append(
            f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle" font-size="11" fill="#555555">{tick / 1000:g} s</text>'
        )
    return lines


def _bar(bar: Bar, y: int, scale: float) -> list[str]:
    weight = ' font-weight="700"' if bar.name == OURS else ""
    middle = y + BAR / 2 + 4.5
    lines = [f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end" fill="#111111"{weight}>{escape(bar.title)}</text>']
    x = float(LEFT)
    for phase, colour in COLOURS.items():
        width = bar.phases.get(phase, 0.0) * scale
        if width < 0.05:
            continue
        said = f"{bar.title}: {phase}, {bar.phases[phase]:.0f} ms"
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"><title>{escape(said)}</title></rect>'
        )
        x += width
    lines.append(f'<text x="{x + 8:.1f}" y="{middle}" fill="#111111"{weight}>{bar.total / 1000:.2f} s</text>')
    return lines
