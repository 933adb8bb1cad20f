"""A small tree of packages as pip leaves one, and its bundled form with a real pager beside it."""

import platform
import shutil
from pathlib import Path

from builder.native.compile_pager import COMPANION_NAME
from builder.native.side_file import SideFileWriter
from builder.python import bundle
from builder.python.tiers import RecordedModules
from paging.kit import compiled_pager

FILES = {
    "lake/__init__.py": '"""The lake."""\nfrom lake.fish import carp\n\n\ndef depth():\n    return 7\n',
    "lake/fish.py": 'def carp():\n    return "carp"\n',
    "lake/deep/__init__.py": "",
    "lake/deep/eel.py": 'class Eel:\n    def move(self):\n        raise RuntimeError("slippery")\n',
    "lake/deep/data.txt": "weed\n",
    "lake/shore/stone.py": "WEIGHT = 3\n",  # no __init__: a namespace package
    "lake/__main__.py": 'print("ran", __name__)\n',
    "lake/later.py": "match = 1 if (  # not Python\n",
    "lake/listed/__init__.py": "",
    "lake/listed/one.py": "ONE = 1\n",
    "hill/__init__.py": "import lake.deep\nHEIGHT = 800\n",
    "hill/path.py": "def up():\n    return 1\n",
    "single.py": "ALONE = True\n",
    "stranger/__init__.py": "import os\nNAMES = sorted(os.listdir(os.path.dirname(__file__)))\n",
    "stranger/part.py": "",
    "lake-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lake\nVersion: 1.0\n",
    "lake-1.0.dist-info/RECORD": (
        "lake/__init__.py,sha256=abc,1\nlake/deep/data.txt,sha256=abc,5\nlake/include/lake.h,,\n../../bin/lake,,\n"
        "lake-1.0.dist-info/METADATA,,\nlake-1.0.dist-info/RECORD,,\n"
    ),
}
PACKED = frozenset({"lake", "hill"})
RECORDED = RecordedModules(("lake", "lake.fish"), frozenset({"lake.deep", "lake.deep.eel"}), frozenset())


def make_tree(root: Path) -> Path:
    """Write FILES below `root`."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def make_bundle(
    staged: Path, output: Path, recorded: RecordedModules = RECORDED, packed: frozenset[str] = PACKED
) -> Path:
    """Bundle the tree, and put the pager there, which has the archive's decoder."""
    bundle.bundle(staged, output, recorded, packed=packed)
    folder = output / "torch_layer"
    for path in compiled_pager().iterdir():
        if path.name != COMPANION_NAME:
            shutil.copy(path, folder / path.name)
    machine = {"x86_64": 62, "aarch64": 183}[platform.machine()]  # e_machine
    with SideFileWriter(folder / "libraries.cold", machine):
        pass  # no library is split
    return output
