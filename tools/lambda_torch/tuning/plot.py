"""Draws latency and cost over memory as an SVG file, for a browser in light or dark mode."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from lambda_torch.tuning.cost import Prices, Row

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 70, 60, 50
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-size: 15px; font-weight: 600 }
.axis { stroke: #999 } .grid { stroke: #ddd } .time { stroke: #0b62c4; fill: none } .cost { stroke: #b3500a; fill: none
} .time-dot, .time-text { fill: #0b62c4 } .cost-dot, .cost-text { fill: #b3500a } .back { fill: #fff } .chosen { stroke:
#777 } @media (prefers-color-scheme: dark) {
  text { fill: #ddd } .back { fill: #16181c } .grid { stroke: #333 } .axis, .chosen { stroke: #888 }
  .time { stroke: #6db3ff } .cost { stroke: #ffa564 }
  .time-dot, .time-text { fill: #6db3ff } .cost-dot, .cost-text { fill: #ffa564 }
}
"""


def svg(rows: Sequence[Row], chosen: Row, prices: Prices) -> str:
    """The picture: median latency on the left axis, dollars for a million warm requests on the right axis, both from 0."""
    rows = sorted(rows, key=lambda each: each.memory_mb)
    inner = WIDTH - LEFT - RIGHT
    columns = [LEFT + inner * (index + 0.5) / len(rows) for index in range(len(rows))]
    bottom = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Latency and cost">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="24">Latency and cost at each memory size</text>',
        f'<text class="time-text" x="{LEFT}" y="44">median, ms (left)</text>',
        f'<text class="cost-text" x="{LEFT + 130}" y="44">US$ for a million warm requests (right), {escape(prices.date)}</text>',
        f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>',
    ]
    for kind, values, edge, anchor in (
        ("time", [each.p50_ms for each in rows], LEFT - 8, "end"),
        ("cost", [each.million_usd for each in rows], WIDTH - RIGHT + 8, "start"),
    ):
        top = max(values) * 1.1 or 1.0
        heights = [bottom - (bottom - TOP) * value / top for value in values]
        for tick in range(5):
            y = bottom - (bottom - TOP) * tick / 4
            if kind == "time" and tick:
                parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="{kind}-text" x="{edge}" y="{y + 4:.1f}" text-anchor="{anchor}">{top * tick / 4:.3g}</text>'
            )
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(columns, heights, strict=True))
        parts.append(f'<polyline class="{kind}" stroke-width="2" points="{points}"/>')
        parts += [
            f'<circle class="{kind}-dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
            for x, y in zip(columns, heights, strict=True)
        ]
    for x, each in zip(columns, rows, strict=True):
        mark = " (recommended)" if each is chosen else ""
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{each.memory_mb} MB</text>')
        if mark:
            parts.append(
                f'<line class="chosen" stroke-dasharray="4 4" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            )
            parts.append(f'<text x="{x:.1f}" y="{bottom + 38}" text-anchor="middle">recommended</text>')
    return "\n".join([*parts, "</svg>", ""])
