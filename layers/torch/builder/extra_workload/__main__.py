"""`python -m builder.extra_workload make FOLDER PACKAGE...`, and then `use FOLDER OUTPUT PACKAGE...` in a process of its own."""

import json
import sys
from pathlib import Path

from builder import extra_workload


def main(argv: list[str]) -> None:
    """Write the models, or use them and write the answers as JSON."""
    what, folder, *rest = argv
    if what == "make":
        extra_workload.make(Path(folder), rest)
    else:
        output, *packages = rest
        answers = extra_workload.use(Path(folder), packages)
        if "torch" in sys.modules:
            answers |= extra_workload.left_behind(packages)
        Path(output).write_text(json.dumps(answers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
