"""Draws where a layer's bytes are: a squarified treemap (Bruls, Huizing, van Wijk 2000) as one HTML file."""

import html
from dataclasses import dataclass, field
from typing import NamedTuple

from builder.account.contents import KINDS

# One hue for each kind; compressed kinds are lighter than what they come from. Readable in both colour schemes.
COLOURS = {
    "native": "#b4552d", "cold-native": "#e3a27f", "bytecode": "#2f6690", "source": "#6d8f3a", "cold-python": "#8fb8d8",
    "metadata": "#8a7fa8", "data": "#8d8d8d",
}  # fmt: skip
_SMALLEST = 0.0004  # part of the picture; smaller boxes are drawn together as one


@dataclass
class TreeNode:
    """A box: a file, or a folder with what is in it."""

    name: str
    bytes: int
    kind: str
    children: dict[str, "TreeNode"] = field(default_factory=dict)

    def add(self, path: list[str], size: int, kind: str) -> None:
        """Add a file below this node."""
        self.bytes += size
        if path:
            self.children.setdefault(path[0], TreeNode(path[0], 0, kind)).add(path[1:], size, kind)

    def collapsed(self) -> "TreeNode":
        """The node. Folders with a single child are joined with it into one name."""
        node = self
        name = node.name
        while len(node.children) == 1:
            (node,) = node.children.values()
            name = f"{name}/{node.name}" if node.name != name else name
        return TreeNode(name, node.bytes, node.kind, node.children)


class Rectangle(NamedTuple):
    """A rectangle, in per cent of the picture's width and height."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: list[float], box: Rectangle, aspect: float) -> list[Rectangle]:
    """Rectangles with areas in proportion to `sizes` (descending, positive) that fill the box, as square as rows allow.

    Args:
        sizes: What the areas are in proportion to.
        box: What is filled, in per cent.
        aspect: Width of the picture over its height: what a square is, in per cent.
    """
    result: list[Rectangle] = []
    rest, at = box, 0
    while at < len(sizes):
        # By what is left, not by the whole: rounding errors do not add up, and the last row ends where the box does.
        scale = rest.width * rest.height / (sum(sizes[at:]) or 1)
        across = rest.width * aspect >= rest.height  # rows stand along the shorter side
        side = rest.height if across else rest.width
        count, worst = 0, float("inf")
        while at + count < len(sizes):
            row = [size * scale for size in sizes[at : at + count + 1]]
            depth = sum(row) / side if side else 0
            ratios = [_ratio(depth, area / depth if depth else 0, aspect if across else 1 / aspect) for area in row]
            if count and max(ratios) > worst:
                break
            count, worst = count + 1, max(ratios)
        row = [size * scale for size in sizes[at : at + count]]
        depth = sum(row) / side if side else 0
        offset = 0.0
        for area in row:
            length = area / depth if depth else 0
            result.append(
                Rectangle(rest.x, rest.y + offset, depth, length)
                if across
                else Rectangle(rest.x + offset, rest.y, length, depth)
            )
            offset += length
        rest = (
            Rectangle(rest.x + depth, rest.y, max(rest.width - depth, 0), rest.height)
            if across
            else Rectangle(rest.x, rest.y + depth, rest.width, max(rest.height - depth, 0))
        )
        at += count
    return result


def _ratio(depth: float, length: float, aspect: float) -> float:
    if not depth or not length:
        return float("inf")
    ratio = depth * aspect / length
    return max(ratio, 1 / ratio)


def draw(root: TreeNode, title: str) -> str:
    """The HTML page. A box shows its path and its bytes under the pointer. The page needs no script and no network."""
    boxes: list[str] = []
    _draw(root, Rectangle(0, 0, 100, 100), "", root.bytes or 1, 0, boxes)
    legend = "".join(
        f'<span><i style="background:{COLOURS[kind]}"></i>{html.escape(label)}</span>' for kind, label in KINDS.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n<p class=legend>{legend}</p>\n<main>\n"
        + "\n".join(boxes)
        + "\n</main></html>\n"
    )


_STYLE = (
    ":root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:1rem;height:calc(100vh - 2rem);display:flex;"
    "flex-direction:column}h1{font-size:1.1rem;margin:0 0 .4rem}.legend span{margin-right:1rem;white-space:nowrap}"
    ".legend{margin:0 0 .6rem}.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}"
    "main{position:relative;flex:1;min-height:420px}main div{position:absolute;box-sizing:border-box;overflow:hidden;"
    "border:1px solid #fff6;font-size:11px;line-height:1.25;color:#fff}main div.p{border:2px solid Canvas}"
    "main div b{position:absolute;left:3px;top:1px;text-shadow:0 0 3px #000,0 0 2px #000;pointer-events:none;white-space:nowrap}"
    "main div b.t{font-size:14px}main div:hover{filter:brightness(1.15)}"
)
_ASPECT = 1.7


def _draw(node: TreeNode, box: Rectangle, path: str, total: int, depth: int, boxes: list[str]) -> None:
    children = sorted(
        (child.collapsed() for child in node.children.values() if child.bytes), key=lambda c: (-c.bytes, c.name)
    )
    shown = [child for child in children if child.bytes >= total * _SMALLEST]
    small = children[len(shown) :]
    if small:
        rest = TreeNode(
            f"{len(small)} more", sum(child.bytes for child in small), max(small, key=lambda c: c.bytes).kind
        )
        shown.append(rest)
        shown.sort(key=lambda c: -c.bytes)
    for child, area in zip(shown, squarify([float(child.bytes) for child in shown], box, _ASPECT), strict=True):
        name = f"{path}/{child.name}".lstrip("/") if depth else child.name
        if child.children and depth < 8:
            _draw(child, area, name if depth else "", total, depth + 1, boxes)
        else:
            _put(child, area, name, total, boxes, label=depth > 0)
        if depth == 0:
            _frame(child, area, boxes)


def _put(node: TreeNode, box: Rectangle, path: str, total: int, boxes: list[str], *, label: bool) -> None:
    size = f"{node.bytes:,} bytes ({node.bytes / total:.1%})"
    text = f"<b>{html.escape(node.name.rsplit('/', 1)[-1])}</b>" if label and box.width > 6 and box.height > 4 else ""
    title = html.escape(f"{path}\n{size}")
    boxes.append(f'<div style="{_place(box)};background:{COLOURS[node.kind]}" title="{title}">{text}</div>')


def _frame(node: TreeNode, box: Rectangle, boxes: list[str]) -> None:
    """The name of a package over its boxes, if there is room for it."""
    if box.width > 4 and box.height > 5:
        label = f'<b class=t style="top:auto;bottom:2px">{html.escape(node.name)} {node.bytes / 1e6:.1f} MB</b>'
        boxes.append(f'<div class=p style="{_place(box)};background:none;pointer-events:none">{label}</div>')


def _place(box: Rectangle) -> str:
    return f"left:{box.x:.3f}%;top:{box.y:.3f}%;width:{box.width:.3f}%;height:{box.height:.3f}%"
