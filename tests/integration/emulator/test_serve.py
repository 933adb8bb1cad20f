"""`lambda-torch serve` and `lambda-torch invoke` as people use them: real commands, the real function, real HTTP."""

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from integration.emulator.conftest import wait_until
from lambda_torch import project
from lambda_torch.emulator import run
from lambda_torch.emulator.guardian import members

COMMAND = str(Path(sys.executable).with_name("lambda-torch"))
EVENT = str(project.EVENTS / "bare.json")


@dataclass
class ServeProcess:
    """A running `lambda-torch serve`."""

    process: "subprocess.Popen[str]"
    curl: list[str]
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return self.curl[-1].removesuffix("/predict")

    def children(self) -> list[int]:
        """Every process that it has started, whatever these have started too."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):  # another process of the machine may end at this moment
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        direct = [process for process, parent in parents.items() if parent == self.process.pid]
        return [process for child in direct for process in members(child)]


def start(log: Path, *options: str) -> ServeProcess:
    """Start `lambda-torch serve` and wait for the line with the curl command."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    return ServeProcess(process, shlex.split(line), log)


def run_folders(served: ServeProcess) -> list[Path]:
    """The files of its run."""
    return list(run.FOLDER.glob(f"run-{served.process.pid}-*"))


def stop(served: ServeProcess, number: int) -> None:
    """End it with a signal."""
    served.process.send_signal(number)
    served.process.wait(60)
    assert served.process.stdout is not None
    served.process.stdout.close()


@pytest.fixture(scope="module")
def served(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """The sample model, served."""
    started = start(tmp_path_factory.mktemp("serve") / "log", "--layer", "stock", "--release", str(release))
    yield started
    stop(started, signal.SIGTERM)


def test_the_printed_curl_line_gives_names(served: ServeProcess) -> None:
    """The command that is printed gives three names, with the start letters that it asks for."""
    assert served.curl[0] == "curl"
    data = served.curl[served.curl.index("-d") + 1]
    answer = requests.post(served.curl[-1], data=data, timeout=60)
    assert answer.status_code == 200
    assert [name[0] for name in answer.json()] == ["R", "U", "S"]
    assert answer.headers["X-Model-Version"] in served.log.read_text()
    if shutil.which("curl"):
        done = subprocess.run([*served.curl, "--silent"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == answer.json()


def test_it_says_which_torch_it_runs(served: ServeProcess) -> None:
    """The log tells whether a layer or the stock packages are used."""
    assert "Starting the function on stock PyTorch" in served.log.read_text()


def test_health_preflight_and_refusals_go_through(served: ServeProcess) -> None:
    """The function's own routes and refusals reach the client as they are."""
    health = requests.get(f"{served.url}/health", timeout=60)
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    preflight = requests.options(f"{served.url}/predict", headers=asked, timeout=60)
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    for path, body, status in (("/predict", "{", 400), ("/nowhere", "{}", 404), ("/health", "{}", 405)):
        refused = requests.post(served.url + path, data=body, timeout=60)
        assert (refused.status_code, list(refused.json())) == (status, ["error"])


def test_eight_requests_at_a_time(served: ServeProcess) -> None:
    """Eight clients at a time all get the names of their own letters."""

    def ask(letter: str) -> list[str]:
        body = {"category": "Italian", "start_letters": letter}
        names: list[str] = requests.post(f"{served.url}/predict", json=body, timeout=120).json()
        return names

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, "ABCDEFGH" * 3))
    assert [names[0][0] for names in answers] == list("ABCDEFGH" * 3)


def test_invoke_uses_the_running_serve(served: ServeProcess) -> None:
    """While the function is served, one event is sent to it: nothing is started, and the answer alone is printed."""
    assert served.process.poll() is None
    done = subprocess.run([COMMAND, "invoke", EVENT], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [name[0] for name in json.loads(json.loads(done.stdout)["body"])] == ["R", "U", "S"]


def test_a_port_in_use_is_told_at_once(served: ServeProcess) -> None:
    """A second serve on the same port ends with the next step before it has started anything."""
    port = served.url.rpartition(":")[2]
    done = subprocess.run([COMMAND, "serve", "--port", port], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: Port {port} is in use by another program\. Next: .*\n", done.stderr)


@pytest.mark.parametrize("port", ["-1", "65536", "abc"])
def test_a_port_out_of_range_is_told(port: str) -> None:
    """A number that is no port is a usage error."""
    done = subprocess.run([COMMAND, "serve", f"--port={port}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_ctrl_c_leaves_nothing_behind(release: Path, tmp_path: Path) -> None:
    """After Ctrl-C the status is 0, and no process, no file of the run and no open port is left."""
    served = start(tmp_path / "log", "--layer", "stock", "--release", str(release), "--payload", "v2")
    answer = requests.post(served.curl[-1], data=served.curl[2], timeout=60)
    assert [name[0] for name in answer.json()] == ["R", "U", "S"]
    children = served.children()
    assert len(children) >= 3  # guardian, S3, function
    assert run_folders(served)
    stop(served, signal.SIGINT)
    assert served.process.returncode == 0
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert not run_folders(served)
    with pytest.raises(requests.ConnectionError):
        requests.get(served.url, timeout=5)


def test_a_saved_file_starts_the_function_again(release: Path, tmp_path: Path) -> None:
    """Serve runs what was saved without being started again; a mistake is told, and its correction serves."""
    shutil.copytree(project.SRC / "model", tmp_path / "own" / "model")
    module = tmp_path / "own" / "model" / "__init__.py"
    before = module.read_text()
    options = ["--layer", "stock", "--release", str(release), "--model", str(tmp_path / "own"), "--concurrency", "1"]
    served = start(tmp_path / "log", *options)
    try:
        module.write_text(f"{before}\nprint('saved once')\n")
        assert wait_until(lambda: "Ready again after" in served.log.read_text())
        assert "__init__.py changed: restarting the function" in served.log.read_text()
        assert "saved once" in served.log.read_text()
        assert requests.post(served.curl[-1], data=served.curl[2], timeout=60).status_code == 200
        module.write_text(f"{before}\nmistake = (\n")
        assert wait_until(lambda: "The next save tries again" in served.log.read_text())
        assert "was never closed" in served.log.read_text()
        assert requests.post(served.curl[-1], data=served.curl[2], timeout=60).status_code == 502
        module.write_text(before)
        assert wait_until(lambda: served.log.read_text().count("Ready again after") == 2)
        assert requests.post(served.curl[-1], data=served.curl[2], timeout=60).status_code == 200
    finally:
        stop(served, signal.SIGTERM)


def test_a_killed_serve_leaves_no_process(release: Path, tmp_path: Path) -> None:
    """A serve that is killed takes its children with it all the same, and the next run removes its files."""
    served = start(tmp_path / "log", "--layer", "stock", "--release", str(release))
    children = served.children()
    stop(served, signal.SIGKILL)
    assert wait_until(lambda: not [child for child in children if Path(f"/proc/{child}").exists()])
    left = run_folders(served)
    shutil.rmtree(run._scratch_folder())
    assert left
    assert not any(folder.exists() for folder in left)
