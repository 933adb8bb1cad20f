"""`python -m builder`: build the layer."""

import argparse
import signal
import sys
from pathlib import Path

from builder import paths
from builder.account import table
from builder.console import Console
from builder.errors import BuildError
from builder.options import BuildOptions, is_current
from builder.pipeline import Build
from builder.stage import policy


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m builder",
        description="Build the torch layer: install, prune, strip, forecast, record, split, verify, and account for every byte. "
        "The layer is for the Python version and the architecture that run this command.",
    )
    result.add_argument("--output", type=Path, required=True, help="folder that becomes /opt; its python/ is replaced")
    result.add_argument(
        "--work", type=Path, help="folder for files that a later build can use again (default: OUTPUT/../cache/layer)"
    )
    result.add_argument(
        "--results-of",
        type=Path,
        action="append",
        default=[],
        metavar="WORK",
        help="work folder of another build, for example for another Python: what it keeps is used as well (repeatable)",
    )
    result.add_argument(
        "--requirements", type=Path, action="append",
        help="pip requirements file (repeatable; default: requirements.txt, and extra-requirements.txt if it exists)",
    )  # fmt: skip
    result.add_argument(
        "--profiles", type=Path, default=paths.PROFILES, help="folder of recorded profiles (default: %(default)s)"
    )
    result.add_argument(
        "--architecture",
        help="refuse to build unless this machine has these processors: x86_64 or arm64 (default: build for this machine)",
    )
    result.add_argument("--zip", type=Path, help="also write the layer as a zip file")
    result.add_argument("--report", type=Path, help="write the ledger as JSON")
    result.add_argument("--treemap", type=Path, help="write the ledger as a picture (HTML)")
    result.add_argument(
        "--budget",
        type=int,
        metavar="BYTES",
        help=f"refuse a layer that is larger, unzipped (default: {policy.BUDGET_BYTES}, or {policy.BUDGET_WITH_EXTRAS_BYTES} "
        "with extra-requirements.txt; Lambda allows 262144000 for all)",
    )
    result.add_argument("--record", action="store_true", help="record the workload again, even if a profile fits")
    result.add_argument(
        "--eager-imports", action="store_true", help="run every module of torch at import, as stock torch does"
    )
    result.add_argument("--no-verify", action="store_true", help="do not compare the result with stock torch")
    return result


def default_budget(requirements: list[Path]) -> int:
    """What a layer of these requirements may have, unzipped."""
    return policy.BUDGET_BYTES if len(requirements) == 1 else policy.BUDGET_WITH_EXTRAS_BYTES


def default_requirements() -> list[Path]:
    """The layer's own requirements, and the user's extra-requirements.txt if it exists."""
    extra = paths.LAYER / "extra-requirements.txt"
    return [paths.LAYER / "requirements.txt", *([extra] if extra.is_file() else [])]


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the layer was built, 1 if not (standard error has the reason), 130 if it was stopped."""
    arguments = parser().parse_args(argv)
    output = arguments.output.resolve()
    # SIGTERM ends the build as Ctrl-C does: what is half built is removed on the way out.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        if arguments.architecture:
            policy.require_architecture(arguments.architecture)
        requirements = arguments.requirements or default_requirements()
        options = BuildOptions(
            requirements=requirements,
            output=output,
            work=(arguments.work or output.parent / "cache" / "layer").resolve(),
            results_of=tuple(arguments.results_of),
            profiles=arguments.profiles,
            zip=arguments.zip,
            report=arguments.report,
            treemap=arguments.treemap,
            verify=not arguments.no_verify,
            record=arguments.record,
            eager_imports=arguments.eager_imports,
            budget_bytes=default_budget(requirements) if arguments.budget is None else arguments.budget,
        )
        if not arguments.requirements and arguments.profiles == paths.PROFILES and is_current(options):
            sys.stdout.write(f"{output} is up to date (lambda-torch layer inspect shows what is in it)\n")
            return 0
        report = Build(options, Console()).run()
    except BuildError as error:
        sys.stderr.write(f"\nThe layer was not built: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The earlier layer, if there was one, is unchanged.\n")
        return 130
    sys.stdout.write(f"{table.text(report)}\n")
    runtime = policy.running_runtime()
    if not runtime.is_deployed:
        sys.stdout.write(
            f"This layer is for {runtime.name}: {runtime.reason}. To deploy: make layer PYTHON=python3.13\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
