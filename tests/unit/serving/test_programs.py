"""Programs in releases: honest ones load, hostile ones are refused before torch reads them."""

import dataclasses
import pickle
import shutil
import typing
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from program_kit import models
from program_kit.archives import by_torch, layout_of, pack, records_of
from program_kit.hostile import HOSTILE, MODEL, SCRIPT, code_of
from serving.releases import format, screening
from serving.releases.programs import divisions, expressions, operators, schema, script_parser, seen
from serving.releases.programs.check import check_program
from serving.releases.programs.fields import Fields, OneField
from serving.releases.programs.refusal import Kind, ProgramError
from serving.releases.programs.script_text import ScriptFile

# run_decompositions copies trees in a way that torch itself has deprecated; TorchScript is deprecated in torch 2.13.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

SIGNED = st.integers(-(2**63), 2**63 - 1)


def kind_of(name: str) -> Kind:
    """The kind of program, by its name."""
    return "torch.export" if name.endswith(".pt2") else "torchscript"


@pytest.fixture(scope="module")
def folder() -> Path:
    """The sample programs."""
    return models.written()


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    """One of them, of torch.export."""
    return folder / "scaled.pt2"


@pytest.fixture(scope="module")
def scripted(folder: Path) -> Path:
    """One of them, of TorchScript."""
    return folder / "mlp-scripted.torchscript"


def answers(value: Any) -> list[torch.Tensor]:
    """The tensors in a model's answer."""
    return [torch.as_tensor(each) for each in torch.utils._pytree.tree_leaves(value)]


def loaded(path: Path) -> Any:
    """The program, as torch loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        return torch.jit.load(str(path))


@pytest.mark.parametrize("name", models.names())
def test_real_models_are_let_through_and_answer_as_their_modules(folder: Path, name: str) -> None:
    """What torch writes for usual networks passes before and after torch has read it, and answers as the module."""
    check_program(folder / name, kind_of(name))
    seen.check(folder / name, kind_of(name))
    sample = models.SAMPLES[name.partition(".")[0].partition("-")[0]]
    inputs = torch.load(folder / f"{name.partition('.')[0].partition('-')[0]}.inputs", weights_only=True)
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = sample.make().eval()(*inputs)
        found = loaded(folder / name)(*inputs)
    for one, other in zip(answers(found), answers(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["scaled.pt2", "lstm-scripted.torchscript", "resnet-traced.torchscript"])
def test_the_tests_write_archives_as_torch_does(folder: Path, tmp_path: Path, name: str) -> None:
    """An archive that the tests lay out is let through, and so is the same archive when torch writes it again."""
    records = records_of(folder / name)
    path = tmp_path / name
    path.write_bytes(pack(records))
    check_program(path, kind_of(name))
    assert records_of(path) == records
    check_program(by_torch(tmp_path / f"again-{name}", records.items()), kind_of(name))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_are_refused(tmp_path: Path, name: str) -> None:
    """A program that tries something is refused with one short line, and nothing of it ran."""
    hostile, marker, path = HOSTILE[name], tmp_path / "marker", tmp_path / "model"
    path.write_bytes(hostile.make(marker))
    with pytest.raises(ProgramError) as refused:
        check_program(path, hostile.kind)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert not marker.exists()


@pytest.mark.parametrize("name", [name for name, hostile in HOSTILE.items() if hostile.runs])
def test_torch_itself_would_run_them(tmp_path: Path, name: str) -> None:
    """Without the check, loading these runs what is in them."""
    path, marker = tmp_path / "model.pt2", tmp_path / "marker"
    path.write_bytes(HOSTILE[name].make(marker))
    try:
        loaded(path)
    except Exception as error:
        assert error
    assert marker.exists()


@pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization.*:DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
@pytest.mark.parametrize("engine", [name for name in torch.backends.quantized.supported_engines if name != "none"])
def test_quantised_programs_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Weights that are packed for one engine (fbgemm and x86 are none of arm64) are refused by the operator, with a next step."""
    monkeypatch.setattr(torch.backends.quantized, "engine", engine)
    network = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)), {torch.nn.Linear})
    torch.jit.trace(network, torch.zeros(1, 4)).save(str(tmp_path / "model"))
    with pytest.raises(ProgramError, match=r"linear_dynamic is not let through: .* for one engine .*Next: "):
        check_program(tmp_path / "model", "torchscript")


