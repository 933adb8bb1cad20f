"""Programs in releases: honest ones load, hostile ones are refused before torch reads them."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serving.releases import format, programs, screening

# run_decompositions copies trees in a way that torch itself has deprecated; an LSTM keeps its weights in a list too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights:UserWarning"),
]

Records = dict[str, bytes]
# torch's writer adds these itself.
WRITTEN = {"version", "byteorder", ".data/version", ".data/serialization_id"}


class SmallNetwork(nn.Module):
    """A layer, a buffer and a constant, over a batch of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Rows in, rows out."""
        return {"out": self.linear(x).relu() * self.scale * x.shape[0] + torch.tensor([1.0, 2.0, 3.0])}


@pytest.fixture(scope="module")
def model() -> SmallNetwork:
    """The module that the archives are made of."""
    torch.manual_seed(0)
    return SmallNetwork().eval()


@pytest.fixture(scope="module")
def exported(model: SmallNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, as torch.export.save writes it."""
    path = tmp_path_factory.mktemp("export") / "model.pt2"
    batch = torch.export.Dim("batch", min=2, max=64)
    torch.export.save(torch.export.export(model, (torch.randn(3, 4),), dynamic_shapes={"x": {0: batch}}), path)
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript archive, with getattr for the layers that have numbers for names."""
    path = tmp_path_factory.mktemp("script") / "model.torchscript"
    _quiet(lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()).save(str(path)))
    return path


def _quiet(action: Callable[[], Any]) -> Any:
    import warnings

    with warnings.catch_warnings():  # TorchScript is deprecated in torch 2.13; it is still read
        warnings.simplefilter("ignore")
        return action()


def records_of(path: Path) -> Records:
    """Every record of an archive."""
    reader = torch._C.PyTorchFileReader(str(path))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


def write(path: Path, records: Records) -> Path:
    """An archive with these records."""
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in records.items():
        if name not in WRITTEN:
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return path


def test_an_exported_program_is_let_through_and_answers(exported: Path, model: SmallNetwork) -> None:
    """What torch.export writes passes, and the program gives the module's own answers for another batch size."""
    programs.check(exported, "torch.export")
    loaded = torch.export.load(exported).module()
    x = torch.randn(7, 4)
    torch.testing.assert_close(loaded(x), model(x))


def test_a_torchscript_program_is_let_through_and_answers(scripted: Path) -> None:
    """What TorchScript writes passes, and runs."""
    programs.check(scripted, "torchscript")
    assert _quiet(lambda: torch.jit.load(str(scripted)))(torch.randn(2, 4)).shape == (2, 3)


@pytest.mark.parametrize("layers", [nn.LSTM(4, 4), nn.Sequential(nn.Conv1d(2, 2, 3), nn.BatchNorm1d(2), nn.GELU())])
def test_usual_layers_are_let_through(layers: nn.Module, tmp_path: Path) -> None:
    """Recurrent, convolutional and normalising layers export to operators that are let through, decomposed ones too."""
    program = torch.export.export(layers.eval(), (torch.randn(2, 2, 4),))
    for name, each in (("whole.pt2", program), ("decomposed.pt2", program.run_decompositions())):
        torch.export.save(each, tmp_path / name)
        programs.check(tmp_path / name, "torch.export")


class TouchesFile:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _graph(records: Records, change: Callable[[dict[str, Any]], None]) -> None:
    program = json.loads(records["models/model.json"])
    change(program)
    records["models/model.json"] = json.dumps(program).encode()


