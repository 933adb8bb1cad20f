"""The ledger as text, for a terminal."""

from builder.account.contents import KINDS
from builder.account.ledger import LayerReport


def text(report: LayerReport, *, rows: int = 12) -> str:
    """Tables of steps, packages and libraries, and how many bytes are left. Each table has at most `rows` rows."""
    lines: list[str] = []
    if report.steps:
        lines += ["", f"{'after step':<28}{'MB':>9}{'saved':>9}{'seconds':>9}"]
        lines += [
            f"{step.name:<28}{step.bytes / 1e6:>9.1f}{step.saved_bytes / 1e6:>9.1f}{step.seconds:>9.0f}"
            for step in report.steps
            if step.saved_bytes or step is report.steps[0]
        ]
    lines += ["", f"{'package':<28}{'MB':>9}  of it"]
    lines += [
        f"{package.name:<28}{package.bytes / 1e6:>9.2f}  {_kinds(package.kinds)}" for package in report.packages[:rows]
    ]
    lines += _more(len(report.packages), rows)
    if report.libraries:
        lines += ["", f"{'library':<52}{'MB':>9}{'+ cold':>9}  largest sections"]
        lines += [
            f"{library.path.removeprefix('python/')[-51:]:<52}{library.bytes / 1e6:>9.2f}{library.cold_bytes / 1e6:>9.2f}  "
            + ", ".join(
                f"{section['name']} {section['hot'] / 1e6:.1f}"
                for section in sorted(library.sections, key=lambda section: -section["hot"])[:3]
            )
            for library in report.libraries[:rows]
        ]
        lines += _more(len(report.libraries), rows)
    lines += ["", total(report)]
    return "\n".join(lines)


def _kinds(kinds: dict[str, int]) -> str:
    order = sorted(kinds.items(), key=lambda item: -item[1])
    return ", ".join(f"{KINDS[kind]} {size / 1e6:.2f}" for kind, size in order if size >= 5000)


def _more(count: int, rows: int) -> list[str]:
    return [f"... and {count - rows} more"] if count > rows else []


def total(report: LayerReport) -> str:
    """Bytes, files, and how much of the limit is left."""
    lines = [f"{report.unzipped_bytes:,} bytes unzipped in {report.files:,} files"]
    if report.zip_bytes is not None:
        lines.append(f"{report.zip_bytes:,} bytes as a zip")
    room = report.headroom_bytes
    lines.append(
        f"{room:,} bytes of Lambda's {report.limit_bytes:,} are left for the function and its other layers"
        if room >= 0
        else f"{-room:,} bytes more than Lambda's {report.limit_bytes:,}: this cannot be deployed"
    )
    return "\n".join(lines)
