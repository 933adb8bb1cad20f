"""The table by which the finder of the layer answers the import system: what each folder of the packed packages holds."""

from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES

MODULE, PACKAGE, NAMESPACE = range(3)  # torch_layer.finder has the same numbers


def import_table(
    paths: Iterable[str], modules: Iterable[str], packages: Iterable[str]
) -> dict[str, dict[str, int | str]]:
    """`torch_layer.finder.Table`: folder -> name -> MODULE, PACKAGE, NAMESPACE, or the file name of an extension module.

    Args:
        paths: All files of the tree, relative to it.
        modules: The modules of the packed packages among them.
        packages: The packed packages, by their top-level names.
    """
    table: dict[str, dict[str, int | str]] = {"": {}}
    for path in modules:
        folder, _, name = path.removesuffix(".py").rpartition("/")
        table.setdefault(folder, {})
        if name == "__init__":
            parent, _, tail = folder.rpartition("/")
            table.setdefault(parent, {})[tail] = PACKAGE
        else:
            table[folder].setdefault(name, MODULE)
    for folder in list(table):
        while folder:  # a folder on the way that has no __init__ is a namespace package
            parent, _, tail = folder.rpartition("/")
            table.setdefault(parent, {}).setdefault(tail, NAMESPACE)
            folder = parent
    for path in paths:
        folder, _, name = path.rpartition("/")
        suffix = next((suffix for suffix in EXTENSION_SUFFIXES if name.endswith(suffix)), None)
        # In the import system's order: a package, then an extension, then a module.
        if suffix and folder in table and folder.split("/")[0] in packages:
            tail = name.removesuffix(suffix)
            if table[folder].get(tail) != PACKAGE:
                table[folder][tail] = name
    return {folder: dict(sorted(names.items())) for folder, names in sorted(table.items())}
