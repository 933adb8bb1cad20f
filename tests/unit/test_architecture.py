"""Who may import whom: the table of docs/architecture.md, compared with the imports that the code really has."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from lambda_torch.project import ROOT
from serving import errors
from serving.errors import ServingError

AWS = {"boto3", "botocore", "aws_lambda_powertools", "awslambdaric"}
OURS = {"app", "serving", "model", "lambda_torch", "builder", "torch_layer"}

# room -> (its files, what it must not import)
FORBIDDEN = {
    "the model knows nothing of AWS, and of serving its types alone": ("src/model/**/*.py", AWS | (OURS - {"model"})),
    "serving knows nothing of names or networks": ("src/serving/**/*.py", {"torch", "numpy"} | (OURS - {"serving"})),
    "the door knows serving and model": ("src/app.py", {"torch"} | (OURS - {"serving", "model"})),
    "the builder stands alone": ("layers/torch/builder/**/*.py", AWS | (OURS - {"builder", "torch_layer"})),
    "the layer's run time stands alone": ("layers/torch/torch_layer/**/*.py", AWS | (OURS - {"torch_layer"})),
    "the client stands alone": ("clients/python/**/*.py", AWS | {"torch", "pydantic"} | OURS),
    "the tools know nothing of tests": ("tools/lambda_torch/**/*.py", {"tests", "integration", "unit", "pytest"}),
}

# Two modules of the process that tries a release with programs ask torch what it read, and have torch start its threads.
# Arrays and samples are NumPy's, which is imported when the first one is decoded.
# The client signs with botocore, where it is installed.
# And one file reads what the layer reports about itself, where there is a layer.
ALLOWED = {
    "src/serving/releases/programs/seen.py": {"torch"},
    "src/serving/releases/probe_process.py": {"torch"},
    "src/serving/telemetry/layer.py": {"torch_layer"},
    "src/serving/types/array.py": {"numpy"},
    "src/serving/types/audio.py": {"numpy"},
    "clients/python/lambda_torch_client/auth.py": {"botocore"},
}

# The packages and modules of src/serving, and why each imports no more of the others than this.
SERVING: dict[str, tuple[set[str], str]] = {
    "errors": (set(), "every other module raises them"),
    "contract": (set(), "it is the interface to src/model, and has no code"),
    "settings": ({"errors"}, "the environment is read once, before anything else exists"),
    "response_json": ({"errors"}, "clients, golden examples and bulk files get the same text of an answer"),
    "uploads": (
        {"errors", "settings", "storage", "types"},
        "it signs and reads objects; the types say what the bytes become",
    ),
    "types": (set(), "a model imports it, so it knows pydantic, and nothing of how requests arrive"),
    "snapshot": (set(), "its hooks are functions that app.py gives it"),
    "telemetry": (set(), "it measures all others, so that any module may import it"),
    "runtime": ({"settings", "telemetry"}, "it sends bytes to Lambda's Runtime API, whatever they are"),
    "storage": ({"errors", "settings"}, "it reads objects, and does not know that they are releases"),
    "releases": (
        {"response_json", "contract", "errors", "settings", "storage", "telemetry"},
        "jobs, the check before a deploy and the tools use releases too, so releases know no HTTP",
    ),
    "http": (
        {"response_json", "contract", "errors", "releases", "runtime", "settings", "telemetry", "types", "uploads"},
        "its Service is the list of the started function's parts; storage and jobs are not among them",
    ),
    "jobs": (
        {"errors", "http", "settings", "storage"},
        "a message and a line of a bulk file are answered as HTTP is, and the answers are written to S3",
    ),
    "deploy_check": (
        {"errors", "releases", "settings"},
        "a function of its own: it asks the other one over the network",
    ),
}
# The same for layers/torch/builder.
BUILDER: dict[str, tuple[set[str], str]] = {
    "errors": (set(), "every other module raises them"),
    "console": (set(), "it prints what others do"),
    "paths": (set(), "it is the one place that knows where folders are"),
    "inputs": ({"paths"}, "it hashes what a layer is made from"),
    "clean": ({"paths"}, "it runs a program with nothing but the tree in reach"),
    "outputs": (
        {"errors"},
        "the process that compares two runs never imports torch, so this is no part of the workload",
    ),
    "attributes": ({"clean", "errors"}, "it compares modules in processes of their own"),
    "verify": (
        {"attributes", "clean", "errors", "memo", "outputs", "paths"},
        "it compares two trees, and knows nothing of how they were made",
    ),
    "memo": (set(), "it keeps bytes, whatever they are"),
    "stage": ({"clean", "errors"}, "the tree of installed packages comes first"),
    "native": ({"errors", "memo", "paths", "stage"}, "libraries are split without a look at Python modules"),
    "python": (
        {"clean", "errors", "memo", "paths", "stage", "workload"},
        "modules are packed without a look at libraries; the search for what can wait runs the workload",
    ),
    "workload": ({"outputs"}, "it needs torch and NumPy alone, since it runs in any tree"),
    "cold_checks": ({"outputs", "paths", "python", "workload"}, "the same for code that the workload does not use"),
    "extra_workload": ({"attributes", "python"}, "it runs in any tree, with the packages of that tree"),
    "profile": ({"clean", "errors", "memo", "native", "paths", "python", "stage"}, "it records both halves"),
    "account": (
        {"errors", "inputs", "native", "profile", "python", "stage"},
        "it says what each byte of the result is for, so it reads the formats of both halves",
    ),
    "doctor": (
        {"account", "errors", "native", "profile", "python", "stage"},
        "it holds the rules of all steps against a wheel, and runs none of them",
    ),
    "options": ({"account", "errors", "inputs", "paths", "stage"}, "what a build is asked for"),
    "staging": ({"account", "console", "options", "stage"}, "the first steps, which a recording needs too"),
    "pipeline": (
        {"account", "console", "memo", "native", "options", "profile", "python", "stage", "staging", "verify"},
        "the whole build in order; nothing but the command line imports it",
    ),
    "__main__": ({"account", "console", "errors", "options", "paths", "pipeline", "stage"}, "the command line"),
}
# Rules are data, each row with its reason: a table may be as long as it must.
RULE_TABLES = {
    "layers/torch/builder/python/deferred/rules.py",
    "src/serving/releases/programs/operators.py",
}
# Beside the standard library, telemetry imports only this: pydantic_core writes a log line in less time than `json`, which
# `python -m benchmarks.overhead` shows.
TELEMETRY_LIBRARIES = {"pydantic_core"}


def modules(path: Path, *, at_import: bool = False) -> set[str]:
    """The modules that a file imports, by their full names; for `from a import b` both `a` and `a.b`.

    With `at_import`, only what importing the file itself imports, and not what its functions do.
    """
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it. `serving.types` is there for models to import."""
    is_model = path.is_relative_to(ROOT / "src" / "model")
    return {name.partition(".")[0] for name in modules(path) if not (is_model and name.startswith("serving.types"))}


