"""One execution environment behaves as Lambda's does."""

import os
import signal
import sysconfig
from pathlib import Path

import pytest

from integration.emulator.conftest import PROBE, MakeEnvironment, event, said, wait_until
from lambda_torch.emulator import software
from lambda_torch.emulator.function import PAYLOAD_LIMIT
from lambda_torch.emulator.guardian import members
from lambda_torch.errors import EnvironmentLostError, InitError


def test_events_go_to_one_process(make_environment: MakeEnvironment) -> None:
    """Events are answered by one function process, which stays; the first one's start-up is measured."""
    environment = make_environment()
    before = environment.init_ms
    assert before is None
    first, second = environment.invoke(event(a=1)), environment.invoke(event(a="é"))
    assert (first.failed, said(first)["event"], said(second)["event"]) == (False, {"a": 1}, {"a": "é"})
    assert said(first)["pid"] == said(second)["pid"]
    assert wait_until(lambda: (environment.init_ms or 0) > 0)  # a thread reads it from the log


def test_the_function_sees_lambdas_environment_and_not_the_developers(
    make_environment: MakeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda's variables and the function's own are set; what the developer's shell holds is not."""
    monkeypatch.setenv("AWS_PROFILE", "of-the-developer")
    environment = make_environment(memory_mb=1769, timeout_seconds=20, name="Probe", variables={"MODEL_BUCKET": "b"})
    seen = said(environment.invoke(event(do="describe")))
    wanted = {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "20",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": str(PROBE),
        "MODEL_BUCKET": "b",
        "_HANDLER": "probe.handler",
    }
    assert wanted.items() <= seen["variables"].items()
    assert not {"AWS_PROFILE", "LAMBDA_EMULATOR_PATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"} & seen["variables"].keys()
    assert (seen["cwd"], seen["memory"], seen["path"][0]) == (str(PROBE), "1769", str(PROBE))
    assert Path(seen["variables"]["TMPDIR"]).is_dir()
    environment.stop()
    assert not Path(seen["variables"]["TMPDIR"]).exists()


def test_only_the_layers_own_folders_can_be_imported_from(make_environment: MakeEnvironment, tmp_path: Path) -> None:
    """With a layer, the function finds the layer's modules, and none of the packages that the developer has installed."""
    site = Path(sysconfig.get_paths()["purelib"])
    layer, runtime = tmp_path / "layer", tmp_path / "runtime"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "torch.py").write_text("")
    runtime.mkdir()
    for pattern in ("awslambdaric", "runtime_client*", "snapshot_restore_py*", "simplejson"):
        for module in site.glob(pattern):
            (runtime / module.name).symlink_to(module)
    chosen = software.Software("a layer", (layer / "python", runtime), layer)
    environment = make_environment(software=chosen)
    assert said(environment.invoke(event(do="import", module="torch"))) is True
    for name in ("numpy", "yaml", "lambda_torch", "pip"):
        outcome = environment.invoke(event(do="import", module=name))
        assert (outcome.failed, said(outcome)["errorType"]) == (True, "ModuleNotFoundError"), name
    seen = said(environment.invoke(event(do="describe")))
    assert seen["path"][:3] == [str(PROBE), str(layer / "python"), str(runtime)]
    assert str(layer / "lib") in seen["variables"]["LD_LIBRARY_PATH"].split(":")


def test_an_exception_is_a_failure_with_its_type_and_message(make_environment: MakeEnvironment) -> None:
    """An exception of the handler is told as Lambda tells it, and the process lives on."""
    environment = make_environment()
    before = said(environment.invoke(event()))["pid"]
    outcome = environment.invoke(event(do="raise"))
    assert outcome.failed
    assert (said(outcome)["errorType"], said(outcome)["errorMessage"]) == ("RuntimeError", "as ordered")
    assert said(environment.invoke(event()))["pid"] == before


