"""The run time's own modules: which of them know each other, and how large they are."""

import ast
from pathlib import Path

import pytest

from builder import paths

# Module -> what it may import of the run time. The order has no circle: each line names only modules of the lines above.
ARROWS: dict[str, set[str]] = {
    "plan": set(),
    "start": set(),
    "archive": {""},
    "pager": {""},
    "resources": set(),
    "completion": {"start"},
    "tripwires": {"completion"},
    "placeholders": {"completion"},
    "registrations": {"completion"},
    "imports": {"completion", "placeholders", "plan", "start", "tripwires"},
    "filled_objects": set(),
    "later_modules": {"completion", "placeholders"},
    "waiting_calls": {"imports"},
    # Only a layer with added packages imports it, and these three.
    "library_imports": {"filled_objects", "imports", "later_modules", "placeholders", "waiting_calls"},
    "finder": {
        *(
            "",
            "archive",
            "completion",
            "imports",
            "library_imports",
            "pager",
            "placeholders",
            "plan",
            "registrations",
            "resources",
            "start",
        ),
    },
    # Only functions of packed packages import it.
    "answers": {"finder"},
    # Only `torch_layer.receipt()` imports it.
    "receipts": {"pager", "start"},
}
# What torch imports itself, or what Python has imported before any program runs.
STARTED_WITH = {
    *("_imp", "ctypes", "gc", "importlib", "marshal", "os", "sys", "threading", "time", "types", "typing", "warnings"),
    *("zlib", "collections"),
}
LINES_OF_A_MODULE, LINES_OF_A_CLASS = 350, 200


def imports(path: Path, *, everywhere: bool) -> set[str]:
    """The modules that a module imports, in its body or everywhere in it."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everywhere else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.module == "torch_layer":  # of its modules, or of the names in the package itself
                names = {alias.name for alias in node.names}
                there = {name for name in names if (paths.RUN_TIME / f"{name}.py").exists()}
                found |= {f"torch_layer.{name}" for name in there} | ({"torch_layer"} if names - there else set())
            else:
                found.add(str(node.module))
    return found


def modules() -> list[Path]:
    """All but the package itself, which imports nothing at a start."""
    return [path for path in sorted(paths.RUN_TIME.glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_modules_know_what_they_may(path: Path) -> None:
    """A module imports only those that the table gives it: placeholders and tripwires know the completion alone."""
    own = {name.partition(".")[2] for name in imports(path, everywhere=True) if name.split(".")[0] == "torch_layer"}
    assert own <= ARROWS[path.stem]


def test_there_is_no_circle() -> None:
    """Each module knows only modules that stand before it in the table."""
    known = {""}
    for name, others in ARROWS.items():
        assert others <= known
        known.add(name)
    assert known == {"", *(path.stem for path in modules())}


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path.stem not in ("answers", "library_imports", "resources")],
    ids=lambda path: path.stem,
)
def test_a_start_imports_nothing_more(path: Path) -> None:
    """What runs before torch at every cold start imports only what torch imports."""
    others = {name.split(".")[0] for name in imports(path, everywhere=False)} - {"torch_layer"}
    assert others <= STARTED_WITH


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_modules_and_classes_can_be_held_in_the_head(path: Path) -> None:
    """No module has more than 350 lines, and no class more than 200."""
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_OF_A_MODULE
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    assert [each.name for each in classes if (each.end_lineno or 0) - each.lineno + 1 > LINES_OF_A_CLASS] == []
