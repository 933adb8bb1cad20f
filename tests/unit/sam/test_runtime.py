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