def _pickled(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((TouchesFile(marker),), buffer)
    return buffer.getvalue()


def example_inputs(records: Records, marker: Path) -> None:
    """A pickle in the place of the example inputs."""
    records["data/sample_inputs/model.pt"] = _pickled(marker)


def pickled_weight(records: Records, marker: Path) -> None:
    """A weight that says of itself that it is a pickle."""
    config = json.loads(records["data/weights/model_weights_config.json"])
    config["config"]["linear.weight"]["use_pickle"] = True
    records["data/weights/model_weights_config.json"] = json.dumps(config).encode()
    records["data/weights/weight_0"] = _pickled(marker)


def old_weights(records: Records, marker: Path) -> None:
    """Weights as older versions kept them: one pickle."""
    records["data/weights/model.pt"] = _pickled(marker)


def custom_object(records: Records, marker: Path) -> None:
    """A constant that is a pickled Python object."""
    config = json.loads(records["data/constants/model_constants_config.json"])
    entry = next(iter(config["config"].values()))
    config["config"]["more"] = {**entry, "path_name": "opaque_obj_0", "use_pickle": True}
    records["data/constants/model_constants_config.json"] = json.dumps(config).encode()
    records["data/constants/opaque_obj_0"] = pickle.dumps(TouchesFile(marker))


def evaluated_size(records: Records, marker: Path) -> None:
    """A size whose text is Python."""
    records["models/model.json"] = records["models/model.json"].replace(
        b"Symbol('s", f"__import__('pathlib').Path('{marker}').touch() or Symbol('s".encode(), 1
    )


def evaluated_guard(records: Records, marker: Path) -> None:
    """A guard whose text is Python."""
    _graph(records, lambda program: program.update(guards_code=[f"open('{marker}', 'w').close() is None"]))


def python_operator(records: Records, marker: Path) -> None:
    """A node that calls a Python function which torch happens to hold."""

    def change(program: dict[str, Any]) -> None:
        node = program["graph_module"]["graph"]["nodes"][-1]
        node["target"] = "torch.os.mkdir"
        node["inputs"] = [{"name": "", "arg": {"as_string": str(marker)}, "kind": 1}]

    _graph(records, change)


def variable_name(records: Records, marker: Path) -> None:
    """The name of an input becomes a parameter in generated Python code."""
    evil = f"x=open('{marker}', 'w')"
    records["models/model.json"] = records["models/model.json"].replace(b'"name": "x"', f'"name": "{evil}"'.encode())


def file_operator(records: Records, marker: Path) -> None:
    """The operator that maps files."""
    _graph(
        records,
        lambda program: program["graph_module"]["graph"]["nodes"][0].update(target="torch.ops.aten.from_file.default"),
    )


def native_code(records: Records, marker: Path) -> None:
    """A compiled library, as AOTInductor packs them."""
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


def named_tuple(records: Records, marker: Path) -> None:
    """A type to be looked up by name."""
    _graph(records, lambda program: program["graph_module"].update(treespec_namedtuple_fields={"os.Evil": ["a"]}))


HOSTILE = [
    *(example_inputs, pickled_weight, old_weights, custom_object, evaluated_size, evaluated_guard, python_operator),
    *(variable_name, file_operator, native_code, named_tuple),
]
# Those that torch itself runs in a mere load: what is refused above is a danger indeed.
RUN_BY_LOADING = [example_inputs, pickled_weight, old_weights, custom_object, evaluated_size]


def hostile(exported: Path, folder: Path, make: Callable[[Records, Path], None]) -> tuple[Path, Path]:
    """The hostile archive, and the file that it makes if it gets its way."""
    marker = folder / "marker"
    records = records_of(exported)
    make(records, marker)
    return write(folder / "model.pt2", records), marker


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_exports_are_refused(exported: Path, tmp_path: Path, make: Callable[[Records, Path], None]) -> None:
    """An export in which Python could run is refused, and none ran."""
    path, marker = hostile(exported, tmp_path, make)
    assert records_of(path) != records_of(exported)
    with pytest.raises(programs.ProgramError):
        programs.check(path, "torch.export")
    assert not marker.exists()


@pytest.mark.parametrize("make", RUN_BY_LOADING, ids=lambda make: make.__name__)
def test_torch_itself_would_run_them(exported: Path, tmp_path: Path, make: Callable[[Records, Path], None]) -> None:
    """Without the check, loading these runs what is in them."""
    path, marker = hostile(exported, tmp_path, make)
    try:
        _quiet(lambda: torch.export.load(path))
    except Exception as error:
        assert error
    assert marker.exists()


@pytest.mark.parametrize("kind", ["torch.export", "torchscript"])
def test_a_zip_bomb_is_refused(exported: Path, scripted: Path, tmp_path: Path, kind: programs.Kind) -> None:
    """An archive that unpacks to far more than its own size is refused by its directory alone."""
    path = Path(shutil.copy(exported if kind == "torch.export" else scripted, tmp_path))
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/data/weights/weight_99", bytes(64 * 1024 * 1024))
    assert path.stat().st_size < 200_000
    with pytest.raises(programs.ProgramError, match="zip bomb"):
        programs.check(path, kind)


def test_an_archive_that_readers_see_in_two_ways_is_refused(exported: Path, tmp_path: Path) -> None:
    """A record outside the archive's folder, which torch's fallback for old versions would read, is refused."""
    path = Path(shutil.copy(exported, tmp_path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("version", "8.20")
    with pytest.raises(programs.ProgramError):
        programs.check(path, "torch.export")


@pytest.mark.parametrize(
    "code", ['torch.save(x, "/tmp/x")', 'torch.from_file("/etc/passwd")', 'getattr(torch, "s\\x61ve")(x, "f")']
)
def test_torchscript_may_not_open_files(scripted: Path, tmp_path: Path, code: str) -> None:
    """A TorchScript program that names an operator on files, spelt out or not, is refused."""
    records = records_of(scripted)
    name = next(name for name in records if name.endswith("linear.py"))
    records[name] += f"\ndef f(x: Tensor) -> Tensor:\n  {code}\n  return x\n".encode()
    path = write(tmp_path / "model.torchscript", records)
    with pytest.raises(programs.ProgramError):
        programs.check(path, "torchscript")


@pytest.mark.parametrize("cut", [0, 10, 500, -30])
def test_truncated_programs_are_refused(exported: Path, tmp_path: Path, cut: int) -> None:
    """A file that is not a whole archive is refused with one line."""
    path = tmp_path / "model.pt2"
    path.write_bytes(exported.read_bytes()[:cut])
    with pytest.raises(programs.ProgramError) as refused:
        programs.check(path, "torch.export")
    assert "\n" not in str(refused.value)


def test_names_declare_programs_and_everything_else_is_data(exported: Path, scripted: Path, tmp_path: Path) -> None:
    """A release's manifest declares *.pt2 and *.torchscript as programs; such a folder passes."""
    shutil.copy(exported, tmp_path)
    shutil.copy(scripted, tmp_path)
    (tmp_path / "model.json").write_text("{}")
    files = format.describe(tmp_path)
    assert {name: entry.format for name, entry in files.items()} == {
        "model.json": None,
        "model.pt2": "torch.export",
        "model.torchscript": "torchscript",
    }
    screening.check(tmp_path, files)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, protocol: int) -> None:
    """A pickle of any protocol from 2 on is known by its content; the older ones, which look like text, by their usual names."""
    (tmp_path / ("weights.bin" if protocol >= 2 else "weights.pkl")).write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(ValueError, match=r"is a pickle.*Next: lambda-torch convert"):
        screening.check(tmp_path, format.describe(tmp_path))


@pytest.mark.parametrize("new_format", [True, False])
def test_what_torch_saves_is_refused(tmp_path: Path, new_format: bool) -> None:
    """A file of torch.save, which is a pickle with or without an archive around it, is refused."""
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match="lambda-torch convert"):
        screening.check(tmp_path, format.describe(tmp_path))