TABLES = {"src/serving": SERVING, "layers/torch/builder": BUILDER}
PARTS = [(folder, part) for folder, table in TABLES.items() for part in table]


def part_of(name: str, folder: str) -> str | None:
    """The part of the folder's package that a module's name begins with, as its table lists them."""
    top, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    return part if top == folder.rpartition("/")[2] and part in TABLES[folder] else None


def files_of(folder: str) -> list[tuple[str, Path]]:
    """Every file of the folder with its part; the package's own `__init__` aside."""
    root = ROOT / folder
    paths = [path for path in sorted(root.rglob("*.py")) if path != root / "__init__.py"]
    return [(path.relative_to(root).parts[0].removesuffix(".py"), path) for path in paths]


def serving_files() -> list[tuple[str, Path]]:
    """Every file of src/serving with its part."""
    return files_of("src/serving")


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_imports_follow_the_arrows(rule: str) -> None:
    """No module imports what its room must not know."""
    pattern, forbidden = FORBIDDEN[rule]
    files = sorted(ROOT.glob(pattern))
    assert files
    found = {path.relative_to(ROOT).as_posix(): imported(path) & forbidden for path in files}
    assert {name: names for name, each in found.items() if (names := each - ALLOWED.get(name, set()))} == {}


@pytest.mark.parametrize("folder", TABLES)
def test_every_part_is_in_the_table(folder: str) -> None:
    """A new package or module comes with what it may import, and why."""
    assert {part for part, _ in files_of(folder)} == set(TABLES[folder])
    assert all(reason for _, reason in TABLES[folder].values())


