"""How large function and layer will be, without a build: what is installed here, times what the builder has measured."""

import sys
from importlib import metadata
from pathlib import Path

from lambda_torch import project
from lambda_torch.checking.ticks import Tick
from lambda_torch.packages import layer_list, local, resolving
from lambda_torch.scaffold import build_files

# `make layer` builds nothing larger, and `sam build` uses the same builder.
WITHOUT_A_LAYER = "no layer is built here, so its largest size is taken"


def tick(folder: Path, packages: Path | None) -> Tick:
    """Whether function and layer fit into Lambda's limit.

    Args:
        folder: the folder with the package `model`.
        packages: where its own packages are installed. None if it has none.
    """
    project.use_builder()
    from builder.account.forecast import SOURCE_AS_FILE
    from builder.stage import policy

    def with_bytecode(files: list[Path]) -> int:
        return round(
            sum(file.stat().st_size * (SOURCE_AS_FILE.likely if file.suffix == ".py" else 1) for file in files)
        )

    package = project.model_package(folder)
    model = [
        path for path in _files(package) if not any(part.startswith(".") for part in path.parts[len(package.parts) :])
    ]
    function = with_bytecode([*_files(project.SRC / "serving"), project.SRC / "app.py", *model])
    function += with_bytecode(_installed_files())
    base, noted = _layer(policy.BUDGET_BYTES)
    more = 0
    if packages is not None:
        wheels, _ = resolving.resolve(package / resolving.FILE_NAME)
        if build_files.place_of(wheels) != "layer":
            function += with_bytecode(_files(packages))
        elif not local.are_in(project.layer(), packages):
            more = layer_list.forecast_of(packages).likely
    total = function + base + more
    parts = f"function {_mb(function)}, layer {_mb(base)}" + (f" and {_mb(more)} for its own packages" if more else "")
    message = f"about {parts}{noted}; Lambda takes {_mb(policy.LIMIT_BYTES)} together"
    if total > policy.LIMIT_BYTES:
        return Tick(
            "size",
            "failed",
            message,
            f"take packages out of {resolving.FILE_NAME}, or parts of them: the largest are {_largest(packages)}",
        )
    return Tick("size", "ok", message)


def _layer(largest: int) -> tuple[int, str]:
    built = project.layer()
    if built is None:
        return largest, f" ({WITHOUT_A_LAYER})"
    return sum(file.stat().st_size for file in _files(built)), ""


def _installed_files() -> list[Path]:
    """The files of the function's own requirements, as this environment has them."""
    found: list[Path] = []
    for line in resolving.lines_of(project.SRC / resolving.FILE_NAME):
        try:
            listed = metadata.files(line.partition("==")[0].strip()) or []
        except metadata.PackageNotFoundError:
            continue
        found += [path for each in listed if (path := Path(str(each.locate()))).is_file() and path.suffix != ".pyc"]
    return [path for path in found if not path.is_relative_to(Path(sys.prefix) / "bin")]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _largest(packages: Path | None) -> str:
    if packages is None:
        return "those of the layer"
    sizes = {
        entry.name: sum(file.stat().st_size for file in (_files(entry) if entry.is_dir() else [entry]))
        for entry in packages.iterdir()
    }
    names = sorted(sizes, key=lambda name: -sizes[name])[:3]
    return ", ".join(f"{name} ({_mb(sizes[name])})" for name in names)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
