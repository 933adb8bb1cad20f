"""Zip files that look like layers of torch from outside: names, modes and metadata, without the code."""

import stat
import zipfile
from pathlib import Path

METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{license}\n"
TORCH_LICENSE = "License-Expression: Apache-2.0 AND BSD-3-Clause"


def write_layer(
    path: Path,
    *,
    content: bytes = b"torch",
    tag: str = "cpython-313-x86_64",
    packages: tuple[tuple[str, str, str], ...] = (
        ("torch", "2.13.0+cpu", TORCH_LICENSE),
        ("numpy", "2.4.6", "License-Expression: BSD-3-Clause AND MIT"),
        ("sympy", "1.14.0", "License: BSD"),
    ),
) -> Path:
    """Write such a zip file.

    Args:
        path: where to.
        content: of one file, so that different contents make different layers.
        tag: of the compiled modules; empty for none.
        packages: name, version, and the line of the licence.
    """
    files = {"python/torch/__init__.py": content, "python/torch/bin/run": b"#!/bin/sh\n"}
    if tag:
        files[f"python/torch/_C.{tag}-linux-gnu.so"] = b"\x7fELF"
    for name, version, license in packages:
        text = METADATA.format(name=name, version=version, license=license)
        files[f"python/{name}-{version}.dist-info/METADATA"] = text.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (stat.S_IFREG | (0o755 if name.endswith("run") else 0o644)) << 16
            archive.writestr(entry, data)
    return path