def test_there_are_at_least_forty_kinds() -> None:
    """The table has forty kinds of hostile programs or more, each of which says what it tries."""
    assert len(HOSTILE) >= 40
    assert all(hostile.tries for hostile in HOSTILE.values())


SEEN = {
    "y = torch.remainder(4, torch.dim(input))\n    z = torch.mul_(bias, y)": "aten::remainder by what is not a fixed number",
    "y = torch.floordiv(4, torch.len([1]))\n    z = torch.mul_(bias, y)": "aten::floordiv by what is not a fixed number",
    "y = torch.remainder(torch.dim(input), 0)\n    z = torch.mul_(bias, y)": "aten::remainder by what is not a fixed number",
    'y = torch.div(input, input, rounding_mode="trunc")\n    z = torch.mul_(bias, y)': "aten::div by what is not a fixed number",
    'y = torch.div(input, -1, rounding_mode="floor")\n    z = torch.mul_(bias, y)': "aten::div by what is not a fixed number",
    "y = torch.floor_divide(input, input)\n    z = torch.mul_(bias, y)": "aten::floor_divide by what is not a fixed number",
    "y = torch.floor_divide_(input, bias)\n    z = torch.mul_(bias, y)": "aten::floor_divide_ by what is not a fixed number",
    "y = torch.remainder(input, -1)\n    z = torch.mul_(bias, y)": "aten::remainder by what is not a fixed number",
    "y = torch.remainder(input, 4294967295)\n    z = torch.mul_(bias, y)": "aten::remainder by what is not a fixed number",
    "y = torch.remainder(3, input)\n    z = torch.mul_(bias, y)": "aten::remainder by what is not a fixed number",
    "y = torch.fmod(input, input)\n    z = torch.mul_(bias, y)": "aten::fmod by what is not a fixed number",
    "y = torch.clone(input, memory_format=4)\n    z = torch.mul_(bias, y)": "aten::clone with a type or a layout",
    "y = torch.to(input, 99)\n    z = torch.mul_(bias, y)": "aten::to with a type or a layout",
    "y = torch.to(input, None, None, False, True)\n    z = torch.mul_(bias, y)": "aten::to with None",
    "y = unchecked_cast(List[int], input)\n    z = torch.append(y, 1)": "prim::unchecked_cast to List",
    "y = (input).as_strided([4], [1])\n    z = torch.add_(y, 1)": "aten::as_strided",
    "y = (input).resize_([4])": "aten::resize_",
}


@pytest.mark.parametrize("statement", SEEN)
def test_what_only_torch_can_tell_is_found_once_torch_has_read_it(
    scripted: Path, tmp_path: Path, statement: str
) -> None:
    """Casts to another type, operators called like methods, and divisions that may end the process are found then."""
    records = records_of(scripted)
    name = code_of(records)
    records[name] = records[name].replace(
        b"    return torch.linear", f"    {statement}\n    return torch.linear".encode()
    )
    path = tmp_path / "model.torchscript"
    path.write_bytes(pack(records))
    with pytest.raises(ProgramError) as refused:
        seen.check(path, SCRIPT)
    assert SEEN[statement] in str(refused.value)


