"""How well the names of hot functions tell which pages of another build of libtorch_python.so are hot.

    PYTHONPATH=layers/torch python -m benchmarks.layer.functions torch-2.13.0+cpu-cp311-...whl torch-2.13.0-cp313-...whl

Each wheel's version and Python must have a committed profile. A wheel of CUDA may stand for the CPU wheel that the tests make of
it: its functions have the same addresses. Printed is what the names of one build say of the other, beside what was recorded, and
what the library then has in a layer.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

from builder import paths
from builder.native import compile_pager, split
from builder.native.page_set import PAGE_BYTES
from builder.profile import functions
from builder.profile.profiles import Profile

LIBRARY = "torch/lib/libtorch_python.so"


def profile_of(wheel: Path) -> Profile:
    """The profile of the shipped workload for a wheel's version and Python on x86_64."""
    found = re.match(r"torch-([0-9.]+)[^-]*-cp(\d+)-", wheel.name)
    if found is None:
        raise SystemExit(f"{wheel.name} is no wheel of torch. Next: name one")
    file = paths.PROFILES / f"torch-{found[1]}+cpu-cpython-{found[2]}-x86_64-workload.json"
    if not file.is_file():
        raise SystemExit(f"there is no {file.name}. Next: name a wheel with a profile")
    return Profile.load(file)


def rows(wheels: list[Path]) -> Iterator[str]:
    """A Markdown table: of each pair of wheels, what the first one's names say of the second."""
    yield "| names of | pages of | recorded | hot by name | of these | MB beside them | whole, MB | recorded, MB | by name, MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as scratch:
        libraries = {}
        for number, wheel in enumerate(wheels):
            with zipfile.ZipFile(wheel) as archive:
                libraries[wheel] = Path(archive.extract(LIBRARY, Path(scratch, str(number))))
        for one, other in permutations(wheels, 2):
            keys = functions.hot_functions(libraries[one], profile_of(one).pages.of(LIBRARY))
            named = functions.pages_of(libraries[other], keys)
            code = {page for function in functions.functions_of(libraries[other]) for page in function.pages}
            recorded = profile_of(other).pages.of(LIBRARY) & code
            share = len(named & recorded) / len(recorded)
            names = [re.sub(r"torch-|-manylinux.*", "", each.name) for each in (one, other)]
            more = len(named - recorded) * PAGE_BYTES / 1e6
            whole, best = in_the_layer(libraries[other], profile_of(other).pages.of(LIBRARY))
            _, by_name = in_the_layer(libraries[other], named)
            sizes = " | ".join(f"{size / 1e6:.1f}" for size in (whole, best, by_name))
            yield f"| {' | '.join(names)} | {len(recorded)} | {len(named)} | {share:.1%} | {more:.1f} | {sizes} |"


def in_the_layer(library: Path, hot: frozenset[int]) -> tuple[int, int]:
    """The bytes of a stripped library, and those that it has in a layer where these pages are hot."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, LIBRARY)
        target.parent.mkdir(parents=True)
        subprocess.run(["strip", "-o", str(target), str(library)], check=True)
        folder = Path(scratch, "torch_layer")
        folder.mkdir()
        (folder / compile_pager.COMPANION_NAME).write_bytes(
            b"\x7fELF"
        )  # only the sizes of the library's parts count here
        parts = split.thin({LIBRARY: split.LibraryPlan(hot=hot)}, Path(scratch), folder / "libraries.cold")
        return parts.libraries[0].original, parts.libraries[0].thin + parts.side_file


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layer.functions", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("wheels", type=Path, nargs="+")
    sys.stdout.writelines(f"{line}\n" for line in rows(parser.parse_args().wheels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
