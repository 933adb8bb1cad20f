"""Look every module of a list up and write a digest of its source, as tools that read sources would get it.

    python modules.py NAMES.json OUTPUT.json

Looking a module up imports the packages it lies in. A module that cannot be looked up has the exception instead of a digest.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
import warnings
from pathlib import Path


def describe(name: str) -> str:
    """`package` or `module`, and the digest of the source; `binary` for an extension module."""
    try:
        spec = importlib.util.find_spec(name)
    except BaseException as error:  # packages may raise anything, pytest's Skipped among it
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if spec is None or spec.loader is None:
        return "missing" if spec is None else "namespace"
    kind = "module" if spec.submodule_search_locations is None else "package"
    source = getattr(spec.loader, "get_source", lambda _name: None)(name)
    return (
        f"{kind} {hashlib.sha256(source.encode()).hexdigest()[:24]}" if source is not None else f"{kind} without source"
    )


def main(names: str, output: str) -> None:
    """Describe every name of the JSON list in the file `names`."""
    warnings.simplefilter("ignore")
    # A layer's cold packages show a stub until the first of its packages is imported.
    importlib.import_module("torch")
    found = {name: describe(name) for name in json.loads(Path(names).read_text())}
    Path(output).write_text(json.dumps(found, indent=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
