"""A defect in the user's own code, told by its file and line, without the lines of our code and of libraries."""

import linecache
import traceback
from pathlib import Path

MOST_FRAMES = 4


def told(error: BaseException, package: Path) -> str:
    """The error, and the lines of the user's package that led to it, innermost last.

    >>> print(told(error, package))  # doctest: +SKIP
    KeyError: 'widht'
      model/__init__.py, line 31, in predict
        return request["widht"]
    """
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(package.resolve())
    ]
    lines = [f"{type(error).__name__}: {error}" if str(error) else type(error).__name__]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"  {shown(Path(error.filename), package)}, line {error.lineno}")
        lines += [f"    {error.text.strip()}"] if error.text else []
    for frame in frames[-MOST_FRAMES:]:
        lines.append(f"  {shown(Path(frame.filename), package)}, line {frame.lineno}, in {frame.name}")
        code = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        lines += [f"    {code}"] if code else []
    return "\n".join(lines)


def shown(file: Path, package: Path) -> str:
    """The path of a file as the user knows it: from the folder that has the package."""
    try:
        return str(Path(package.name) / file.resolve().relative_to(package.resolve()))
    except ValueError:
        return str(file)
