"""All checks of the doctor on one or more wheels."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from builder.doctor import checks, wheels
from builder.doctor.findings import Finding
from builder.errors import RequirementsError
from builder.python.deferred.sources import SourceTree


def examine(
    paths: Iterable[Path],
    requirements: list[Path],
    profiles: Path,
    built: dict[str, Any] | None,
    budget_bytes: int,
    progress: Callable[[str], None] = lambda _text: None,
) -> list[Finding]:
    """Hold every rule against these wheels.

    Args:
        paths: The wheel of torch, and the wheels of other packages of the layer, if they are new as well.
        requirements: The layer's requirement files.
        profiles: The folder of recorded profiles.
        built: The ledger of the last build, or None.
        budget_bytes: What the layer may have.
        progress: Called with a line of text as each part starts.

    Raises:
        RequirementsError: One is no wheel, or none is torch's.
    """
    examined = [wheels.examine(path) for path in paths]
    torch = next((wheel for wheel in examined if wheel.name == "torch"), None)
    if torch is None:
        raise RequirementsError("none of these is a wheel of torch", "name the wheel of torch first")
    numpy = next((wheel for wheel in examined if wheel.name == "numpy"), None)
    found = [*checks.version(torch), *checks.requirements(torch, requirements), *checks.left_out(examined)]
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        tree = Path(folder)
        progress("unpack what the layer would have")
        for wheel in examined:
            wheel.unpack(tree)
        progress("hold the rules about modules against the sources")
        found += checks.modules(SourceTree(tree))
        found += checks.numpy_modules(tree if numpy else None)
        found += checks.sources(tree, [name for wheel in examined for name in wheel.sizes])
        progress("read the libraries")
        found += checks.libraries(tree, checks.machine_of(torch))
        pinned = numpy.version if numpy else checks.pinned_version("numpy", requirements)
        found += checks.profile(torch, pinned, profiles)
        progress("add up what the layer will have")
        found += checks.size(tree, checks.machine_of(torch), built, budget_bytes)
    return found
