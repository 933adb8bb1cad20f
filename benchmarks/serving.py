"""The benchmarks of the serving path, one after the other: what `make bench` runs."""

import subprocess
import sys

# Each in a process of its own: the function sets torch's threads before torch is imported.
BENCHMARKS = {
    "benchmarks.decoding": "Decoding: the post's way against ours",
    "benchmarks.overhead": "Overhead: one request inside the function, less the bare model call",
}


def main() -> None:
    """Run all, even if one fails; exit with 1 if any did."""
    failed = []
    for module, title in BENCHMARKS.items():
        print(f"\n{title}\n", flush=True)
        if subprocess.run([sys.executable, "-m", module], check=False).returncode:
            failed.append(module)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
