"""Makes the candidates below build/, unless they are there: each has a layer's tree, a package and a release."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.coldstart import onnx
from benchmarks.coldstart.subjects import Subject
from benchmarks.layer.peers import PEERS, SAM_DATE, Peer, prepare
from lambda_torch import project

CACHE = project.BUILD / "bench" / "coldstart"
HERE = Path(__file__).resolve().parent

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """One way to bring the function and its PyTorch to Lambda.

    Attributes:
        name: the name that programs use.
        title: the name that people read.
        opt: the folder that becomes /opt, with `python/` in it.
        task: the folder that becomes /var/task.
        release: the release folder that it serves.
    """

    name: str
    title: str
    opt: Path
    task: Path
    release: Path

    @property
    def unzipped_bytes(self) -> int:
        """The bytes that Lambda counts: function and layer, without this benchmark's own files."""
        files = [path for tree in (self.opt, self.task) for path in tree.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files if not path.name.startswith("entry"))


# The name, the peer of benchmarks.layer, and whether its packaging also keeps valid bytecode in the function's package.
TREES = (
    ("stock", PEERS[0], True),
    ("stock-as-sam-ships-it", PEERS[1], False),
    ("delete-and-strip", PEERS[2], False),
    ("nested-zip", PEERS[3], False),
    ("zstd-memfd", PEERS[4], True),
)


def make(subject: Subject, release: Path, layer: Path, say: Say, only: Sequence[str] | None = None) -> list[Candidate]:
    """Make all candidates of a subject, this layer last. With `only`: those whose name has one of its texts, and this layer.

    Raises:
        SystemExit: the layer is not built, or pip cannot install what a candidate needs.
    """
    if not (layer / "python" / "torch").is_dir():
        raise SystemExit(f"There is no layer in {layer}. Next: make layer")

    def wanted(name: str) -> bool:
        return (not subject.ways or name in subject.ways) and (not only or any(text in name for text in only))

    CACHE.mkdir(parents=True, exist_ok=True)
    package = _package(say)
    found = []
    for name, peer, has_bytecode in TREES:
        if wanted(name):
            say(f"  {subject.name}: prepare {name}")
            tree = prepare(peer, _site_packages(), project.BUILD / "bench" / "layer", zipped=False)
            task = _task(name, package, peer, subject, has_bytecode=has_bytecode)
            found.append(Candidate(name, peer.name, _opt(name, tree), task, release))
    name = "onnxruntime"
    if subject.twin is not None and wanted(name):
        say(f"  {subject.name}: prepare {name}")
        exported = CACHE / f"release-onnx-{subject.name}"
        shutil.rmtree(exported, ignore_errors=True)
        code = project.SRC if subject.folder is None else subject.folder
        onnx.export(release, subject.twin, exported, CACHE, code, say)
        task = _task(name, package, None, subject, subject.twin)
        found.append(Candidate(name, "ONNX Runtime", _opt(name, onnx.runtime_tree(CACHE, say)), task, exported))
    found.append(Candidate("ours", "this layer", layer, _task("ours", package, None, subject), release))
    return found


def _site_packages() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("torch is not installed here. Next: make setup")
    return Path(spec.origin).parents[1]


def _opt(name: str, tree: Path) -> Path:
    """Make a folder that becomes /opt, with the tree in it."""
    opt = CACHE / f"opt-{name}"
    shutil.rmtree(opt, ignore_errors=True)
    opt.mkdir()
    # A link would point out of the sandbox.
    tree = tree.resolve()
    subprocess.run(["cp", "-al", str(tree), str(opt / "python")], check=True)
    return opt


def _package(say: Say) -> Path:
    """Make the function's package with the Makefile that `sam build` uses."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(project.SRC.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(project.SRC).as_posix().encode() + path.read_bytes())
    folder = CACHE / f"package-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    say("  build the function's package")
    for old in CACHE.glob("package-*"):
        shutil.rmtree(old)
    partial = CACHE / "package.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    command = ["make", "--silent", "build-PredictFunction", f"PYTHON={sys.executable}", f"ARTIFACTS_DIR={partial}"]
    done = subprocess.run(command, cwd=project.SRC, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The function's package cannot be built:\n{done.stderr.strip()[-2000:]}")
    partial.rename(folder)
    return folder


def _task(
    name: str,
    package: Path,
    peer: Peer | None,
    subject: Subject,
    twin: onnx.Twin | None = None,
    *,
    has_bytecode: bool = True,
) -> Path:
    """Make the folder that becomes /var/task: the package with the subject's model, and this benchmark's entry.

    It has no bytecode where SAM's own build leaves none.
    """
    task = CACHE / f"task-{subject.name}-{name}"
    shutil.rmtree(task, ignore_errors=True)
    no_bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, task, ignore=None if has_bytecode else no_bytecode)
    if subject.folder is not None:
        shutil.rmtree(task / "model")
        shutil.copytree(subject.folder / "model", task / "model", ignore=no_bytecode)
    if twin is not None:
        for path in [*(task / "model").rglob("*.pyc"), *(task / "model").glob("*.py")]:
            if path.name not in twin.kept:
                path.unlink()
        shutil.copytree(twin.package, task / "model", dirs_exist_ok=True, ignore=no_bytecode)
        shutil.copyfile(HERE / "onnx_session.py", task / "model" / "onnx_session.py")
    shutil.copyfile(HERE / "entry.py", task / "entry.py")
    if peer is not None and peer.prelude:
        (task / "entry_prelude.txt").write_text(peer.prelude)
    if has_bytecode:
        flags = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([sys.executable, *flags, str(task / "entry.py"), str(task / "model")], check=True)
    for path in task.rglob("*"):
        os.utime(path, (SAM_DATE, SAM_DATE))
    return task