class Divides(torch.nn.Module):
    """Divides its input by something, in one of several ways."""

    fixed: torch.Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.divisor = 3
        self.register_buffer("fixed", torch.tensor([7]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Divide."""
        match self.way:
            case "number":
                return x // 2 + x % 5 + torch.div(x, 4, rounding_mode="floor") + torch.fmod(x, 7)
            case "attribute":
                return x % self.divisor
            case "size":
                return x.reshape(x.shape[0] // 2, -1).remainder(x.shape[1])
            case "fraction":
                return x / x
            case "tensor":
                return x % self.fixed
            case "input":
                return torch.div(x, x, rounding_mode="trunc")
        return torch.floor_divide(x, -1)


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
@pytest.mark.parametrize(
    ("way", "passes"),
    [
        ("number", True),
        ("attribute", True),
        ("size", True),
        ("fraction", True),
        ("tensor", False),
        ("input", False),
        ("least", False),
    ],
)
def test_a_division_passes_where_its_divisor_is_known(tmp_path: Path, kind: str, way: str, passes: bool) -> None:
    """Real programs divide by fixed numbers and sizes; by a tensor, which may hold -1, none may divide whole numbers."""
    path, example = tmp_path / f"model.{kind}", torch.arange(1, 13).reshape(4, 3)
    if kind == "pt2":
        torch.export.save(torch.export.export(Divides(way), (example,)), path)
    else:
        torch.jit.trace(Divides(way), (example,)).save(str(path))
    if passes:
        seen.check(path, kind_of(path.name))
    else:
        with pytest.raises(ProgramError, match="by what is not a fixed number"):
            seen.check(path, kind_of(path.name))


@given(SIGNED | st.integers() | st.floats(), SIGNED)
def test_a_harmless_divisor_is_never_minus_one(divisor: float, number: int) -> None:
    """Whatever number torch makes of it, in 32 or in 64 bits, a divisor that passes is neither 0 nor -1."""
    if divisions.is_harmless(divisor) and isinstance(divisor, int):
        for bits in (32, 64):
            cut = divisor & (2**bits - 1)
            assert cut != 2**bits - 1
        assert divisor != 0


@pytest.mark.parametrize("cut", [0, 10, 500, -30, -1])
@pytest.mark.parametrize("name", ["scaled.pt2", "mlp-scripted.torchscript"])
def test_truncated_programs_are_refused(folder: Path, tmp_path: Path, name: str, cut: int) -> None:
    """A file that is not a whole archive is refused."""
    path = tmp_path / name
    path.write_bytes((folder / name).read_bytes()[:cut])
    with pytest.raises(ProgramError):
        check_program(path, kind_of(name))


def test_every_byte_outside_of_contents_is_accounted_for(exported: Path, tmp_path: Path) -> None:
    """Whichever byte of the archive's own structure is changed, the archive is refused."""
    content = exported.read_bytes()
    layout = layout_of(records_of(exported))
    inside = bytearray(len(content))
    for entry in layout.entries:
        place = content.find(entry.content)
        while entry.content and place >= 0:
            inside[place : place + len(entry.content)] = b"\1" * len(entry.content)
            place = content.find(entry.content, place + 1)
    path = tmp_path / "model.pt2"
    # The archive's folder may have any name, the same in both places; a single byte cannot change both.
    for place in [index for index, each in enumerate(inside) if not each][::7]:
        path.write_bytes(content[:place] + bytes((content[place] ^ 1,)) + content[place + 1 :])
        with pytest.raises(ProgramError):
            check_program(path, "torch.export")


def fields_of(kind: type[Any]) -> set[str]:
    """The fields of a dataclass of torch's schema."""
    return {field.name for field in dataclasses.fields(kind)}


def records(check: Any, kind: Any, found: dict[str, tuple[Any, type[Any]]]) -> None:
    """Each record of our table beside the dataclass of torch's schema that it stands for."""
    from torch._export.serde import schema as theirs

    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if isinstance(kind, str | typing.ForwardRef):
        kind = getattr(theirs, str(getattr(kind, "__forward_arg__", kind)))
    if not dataclasses.is_dataclass(kind) or not isinstance(check, Fields | OneField):
        return
    assert isinstance(kind, type)
    if kind.__name__ in found:
        return
    found[kind.__name__] = (check, kind)
    hints = typing.get_type_hints(kind, globalns=vars(theirs), include_extras=False)
    for name, inner in check.fields.items():
        records(inner, hints[name], found)


def test_the_table_has_the_fields_of_torchs_schema() -> None:
    """Each object in the table has the fields that torch's own schema gives it: none is missing, none is invented."""
    from torch._export.serde import schema as theirs

    found: dict[str, tuple[Any, type[Any]]] = {}
    for check, kind in (
        (schema.PROGRAM, theirs.ExportedProgram),
        (schema.GRAPH_MODULE, theirs.GraphModule),
        (schema.GRAPH, theirs.Graph),
        (schema.NODE, theirs.Node),
        (schema.ARGUMENT, theirs.Argument),
        (schema.TENSOR_META, theirs.TensorMeta),
        (schema.DEVICE, theirs.Device),
        (schema.PAYLOADS, theirs.PayloadConfig),
    ):
        records(check, kind, found)
    assert len(found) >= 8
    for check, kind in found.values():
        refused = set(check.refused) if isinstance(check, OneField) else set()
        assert set(check.fields) | refused == fields_of(kind), kind
    assert theirs.SCHEMA_VERSION[0] == 8


def test_every_operator_of_the_table_exists() -> None:
    """The table names operators that torch has, and none of those that it says it leaves out."""
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    names = {name for group in operators.ATEN.values() for name in group.names}
    assert {name for name in names if not {f"aten::{name}", f"aten::{name}_"} & known} == set()
    assert all(group.reason for group in operators.ATEN.values())
    for name in (
        "save",
        "from_file",
        "as_strided",
        "set_",
        "resize_",
        "empty",
        "rand",
        "_reshape_alias",
        "grid_sampler_2d",
    ):
        assert not operators.is_allowed(name)


@given(st.text(alphabet="SymbolIntegerAddMulPow()',= s7u01_9*+-/.TrueFalse", max_size=60))
def test_a_size_that_passes_is_made_of_numbers_and_symbols(text: str) -> None:
    """Whatever passes for a size has no names but those of the table, and is an integer expression for sympy."""
    try:
        expressions.check_size(text)
    except ProgramError:
        return
    import sympy  # type: ignore[import-untyped]

    assert isinstance(sympy.sympify(text), sympy.Basic)


@given(SIGNED, SIGNED, st.sampled_from(["+", "-", "*", "//", "%", "<", "<=", "==", "and", "or"]))
def test_guards_are_read_as_python_reads_them(one: int, other: int, sign: str) -> None:
    """A guard of numbers passes as long as Python reads it, whichever signs and brackets it has."""
    expressions.check_guard(f"({one} {sign} {other}) == L['x'].size()[0]")
    with pytest.raises(ProgramError):
        expressions.check_guard(f"{one} {sign}{sign} {other} <<")


@given(st.binary(max_size=200))
def test_any_bytes_as_code_are_parsed_or_refused(content: bytes) -> None:
    """The parser of TorchScript ends with a refusal or with a file, for any bytes."""
    try:
        assert isinstance(script_parser.parse(content, "code"), ScriptFile)
    except ProgramError as error:
        assert str(error)


def test_programs_are_off_until_they_are_allowed(exported: Path, scripted: Path, tmp_path: Path) -> None:
    """A release with a program is refused with the next step; where programs are allowed it passes."""
    shutil.copy(exported, tmp_path / "model.pt2")
    shutil.copy(scripted, tmp_path / "model.torchscript")
    (tmp_path / "model.json").write_text("{}")
    files = format.describe(tmp_path)
    assert {name: entry.format for name, entry in files.items()} == {
        "model.json": None,
        "model.pt2": "torch.export",
        "model.torchscript": "torchscript",
    }
    with pytest.raises(ValueError, match=r"model\.pt2 is a program .*AllowPrograms.*ALLOW_PROGRAMS"):
        screening.check(tmp_path, files)
    screening.check(tmp_path, files, allow_programs=True)
    records = records_of(exported)
    records[MODEL] = b"{}"
    (tmp_path / "model.pt2").write_bytes(pack(records))
    with pytest.raises(ValueError, match=r"^model\.pt2 lacks the field"):
        screening.check(tmp_path, format.describe(tmp_path), allow_programs=True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, protocol: int) -> None:
    """A pickle of protocol 2 or later is known by its content; an older one, which looks like text, by its usual name."""
    (tmp_path / ("weights.bin" if protocol >= 2 else "weights.pkl")).write_bytes(pickle.dumps({"a": 1}, protocol))
    with pytest.raises(ValueError, match=r"is a pickle.*Next: lambda-torch convert"):
        screening.check(tmp_path, format.describe(tmp_path))


@pytest.mark.parametrize("new_format", [True, False])
def test_what_torch_saves_is_refused(tmp_path: Path, new_format: bool) -> None:
    """A file of torch.save, which is a pickle with or without an archive around it, is refused."""
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match="lambda-torch convert"):
        screening.check(tmp_path, format.describe(tmp_path))