def test_a_function_that_exits_is_started_again(make_environment: MakeEnvironment) -> None:
    """When the function's process ends, that invocation fails and the next one gets a new process."""
    environment = make_environment()
    before = said(environment.invoke(event()))["pid"]
    outcome = environment.invoke(event(do="exit"))
    assert (outcome.failed, said(outcome)["errorType"]) == (True, "Runtime.ExitError")
    assert said(environment.invoke(event()))["pid"] != before


def test_a_function_that_takes_too_long_is_ended(make_environment: MakeEnvironment) -> None:
    """Over its time limit a function is ended, the failure says so, and the next event is served."""
    environment = make_environment(timeout_seconds=2)
    outcome = environment.invoke(event(do="sleep", seconds=60))
    assert (outcome.failed, said(outcome)["errorType"]) == (True, "Sandbox.Timedout")
    assert "timed out after 2.00 seconds" in said(outcome)["errorMessage"]
    assert not environment.invoke(event()).failed


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("FAIL_AT_START", "ValueError: the start-up of the probe fails\n  File .*, line "),
        ("EXIT_AT_START", "its process ended. The last lines of its log:"),
    ],
)
def test_a_start_up_that_fails_is_told_with_its_reason(
    make_environment: MakeEnvironment, variable: str, reason: str
) -> None:
    """A function whose module raises at its import gives the exception and its place; one that exits, the end of its log."""
    environment = make_environment(variables={variable: "1"})
    with pytest.raises(InitError, match=rf"The function does not start: {reason}") as raised:
        environment.initialise(event())
    assert "importlib" not in str(raised.value)


def test_the_log_has_the_functions_lines_only(make_environment: MakeEnvironment) -> None:
    """What the function prints reaches the sink; the emulator's own notes do not."""
    lines: list[str] = []
    environment = make_environment(on_line=lines.append)
    environment.invoke(event(do="write", text="grüße"))
    environment.stop()
    assert lines == ["grüße"]


def test_too_large_events_are_refused_before_they_are_cut_off(make_environment: MakeEnvironment) -> None:
    """An event at Lambda's limit arrives whole; a larger one is refused."""
    environment = make_environment()
    fill = PAYLOAD_LIMIT - len(event(text=""))
    with pytest.raises(ValueError, match=r"Lambda's limit is"):
        environment.invoke(event(text="x" * (fill + 1)))
    outcome = environment.invoke(event(do="none", text="x" * (fill - len('"do": "none", '))))
    assert "errorType" not in said(outcome) or said(outcome)["errorType"] == "Function.ResponseSizeTooLarge"


def test_stopping_leaves_no_process(make_environment: MakeEnvironment) -> None:
    """The emulator, the function and what the function started are gone after the stop."""
    environment = make_environment()
    started = said(environment.invoke(event(do="spawn")))
    session = os.getsid(started)
    assert len(members(session)) >= 3
    environment.stop()
    assert members(session) == []


def test_a_killed_emulator_is_a_lost_environment(make_environment: MakeEnvironment) -> None:
    """Without its emulator an environment says that it is lost."""
    environment = make_environment()
    os.kill(os.getsid(said(environment.invoke(event()))["pid"]), signal.SIGKILL)
    with pytest.raises(EnvironmentLostError, match="probe is lost"):
        environment.invoke(event())


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import multiprocessing as m; m.Queue()", "num_workers=0"),
        (
            "from multiprocessing.shared_memory import SharedMemory as S; s = S(create=True, size=9); s.close(); s.unlink()",
            "shared memory",
        ),
    ],
)
def test_what_lambda_has_no_shared_memory_for_is_told(make_environment: MakeEnvironment, code: str, what: str) -> None:
    """A lock between processes or shared memory works here, and the log says that it does not on Lambda, and what to do."""
    lines: list[str] = []
    environment = make_environment(on_line=lines.append)
    assert not environment.invoke(event(do="execute", code=f"{code}\n{code}")).failed
    assert wait_until(lambda: any("Lambda has no /dev/shm" in line and what in line for line in lines))
    assert len([line for line in lines if line.startswith("NOTE: ")]) == 1
