"""Prepares ONNX Runtime and networks for it below build/: people compare PyTorch with it."""

import compileall
import hashlib
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from serving.releases import format
from serving.releases.format import Manifest, ReleaseRef

RUNTIME = "onnxruntime==1.32.0"
EXPORTER = "onnx==1.23.2"
NETWORK_FILE = "network.onnx"

# Runs in a process of its own, because it needs packages that the project does not use. `NETWORK` stands for the lines
# of a twin that make the network, an example of its arguments, and their names.
_EXPORT = """
import sys, warnings
from pathlib import Path
source, target = map(Path, sys.argv[1:])
import torch
from safetensors.torch import load_file
warnings.simplefilter("ignore")  # torch calls this exporter old; the new one needs another package
NETWORK
torch.onnx.export(network, arguments, str(target), input_names=inputs, output_names=outputs, dynamic_axes=axes,
                  dynamo=False)
"""


@dataclass(frozen=True)
class Twin:
    """The same model for ONNX Runtime.

    Attributes:
        package: the package `model` that runs the exported network.
        kept: files of the original package that it uses as they are.
        files: files of the release that it reads as they are.
        network: Python that makes `network`, `arguments`, `inputs`, `outputs` and `axes` of the folder `source`.
    """

    package: Path
    kept: tuple[str, ...]
    files: tuple[str, ...]
    network: str


def runtime_tree(cache: Path, say: Callable[[str], None]) -> Path:
    """A folder with ONNX Runtime and its requirements, as a layer has them in /opt/python, with valid bytecode."""
    return _installed(cache / RUNTIME.replace("==", "-"), RUNTIME, say)


def export(release: Path, twin: Twin, target: Path, cache: Path, code: Path, say: Callable[[str], None]) -> None:
    """Make the release folder `target`, for ONNX Runtime, from a release of the model whose package is in `code`."""
    tools = _installed(cache / EXPORTER.replace("==", "-"), EXPORTER, say)
    target.mkdir(parents=True)
    program = _EXPORT.replace("NETWORK", twin.network)
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:0] = {[str(code)]!r}; sys.path.append({str(tools)!r})\n{program}",
    ]
    done = subprocess.run([*command, str(release), str(target / NETWORK_FILE)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The network cannot be exported to ONNX:\n{done.stderr.strip()[-2000:]}")
    for name in twin.files:
        shutil.copyfile(release / name, target / name)


def publish(release: Path, like: Manifest, bucket: Bucket) -> None:
    """Put the exported release into a bucket of its own, and make it the current release there.

    `lambda-torch publish` would load it with src/model. The exported release has the golden examples (requests with
    their right answers) of the original release. So the function refuses it if its answers differ.
    """
    files = format.describe(release)
    manifest = like.model_copy(update={"version": format.version_of(files), "files": files})
    for name in files:
        key = format.file_key(manifest.version, name)
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=(release / name).read_bytes())
    body = format.dump(manifest)
    key = format.file_key(manifest.version, format.MANIFEST_NAME)
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    sha256 = hashlib.sha256(body).hexdigest()
    channels.promote(bucket, "live", ReleaseRef(version=manifest.version, manifest_sha256=sha256))


def _installed(folder: Path, requirement: str, say: Callable[[str], None]) -> Path:
    if folder.is_dir():
        return folder
    say(f"  install {requirement} (once)")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    done = subprocess.run([*pip, "--target", str(partial), requirement], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"pip could not install {requirement}: {done.stderr.strip()[-1000:]}\nNext: check the network")
    compileall.compile_dir(partial, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    partial.rename(folder)
    return folder
