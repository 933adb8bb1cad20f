"""What the files of a model import, and which of it is at hand on Lambda."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Modules whose distribution has another name. A wrong guess would name another author's package, so only well-known
# ones are here; for every other module the message says that the name may differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",  # the other build needs a screen's libraries
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "fitz": "pymupdf",
    "librosa": "librosa",
    "nltk": "nltk",
    "pandas": "pandas",
    "scipy": "scipy",
    "sentencepiece": "sentencepiece",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "soundfile": "soundfile",
    "timm": "timm",
    "tokenizers": "tokenizers",
    "torchaudio": "torchaudio",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "yaml": "pyyaml",
}
# What the layer and the function bring, by module. A test compares it with their requirements.
PROVIDED = frozenset(
    {
        *("torch", "torchgen", "functorch", "numpy"),
        *("filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "pkg_resources", "sympy"),
        *("aws_lambda_powertools", "pydantic", "pydantic_core", "annotated_types", "typing_inspection"),
        *("multipart", "safetensors", "typing_extensions", "boto3", "botocore", "s3transfer", "jmespath"),
    }
)
# The function's own packages. `model` itself is one of them.
FUNCTION = frozenset({"model", "serving", "app"})


@dataclass(frozen=True)
class ImportPlace:
    """An import in a file of the model.

    Attributes:
        module: the top-level name.
        file: where it stands.
        line: counted from 1.
    """

    module: str
    file: Path
    line: int


def foreign_imports(package: Path) -> list[ImportPlace]:
    """The first import of each module in the package's files that neither Python nor Lambda's function has by itself.

    Imports below `try` and `if TYPE_CHECKING` do not count: the code has its own way to live without them. A file that
    is no Python is left to the import that will tell it.
    """
    found: dict[str, ImportPlace] = {}
    own = {path.stem for path in package.glob("*.py")} | {path.name for path in package.iterdir() if path.is_dir()}
    for file in sorted(package.rglob("*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in _certain(tree.body):
            for name in _names(node):
                top = name.partition(".")[0]
                if top not in found and top not in _AT_HAND and top not in own:
                    found[top] = ImportPlace(top, file, node.lineno)
    return list(found.values())


_AT_HAND = PROVIDED | FUNCTION | set(sys.stdlib_module_names)


def distribution_of(module: str) -> str:
    """The name under which pip installs a module, as far as it is known: for others, the module's own name."""
    return DISTRIBUTIONS.get(module, module.replace("_", "-"))


def _certain(body: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    """The statements that run whatever happens, those inside functions included."""
    for node in body:
        if isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from _certain(ast.iter_child_nodes(node))


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module]
    return []
