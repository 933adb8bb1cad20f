"""What to build, and whether that was built already."""

import json
from dataclasses import dataclass
from pathlib import Path

from builder import inputs, paths
from builder.account import ledger
from builder.errors import LayerSizeError
from builder.stage import policy

KEPT = "kept"
"""The name of the folder of kept results, in a work folder."""


@dataclass
class BuildOptions:
    """What to build.

    Attributes:
        requirements: pip requirement files.
        output: The folder that becomes `/opt`; its `python/` is replaced.
        work: The folder for what a later build can use again.
        results_of: Work folders of other builds. What they keep is used as well, and not changed.
        profiles: The folder of recorded profiles.
        zip: The zip file to write, if any.
        report: The JSON report to write, if any.
        treemap: The HTML picture to write, if any.
        verify: Compare the result with the staged tree.
        eager_imports: Let every module of torch run at import, as in stock torch.
        record: Record the shipped workload again, also where a profile fits.
        budget_bytes: What `output` may have, unzipped.

    Raises:
        LayerSizeError: The budget is more than Lambda allows, or is no size.
    """

    requirements: list[Path]
    output: Path
    work: Path
    results_of: tuple[Path, ...] = ()
    profiles: Path = paths.PROFILES
    zip: Path | None = None
    report: Path | None = None
    treemap: Path | None = None
    verify: bool = True
    record: bool = False
    eager_imports: bool = False
    budget_bytes: int = policy.BUDGET_BYTES

    def __post_init__(self) -> None:
        if not 0 < self.budget_bytes <= policy.LIMIT_BYTES:
            raise LayerSizeError(
                f"a layer cannot have a budget of {self.budget_bytes:,} bytes: Lambda allows {policy.LIMIT_BYTES:,} for the "
                "function and all of its layers together, unzipped",
                f"choose a budget between 1 and {policy.LIMIT_BYTES} (default: {policy.BUDGET_BYTES})",
            )


def is_current(options: BuildOptions) -> bool:
    """Whether the last build had these very inputs, and what it left is all still there, unchanged."""
    wanted = [path for path in (options.zip, options.treemap) if path is not None]
    if (
        options.record
        or options.eager_imports
        or options.report is None
        or not options.report.is_file()
        or not all(path.is_file() for path in wanted)
    ):
        return False
    try:
        built = json.loads(options.report.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(
        built.get("inputs") == inputs.digest()
        and (not options.verify or any(step["name"] == "verify" for step in built["steps"]))
        and built.get("budget_bytes") == options.budget_bytes
        and (options.zip is None or built.get("zip_bytes") == options.zip.stat().st_size)
        and built.get("tree_sha256") == ledger.tree_sha256(options.output)
    )
