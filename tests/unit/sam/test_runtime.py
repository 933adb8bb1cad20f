import subprocess
from pathlib import Path

import pytest

from lambda_torch import project
from lambda_torch.errors import UnknownRuntimeError
from lambda_torch.sam import runtime
from lambda_torch.sam.runtime import PythonRuntime


def test_the_template_names_one_runtime() -> None:
    """Function and layer of the project's template are for the same Python, one that runs on Amazon Linux 2023."""
    assert runtime.of_template() in (
        PythonRuntime("python3.12"),
        PythonRuntime("python3.13"),
        PythonRuntime("python3.14"),
    )


def test_a_template_with_two_runtimes_is_refused(tmp_path: Path) -> None:
    """A function for another Python than its layer's is told before anything is built."""
    template = tmp_path / "template.yaml"
    template.write_text("Runtime: python3.12\nCompatibleRuntimes: [python3.13]\n")
    with pytest.raises(UnknownRuntimeError, match=r"python3\.12 and python3\.13"):
        runtime.of_template(template)


def test_the_environment_decides_without_asking_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """LAMBDA_TORCH_RUNTIME names the runtime; a name that is none is refused."""
    monkeypatch.setenv(runtime.VARIABLE, "python3.14")
    assert runtime.choose(print) == PythonRuntime("python3.14")
    monkeypatch.setenv(runtime.VARIABLE, "ruby3.4")
    with pytest.raises(UnknownRuntimeError, match=r"ruby3\.4"):
        runtime.choose(print)


def test_another_runtime_gets_a_copy_of_the_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy names the other runtime everywhere and is otherwise the template; the template's own runtime needs no copy."""
    monkeypatch.setattr(project, "BUILD", tmp_path)
    named = runtime.of_template()
    assert runtime.template_for(named) == project.TEMPLATE
    copy = runtime.template_for(PythonRuntime("python3.99"))
    assert copy.read_text().replace("python3.99", named.name) == project.TEMPLATE.read_text()


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (None, "x86_64"),
        ('[default.deploy.parameters]\nparameter_overrides = "Architecture=arm64"\n', "x86_64"),
        ('[default.global.parameters]\nparameter_overrides = "MemorySize=2048 Architecture=arm64"\n', "arm64"),
        ('[default.build.parameters]\nparameter_overrides = ["Architecture=arm64"]\n', "arm64"),
    ],
)
def test_the_stacks_parameter_names_the_processors(tmp_path: Path, configuration: str | None, expected: str) -> None:
    """The processors are the parameter's default, or what samconfig.toml gives to `sam build`."""
    template = tmp_path / "template.yaml"
    template.write_text(project.TEMPLATE.read_text())
    if configuration is not None:
        (tmp_path / "samconfig.toml").write_text(configuration)
    assert runtime.architecture_of(template) == expected


@pytest.mark.parametrize(
    "text", ['[default.build.parameters]\nparameter_overrides = "Architecture=mips"\n', "[default"]
)
def test_processors_that_lambda_does_not_have_are_refused(tmp_path: Path, text: str) -> None:
    """A value that is neither x86_64 nor arm64, or a file that is not TOML, is told with the file to correct."""
    template = tmp_path / "template.yaml"
    template.write_text(project.TEMPLATE.read_text())
    (tmp_path / "samconfig.toml").write_text(text)
    with pytest.raises(UnknownRuntimeError, match=r"samconfig\.toml"):
        runtime.architecture_of(template)


@pytest.mark.parametrize(
    ("default", "platform"), [("x86_64", "manylinux_2_28_x86_64"), ("arm64", "manylinux_2_28_aarch64")]
)
def test_pip_is_asked_for_wheels_of_the_stacks_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str, platform: str
) -> None:
    """A stack for arm64 needs torch's wheel for aarch64, on whatever machine it is built."""
    asked: list[list[str]] = []

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    template = tmp_path / "template.yaml"
    template.write_text(project.TEMPLATE.read_text().replace("Default: x86_64", f"Default: {default}"))
    assert runtime.choose(print, template) == runtime.of_template()
    assert asked[0][asked[0].index("--platform") + 1] == platform
