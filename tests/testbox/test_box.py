import json
import os
from pathlib import Path
from typing import Any

import pytest

from integration.serving.test_handler import STATUS
from lambda_torch.emulator.guardian import members
from lambda_torch.project import EVENTS
from lambda_torch.testbox import Box, BoxError, Rootfs
from lambda_torch.testbox.limits import MB_PER_VCPU, PERIOD_US, ROOT, cpu_quota_us
from lambda_torch.testbox.rootfs import ZIP_DATE
from lambda_torch.testbox.sandbox import GROUP, HIDDEN, TMP_BYTES, USER


def ask(files: Rootfs, probe: str, event: Any, memory_mb: int = 1024) -> Any:
    """One event to one probe in a box of its own."""
    with Box(files, f"probes.{probe}", memory_mb=memory_mb) as box:
        outcome = box.invoke(json.dumps(event).encode())
        assert not outcome.failed, box.log()
        return json.loads(outcome.payload)


@pytest.mark.parametrize("memory_mb", [1024, 1769, 3008])
def test_the_function_answers_every_event_in_the_box(
    function: Rootfs, variables: dict[str, str], memory_mb: int
) -> None:
    """With the layer, Lambda's limits and none of the machine's comforts, each sample event gets its status."""
    with Box(function, "app.lambda_handler", memory_mb=memory_mb, variables=variables) as box:
        answered = {}
        for name in sorted(STATUS):
            outcome = box.invoke((EVENTS / f"{name}.json").read_bytes())
            assert not outcome.failed, box.log()
            answered[name] = json.loads(outcome.payload)["statusCode"]
        assert answered == STATUS
        assert box.limits.peak_bytes() < memory_mb * 1024 * 1024


def test_what_lambda_does_not_have_is_hidden(probes: Rootfs) -> None:
    """Paths that Docker and developers' machines have, and Lambda has not, are not there."""
    assert ask(probes, "look", {"paths": [hidden.path for hidden in HIDDEN]})["dates"] == {}


def test_packages_are_read_only_with_the_date_of_sams_zips(probes: Rootfs) -> None:
    """Files of the function date from 1980; nothing can be written but /tmp, and HOME is not there."""
    found = ask(probes, "look", {"paths": ["/var/task/probes.py"]})
    assert found["dates"] == {"/var/task/probes.py": ZIP_DATE}
    assert not Path(found["home"]).exists()
    folders = ["/", "/var/task", "/opt", "/var/runtime", "/dev", "~", "/tmp"]
    assert ask(probes, "write", {"paths": folders}) == {
        **dict.fromkeys(("/", "/var/task", "/opt", "/var/runtime", "/dev"), "read-only"),
        "~": "FileNotFoundError",
        "/tmp": "written",
    }


def test_the_user_is_lambdas(probes: Rootfs) -> None:
    """The function runs as Lambda's unprivileged user, with no other group."""
    assert ask(probes, "look", {"paths": []})["user"] in ([USER, GROUP], [USER, GROUP, GROUP])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own files that the box's user may not read")
def test_a_file_that_others_may_not_read_is_closed(probes: Rootfs) -> None:
    """A package with a file of mode 600 fails in the box as it does on Lambda."""
    with Box(probes, "probes.read", memory_mb=512) as box:
        outcome = box.invoke(b'{"path": "/var/task/secret.txt"}')
    assert outcome.failed
    assert json.loads(outcome.payload)["errorType"] == "PermissionError"


def test_multiprocessing_locks_fail_as_on_lambda(probes: Rootfs) -> None:
    """Without /dev/shm there are no named semaphores."""
    with Box(probes, "probes.lock", memory_mb=512) as box:
        outcome = box.invoke(b"{}")
    assert outcome.failed
    assert json.loads(outcome.payload)["errorType"] in ("OSError", "FileNotFoundError")


def test_tmp_holds_512_mb(probes: Rootfs) -> None:
    """500 MB fit into /tmp, and 513 MB do not."""
    assert ask(probes, "look", {"paths": []})["tmp"] == TMP_BYTES
    assert ask(probes, "fill", {"mb": 500}, memory_mb=3008) == 500 * 1024 * 1024
    with Box(probes, "probes.fill", memory_mb=3008) as box:
        outcome = box.invoke(b'{"mb": 513}')
    assert outcome.failed
    assert "No space left" in json.loads(outcome.payload)["errorMessage"]


def test_memory_is_limited(probes: Rootfs) -> None:
    """What fits runs; a function that uses more than its memory is ended, and the box's peak shows the limit."""
    assert ask(probes, "allocate", {"mb": 300}, memory_mb=512) == 300 * 1024 * 1024
    with Box(probes, "probes.allocate", memory_mb=512) as box:
        try:
            assert box.invoke(b'{"mb": 600}').failed
        except BoxError as error:  # the kernel may end the emulator with it
            assert "gone" in str(error)
        assert box.limits.peak_bytes() >= 500 * 1024 * 1024


def test_cpu_is_in_proportion_to_memory(probes: Rootfs) -> None:
    """At 442 MB a busy function is held back to a quarter of a CPU."""
    assert cpu_quota_us(MB_PER_VCPU) == PERIOD_US
    with Box(probes, "probes.burn", memory_mb=442) as box:
        box.invoke(b'{"seconds": 0}')
        got = json.loads(box.invoke(b'{"seconds": 2}').payload)
    assert got < 1.0


def test_nothing_is_left_behind(probes: Rootfs) -> None:
    """A stopped box leaves no process and no control group."""
    with Box(probes, "probes.look", memory_mb=512) as box:
        box.invoke(b'{"paths": []}')
        session = box._child.process.pid
        assert members(session)
    assert members(session) == []
    assert [path.name for path in ROOT.rglob(f"lambda-torch-{os.getpid()}-*")] == []