@pytest.mark.parametrize(("folder", "part"), PARTS)
def test_parts_import_what_the_table_says(folder: str, part: str) -> None:
    """Each part imports exactly the others that the table lists: a row that is too wide is a fault too."""
    files = [path for each, path in files_of(folder) if each == part]
    found = {other for path in files for name in modules(path) if (other := part_of(name, folder)) not in (None, part)}
    assert found == TABLES[folder][part][0]


@pytest.mark.parametrize("folder", TABLES)
def test_the_arrows_go_one_way(folder: str) -> None:
    """From no part do the table's arrows lead back to it."""
    arrows = {part: targets for part, (targets, _) in TABLES[folder].items()}
    while free := {part for part, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {part: targets for part, targets in arrows.items() if part not in free}
    assert arrows == {}


def test_telemetry_imports_the_standard_library() -> None:
    """What measures a start is imported first, so it brings nothing along that it would then not measure."""
    files = [path for part, path in serving_files() if part == "telemetry"]
    found = {name for path in files for name in imported(path)} - {"serving"}
    allowed = TELEMETRY_LIBRARIES | ALLOWED["src/serving/telemetry/layer.py"]
    assert found - set(sys.stdlib_module_names) == allowed
    first = modules(ROOT / "src" / "serving" / "telemetry" / "receipts.py")
    assert {name.partition(".")[0] for name in first} - set(sys.stdlib_module_names) == {"serving"}


@pytest.mark.parametrize("root", ["src", "layers/torch", "tools", "clients/python"])
def test_no_modules_import_each_other_in_a_circle(root: str) -> None:
    """From no module do imports lead back to it, imports inside functions included."""
    folder = ROOT / root
    files = [path for path in sorted(folder.rglob("*.py")) if not any(part.startswith(".") for part in path.parts)]
    paths = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in files}
    names = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    arrows = {}
    for name, path in names.items():
        # A package may offer what its modules have: its own functions import them, and `from package import module` needs
        # the module alone.
        found = {each for each in modules(path, at_import=path.name == "__init__.py") if each in names} - {name}
        arrows[name] = {each for each in found if not any(other.startswith(f"{each}.") for other in found)}
    while free := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {name: targets for name, targets in arrows.items() if name not in free}
    assert arrows == {}


@pytest.mark.parametrize(
    "folder", ["src", "layers/torch/builder", "layers/torch/torch_layer", "tools/lambda_torch", "clients/python"]
)
def test_what_is_read_at_once_stays_short(folder: str) -> None:
    """No class is longer than 200 lines, and no module longer than 350, except tables of rules."""
    files = [
        path for path in sorted((ROOT / folder).rglob("*.py")) if path.relative_to(ROOT).as_posix() not in RULE_TABLES
    ]
    classes = [
        node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    long_classes = [node.name for node in classes if (node.end_lineno or 0) - node.lineno + 1 > 200]
    long_modules = [path.name for path in files if len(path.read_text().splitlines()) > 350]
    assert (long_classes, long_modules) == ([], [])


def test_the_errors_of_serving_are_the_tree_in_its_docstring() -> None:
    """serving/errors.py draws every public error of the package, each below ServingError."""
    for _, path in serving_files():
        if path.name != "__init__.py":
            importlib.import_module(".".join(path.relative_to(ROOT / "src").with_suffix("").parts))
    found = {each.__name__ for each in ServingError.__subclasses__()}
    assert set(re.findall(r"^ +x (\w+)", inspect.getdoc(errors) or "", re.MULTILINE)) == found


def test_one_module_reads_the_functions_environment() -> None:
    """Only src/serving/settings.py touches os.environ."""
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (getattr(node, "attr", None) or getattr(node, "id", None)) in ("environ", "getenv", "putenv")
    ]
    assert set(readers) == {"src/serving/settings.py"}
