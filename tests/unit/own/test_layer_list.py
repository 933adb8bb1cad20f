"""`lambda-torch layer add`, `remove` and `list`: what a user adds to the layer, tried before it is written."""

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambda_torch import project
from lambda_torch.cli import main
from lambda_torch.errors import PackagesError
from lambda_torch.packages import layer_list, local, resolving


def wheel(folder: Path, name: str, version: str, requires: str = "", tag: str = "py3-none-any") -> None:
    """Write a wheel with one module."""
    records = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}/__init__.py": "VALUE = 1\n" * 100,
        f"{records}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{records}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{records}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{records}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of a checkout that adds nothing yet, and an index of small wheels."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "oak", "1.0")
    wheel(wheels, "oak", "1.2", "acorn")
    wheel(wheels, "acorn", "3.0")
    wheel(wheels, "elm", "1.0", tag="cp27-cp27m-win32")
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(wheels)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(project, "OWN", None)
    monkeypatch.setattr(layer_list, "EXTRA", tmp_path / "extra-requirements.txt")
    installed = local.installed_from
    monkeypatch.setattr(
        local, "installed_from", lambda file, report, shown=None: installed(file, report, tmp_path / "build", shown)
    )
    return tmp_path / "extra-requirements.txt"


def test_what_is_added_is_pinned_installed_and_measured(listed: Path) -> None:
    """A name becomes the version that pip found; what it requires is shown, but not written."""
    done = CliRunner().invoke(main, ["layer", "add", "oak", "--json"])
    assert done.exit_code == 0, done.output
    packages = json.loads(done.stdout[done.stdout.index("{") :])["packages"]
    assert [(each["name"], each["version"], each["place"], each["asked"]) for each in packages] == [
        ("acorn", "3.0", "layer", False),
        ("oak", "1.2", "layer", True),
    ]
    assert all(each["bytes"] > 1000 and each["in_layer"] > 1000 for each in packages)
    assert resolving.lines_of(listed) == ["oak==1.2"]
    assert "oak 1.2" in CliRunner().invoke(main, ["layer", "list"]).stdout


def test_a_name_is_replaced_and_removed(listed: Path) -> None:
    """The list has each name once; without names the file goes away, so that a build is the plain one."""
    for version in ("oak", "OAK==1.0"):
        assert CliRunner().invoke(main, ["layer", "add", version]).exit_code == 0
    assert resolving.lines_of(listed) == ["OAK==1.0"]
    done = CliRunner().invoke(main, ["layer", "remove", "oak"])
    assert done.exit_code == 0, done.output
    assert not listed.exists()
    assert "adds no packages" in CliRunner().invoke(main, ["layer", "list"]).stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("elm", "elm"),
        ("nothing-like-it", "nothing-like-it"),
        ("torch", "already"),
        ("!", "not the name"),
        ("oak==9", "oak"),
    ],
)
def test_what_cannot_be_added_leaves_the_list_as_it_was(listed: Path, name: str, said: str) -> None:
    """A wheel for another machine, an unknown name, a version that is not there, what the layer has: each is refused."""
    listed.write_text("# mine\noak==1.0\n")
    with pytest.raises(PackagesError, match=said) as caught:
        layer_list.add([name], lambda _text: None)
    assert "Next: " in str(caught.value)
    # The list is tried as a copy, whose name nobody knows.
    assert tempfile.gettempdir() not in str(caught.value).replace(str(listed), "")
    assert listed.read_text() == "# mine\noak==1.0\n"


def test_a_package_that_contradicts_the_layers_is_told_with_both(listed: Path) -> None:
    """Where a package wants another NumPy than the layer has, the message has both versions."""
    wheel(listed.parent / "wheels", "ash", "1.0", "numpy<2")
    with pytest.raises(
        PackagesError, match=r"(?s)ash 1\.0 depends on numpy<2.*\(constraint\) numpy==\d.*Next: "
    ) as caught:
        layer_list.add(["ash"], lambda _text: None)
    assert str(listed) in str(caught.value)
    assert not listed.exists()


def test_a_name_that_is_not_listed_cannot_be_removed(listed: Path) -> None:
    """The message says which names there are."""
    listed.write_text("oak==1.0\n")
    with pytest.raises(PackagesError, match=r"does not name elm: it names oak"):
        layer_list.remove(["elm"], lambda _text: None)


def test_a_model_may_import_what_the_layer_brings(listed: Path, tmp_path: Path) -> None:
    """A module of a package in the layer's list is not missing, though the model's own requirements lack it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("import oak\n")
    assert [each.place.module for each in local.missing(tmp_path, None)] == ["oak"]
    listed.write_text("oak==1.2\n")
    folder = local.installed_from(listed, lambda _text: None)
    assert local.missing(tmp_path, None, folder) == []


def test_packages_that_the_built_layer_has_are_taken_from_there(tmp_path: Path) -> None:
    """Each distribution must be there in the same version; without a layer none is."""
    packages, layer = tmp_path / "packages", tmp_path / "layer"
    for name in ("packages/oak-1.0.dist-info", "packages/elm-2.0.dist-info", "layer/python/oak-1.0.dist-info"):
        (tmp_path / name).mkdir(parents=True)
    assert not local.are_in(None, packages)
    assert not local.are_in(layer, packages)
    (layer / "python" / "elm-2.0.dist-info").mkdir()
    assert local.are_in(layer, packages)


def test_in_a_project_the_list_is_that_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file says what the model's code needs, wherever it goes."""
    monkeypatch.setattr(project, "OWN", tmp_path)
    assert layer_list.file() == tmp_path / "model" / "requirements.txt"
