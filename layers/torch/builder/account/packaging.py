"""The layer as a zip file, as `sam package` uploads it. Dates and order are fixed, so the same tree gives the same file."""

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

# What SAM writes for every file:
# https://github.com/aws/aws-sam-cli/blob/develop/samcli/lib/package/artifact_exporter.py
_DATE = (1980, 1, 1, 0, 0, 0)


def write_zip(folder: Path, output: Path, progress: Callable[[float], None] = lambda _part: None) -> int:
    """Zip the content of `folder`, which becomes `/opt`, and return the size of the zip file in bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files) or 1
    done = 0
    scratch = output.with_name(output.name + ".part")
    try:
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for path in files:
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (stat.S_IFREG | (0o755 if path.stat().st_mode & 0o100 else 0o644)) << 16
                entry.create_system = 3  # Unix, so that the modes count
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=False) as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
                        done += len(chunk)
                        progress(done / total)
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)
    return output.stat().st_size
