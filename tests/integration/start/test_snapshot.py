"""SnapStart: the hooks that the function registers, called as Lambda's runtime calls them."""

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from integration.serving.proxy import FaultyProxy
from lambda_torch.project import ROOT, SRC
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

if TYPE_CHECKING:
    from pathlib import Path

# One process is started for a snapshot; each copy of it is a fork, which is what a restored snapshot is to Python: the same
# memory in another process. The hooks are run by Lambda's own runtime client.
PROGRAM = """
import json, os, random, sys, threading
import app, numpy.random, torch
from awslambdaric import lambda_runtime_hooks_runner as runtime

def request(body):
    return app.lambda_handler({"httpMethod": "POST", "path": "/predict", "body": json.dumps(body)}, None)

runtime.run_before_snapshot()
idle = {
    "threads": sorted(t.name for t in threading.enumerate() if not t.daemon),
    "sockets": [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")],
}
print(json.dumps({"idle": idle, "version": app.service.follower.peek().version}), flush=True)
sys.stdin.readline()
for copy in range(2):
    child = os.fork()
    if child == 0:
        if sys.argv[1] == "hooks":
            runtime.run_after_restore()
        drawn = [random.random(), float(numpy.random.random()), float(torch.rand(()))]
        sampled = request({"category": "Russian", "start_letters": "RUSRUS", "temperature": 2.0})
        print(json.dumps({"drawn": drawn, "sampled": sampled}), flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


class Snapshot:
    """A started function, its snapshot taken; `copies` lets it go on as two."""

    def __init__(self, environment: dict[str, str], hooks: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", PROGRAM, "hooks" if hooks else "none"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.lines: list[dict[str, Any]] = []
        self.before = self._until("idle")

    def copies(self) -> list[dict[str, Any]]:
        """What the two copies drew and answered."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = [self._until("drawn"), self._until("drawn")]
        assert self.process.wait(60) == 0
        self.process.stdin.close()
        self.process.stdout.close()
        return found

    def _until(self, key: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told: dict[str, Any] = json.loads(line)
            if key in told:
                return told
            self.lines.append(told)
        raise AssertionError(f"the function ended with {self.process.wait()}")


def environment(aws: dict[str, str], bucket: str, folder: "Path", **more: str) -> dict[str, str]:
    """A function's, started for a snapshot."""
    return {
        **aws,
        "AWS_REGION": aws["AWS_DEFAULT_REGION"],
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(SRC),
        "MODEL_BUCKET": bucket,
        "RELEASE_CACHE": str(folder / "cache"),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        **more,
    }


def test_two_copies_of_a_snapshot_sample_differently(aws: dict[str, str], published: str, tmp_path: "Path") -> None:
    """After a restore each copy draws its own numbers, from Python, NumPy and torch; without the hooks they would be the same."""
    one, other = Snapshot(environment(aws, published, tmp_path)).copies()
    assert [a == b for a, b in zip(one["drawn"], other["drawn"], strict=True)] == [False] * 3
    assert one["sampled"]["body"] != other["sampled"]["body"]
    same, again = Snapshot(environment(aws, published, tmp_path), hooks=False).copies()
    # Python seeds `random` again in every fork, though not in every copy of a snapshot.
    assert same["drawn"][1:] == again["drawn"][1:]


def test_before_the_snapshot_the_whole_path_has_run(aws: dict[str, str], published: str, tmp_path: "Path") -> None:
    """A real request was answered, which nobody counts; no connection is left open, and no refresh is going on."""
    snapshot = Snapshot(environment(aws, published, tmp_path))
    primed = [line for line in snapshot.lines if line["message"] == "primed"]
    assert [line["status"] for line in primed] == [200]
    assert not [line for line in snapshot.lines if "Requests" in line]
    assert snapshot.before["idle"]["threads"] == ["MainThread"]
    assert not [target for target in snapshot.before["idle"]["sockets"] if target.startswith("socket:")]
    snapshot.copies()


def test_a_copys_first_answer_accounts_for_the_restore(aws: dict[str, str], published: str, tmp_path: "Path") -> None:
    """The first line of each copy is a cold start's, of the kind snap-start, with what came after the restore alone."""
    snapshot = Snapshot(environment(aws, published, tmp_path))
    for copy in snapshot.copies():
        assert "restore;dur=" in copy["sampled"]["headers"]["Server-Timing"]
        assert "torch;dur=" not in copy["sampled"]["headers"]["Server-Timing"]
    starts = [line["start"] for line in snapshot.lines if line["message"] == "request"]
    assert [start["kind"] for start in starts] == ["snap-start"] * 2
    assert all(start["phases"]["restore"]["ms"] <= start["ms"] for start in starts)


def test_a_copy_serves_what_the_channel_names_by_now(
    aws: dict[str, str], bucket: Bucket, release: "Path", tmp_path: "Path"
) -> None:
    """A release that was published after the snapshot answers the first request of every copy."""
    old = publish(release, bucket)
    snapshot = Snapshot(environment(aws, bucket.name, tmp_path))
    assert snapshot.before["version"] == old.version
    changed = shutil.copytree(release, tmp_path / "changed")
    config = json.loads((changed / "model.json").read_text())
    (changed / "model.json").write_text(json.dumps(config | {"max_start_letters": 60}))
    new = publish(changed, bucket)
    for copy in snapshot.copies():
        assert copy["sampled"]["headers"]["X-Model-Version"] == new.version


def test_without_s3_a_copy_serves_what_it_has(
    s3_url: str, aws: dict[str, str], published: str, tmp_path: "Path"
) -> None:
    """A restore does not fail because S3 does: the release of the snapshot serves, and the log says why."""
    proxy = FaultyProxy(s3_url)
    snapshot = Snapshot(environment(aws, published, tmp_path, AWS_ENDPOINT_URL_S3=proxy.url))
    proxy.close()
    for copy in snapshot.copies():
        assert copy["sampled"]["headers"]["X-Model-Version"] == snapshot.before["version"]
    assert [line["code"] for line in snapshot.lines if line["message"] == "release refused"] == [
        "storage_unavailable"
    ] * 2


def test_a_start_that_nobody_takes_a_snapshot_of_registers_nothing(start_fresh: Any) -> None:
    """The hooks' module is not even imported where Lambda starts on demand."""
    assert "snapshot_restore_py" not in start_fresh().ready
