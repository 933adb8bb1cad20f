"""The client as pip installs it: by itself, with httpx2 and no more."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from lambda_torch.project import ROOT

# What httpx2 brings, and what the client needs beside it.
NEEDED = ("httpx2", "httpcore2", "anyio", "idna", "truststore", "h11", "typing_extensions.py", "sniffio")


def test_the_wheel_alone_asks_the_service(reader_url: str, tmp_path: Path) -> None:
    """With nothing but what the wheel requires, the command asks the service, and names what an extra would bring."""
    source = shutil.copytree(ROOT / "clients" / "python", tmp_path / "source")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={python}"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0] in NEEDED:
            (site / entry.name).symlink_to(entry)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [python.with_name("lambda-torch-client"), *words], capture_output=True, text=True, cwd=tmp_path
        )

    done = run("predict", reader_url, '{"words": ["a"]}')
    assert done.stdout == '{"text": "a", "size": null}\n', done.stderr
    assert "Next: pip install 'lambda-torch-client[aws]'" in run("predict", "--sigv4", reader_url, "{}").stderr
    assert "Next: pip install 'lambda-torch-client[types]'" in run("types", reader_url).stderr
    assert (site / "lambda_torch_client" / "py.typed").is_file()
