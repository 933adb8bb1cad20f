"""Programs that try something, each with what it tries. All of them are refused."""

import io
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from program_kit import models
from program_kit.archives import Entry, Layout, Records, layout_of, pack, records_of
from serving.releases.programs.refusal import Kind

EXPORT: Kind = "torch.export"
SCRIPT: Kind = "torchscript"
MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


@dataclass(frozen=True)
class Hostile:
    """A program that is refused.

    Attributes:
        tries: what it tries.
        kind: of program.
        make: gives its bytes. Takes a file that the program makes if it gets its way.
        runs: whether torch itself, without a check, makes that file when it loads the program.
    """

    tries: str
    kind: Kind
    make: Callable[[Path], bytes]
    runs: bool = False


HOSTILE: dict[str, Hostile] = {}


def _export() -> Records:
    return records_of(models.written() / "scaled.pt2")


def _script() -> Records:
    return records_of(models.written() / "mlp-scripted.torchscript")


def _laid_out(name: str, tries: str, kind: Kind = SCRIPT) -> Callable[[Callable[[Layout], Any]], None]:
    """A lie in the layout of the archive."""

    def add(change: Callable[[Layout], Any]) -> None:
        def make(_: Path) -> bytes:
            layout = layout_of(_export() if kind == EXPORT else _script())
            change(layout)
            return layout.pack()

        HOSTILE[name] = Hostile(tries, kind, make)

    return add


def _in_records(
    name: str, tries: str, kind: Kind, *, runs: bool = False
) -> Callable[[Callable[[Records, Path], Any]], None]:
    """A lie in the records of the archive."""

    def add(change: Callable[[Records, Path], Any]) -> None:
        def make(marker: Path) -> bytes:
            records = _export() if kind == EXPORT else _script()
            before = dict(records)
            change(records, marker)
            assert records != before
            return pack(records)

        HOSTILE[name] = Hostile(tries, kind, make, runs)

    return add


# The layout of the archive.

CODE = "modules/linear.py"


def code_of(records: Records) -> str:
    """The record of a linear layer's text."""
    return next(name for name in records if "linear" in name and name.endswith(".py"))


@_laid_out("capital letters", "a file of code in other case, which torch reads and a check by name does not")
def _(layout: Layout) -> None:
    entry = next(each for each in layout.entries if "/code/" in each.name)
    entry.name = entry.name.replace("code/", "CODE/")


@_laid_out("capital suffix", "a file of code whose suffix is in other case")
def _(layout: Layout) -> None:
    entry = next(each for each in layout.entries if each.name.endswith(".py"))
    entry.name = entry.name.removesuffix(".py") + ".PY"


@_laid_out("two spellings", "two records that torch takes for one, since it ignores case")
def _(layout: Layout) -> None:
    layout.entries.append(Entry("model/DATA.PKL", layout.entry("/data.pkl").content))


@_laid_out("twice", "a record twice, of which two readers read different ones")
def _(layout: Layout) -> None:
    layout.entries.append(Entry("model/data.pkl", b"\x80\x02N."))


@_laid_out("backslash", "a backslash for a slash")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "model\\data.pkl"


@_laid_out("dot in the path", "a path that goes through a dot")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "model/./data.pkl"


@_laid_out("two dots in the path", "a path that leaves the archive")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "model/../data.pkl"


@_laid_out("double slash", "a path with an empty part")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "model//data.pkl"


@_laid_out("absolute", "a path from the root of the machine")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "/tmp/data.pkl"


@_laid_out("zero in the name", "a name that C cuts off")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").name = "model/data.pkl\0.txt"


@_laid_out(
    "second folder", "a record in a folder beside the archive's, which Python's reader of old archives reads", EXPORT
)
def _(layout: Layout) -> None:
    layout.entries.append(Entry("other/version", b"8.20"))


@_laid_out("no folder", "a record in no folder", EXPORT)
def _(layout: Layout) -> None:
    layout.entries.append(Entry("version", b"8.20"))


@_laid_out("two names", "another name in the record's header than in the directory")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").local = "model/else.pkl"


@_laid_out("two methods", "packed by the directory, stored by the header")
def _(layout: Layout) -> None:
    next(each for each in layout.entries if each.deflate).local_method = 0


@_laid_out("two sizes", "another size behind the content than in the directory")
def _(layout: Layout) -> None:
    layout.entry("/data.pkl").described = 7


@_laid_out("damaged", "another checksum than the content's", EXPORT)
def _(layout: Layout) -> None:
    layout.entry(MODEL).crc = 1


@_laid_out("bytes before", "bytes before the first record: the file is something else as well")
def _(layout: Layout) -> None:
    layout.entries[0].before = b"#!/bin/sh\n"


@_laid_out("bytes between", "bytes between two records")
def _(layout: Layout) -> None:
    layout.entries[3].before = b"hidden"


@_laid_out("bytes before the directory", "bytes before the directory")
def _(layout: Layout) -> None:
    layout.gap = b"hidden"


@_laid_out("bytes behind", "bytes behind the end: another archive, for a reader that looks from there")
def _(layout: Layout) -> None:
    layout.behind = b"hidden"


@_laid_out("comment", "a comment, in which a second end can stand")
def _(layout: Layout) -> None:
    layout.comment = b"PK\x05\x06" + bytes(18)


@_laid_out("overlap", "two names for the same bytes")
def _(layout: Layout) -> None:
    layout.entries[1].offset = 0


@_laid_out("two counts", "another number of records in the second end")
def _(layout: Layout) -> None:
    layout.count = 1


@_laid_out("padding", "text in the place of padding")
def _(layout: Layout) -> None:
    layout.entries[2].filler = b"A"


@_laid_out("bomb", "64 MB of zeros in 64 kB", EXPORT)
def _(layout: Layout) -> None:
    layout.entries.append(Entry("model/data/weights/weight_99", bytes(80 * 1024 * 1024), deflate=True))


@_laid_out("bomb that lies", "zeros without end, of which the directory says a thousand bytes")
def _(layout: Layout) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    entry = next(each for each in layout.entries if each.deflate)
    entry.packed = packer.compress(bytes(64 * 1024 * 1024)) + packer.flush()


@_laid_out("behind the stream", "bytes behind the end of what is packed")
def _(layout: Layout) -> None:
    entry = next(each for each in layout.entries if each.deflate)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    entry.packed = packer.compress(entry.content) + packer.flush() + b"hidden"


# Exported programs.


def _graph(records: Records, change: Callable[[dict[str, Any]], Any]) -> None:
    program = json.loads(records[MODEL])
    change(program)
    records[MODEL] = json.dumps(program).encode()


def _payload(records: Records, change: Callable[[dict[str, Any]], Any], config: str = WEIGHTS) -> None:
    value = json.loads(records[config])
    change(value["config"])
    records[config] = json.dumps(value).encode()


def _node(program: dict[str, Any], index: int = -1) -> dict[str, Any]:
    node: dict[str, Any] = program["graph_module"]["graph"]["nodes"][index]
    return node


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _pickled(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(marker),), buffer)
    return buffer.getvalue()


def _touching(marker: Path) -> str:
    return f"__import__('pathlib').Path('{marker}').touch() or "


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {(new if key == old else key): _renamed(each, old, new) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, old, new) for each in value]
    return new if value == old else value


@_in_records("tensor named metadata", "sizes that Python evaluates, under a name that a check skips", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        graph = program["graph_module"]["graph"]
        notes = [node.pop("metadata") for node in graph["nodes"]]
        graph = program["graph_module"]["graph"] = _renamed(graph, "linear", "metadata")
        for node, note in zip(graph["nodes"], notes, strict=True):
            node["metadata"] = note
        size = graph["tensor_values"]["metadata"]["sizes"][0]["as_expr"]
        size["expr_str"] = _touching(marker) + size["expr_str"]

    _graph(records, change)


@_in_records("size", "a size that Python evaluates", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    records[MODEL] = records[MODEL].replace(b"Symbol('s", _touching(marker).encode() + b"Symbol('s", 1)


@_in_records("size by attribute", "a size that reaches Python through an attribute of a symbol", EXPORT)
def _(records: Records, marker: Path) -> None:
    records[MODEL] = records[MODEL].replace(b"integer=True)", b"integer=True).__class__.__mro__[-1]", 1)


@_in_records("tower of powers", "a size with more digits than the memory has", EXPORT)
def _(records: Records, _: Path) -> None:
    tower = b"Pow(Pow(Pow(Integer(9), Integer(8)), Integer(8)), Integer(8))"
    records[MODEL] = records[MODEL].replace(b'"expr_str": "Symbol(', b'"expr_str": "Add(%s, Symbol(' % tower, 1)


@_in_records("nested size", "a size that nests deeper than the stack", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = records[MODEL].replace(b'"expr_str": "', b'"expr_str": "' + b"Add(" * 900, 1)


@_in_records("guard", "a guard that Python executes", EXPORT)
def _(records: Records, marker: Path) -> None:
    _graph(records, lambda program: program.update(guards_code=[f"open('{marker}', 'w').close() is None"]))


@_in_records("guard that shifts", "a guard that computes a number of gigabytes", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: program.update(guards_code=["1<<99999999999 == L['x'].size()[0]"]))


@_in_records("guard that leaves its line", "a guard with a line break, behind which Python goes on", EXPORT)
def _(records: Records, marker: Path) -> None:
    guard = f"L['x'].size()[0] == 1, '')\n  open('{marker}', 'w')\n  torch._assert(True"
    _graph(records, lambda program: program.update(guards_code=[guard]))


@_in_records("Python function", "a node that calls a Python function which torch happens to hold", EXPORT)
def _(records: Records, marker: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        argument = {"name": "", "arg": {"as_string": str(marker)}, "kind": 1}
        _node(program).update(target="torch.os.mkdir", inputs=[argument])

    _graph(records, change)


for _name, _target, _tries in (
    ("file operator", "torch.ops.aten.from_file.default", "an operator that maps any file"),
    ("view outside", "torch.ops.aten.as_strided.default", "an operator whose view leaves its memory"),
    ("inductor", "torch.ops.inductor._alloc_from_pool.default", "an operator of a namespace that trusts its compiler"),
    ("unset memory", "torch.ops.aten.empty.memory_format", "an operator that shows what was in the memory before"),
    ("writes its argument", "torch.ops.aten.add.out", "an operator that changes the size of a tensor that it is given"),
    ("extension", "#triton:kernel", "an operator of an extension that is looked up by name"),
    ("dunder", "torch.ops.aten.add.__class__", "something of Python's in the place of an operator"),
    ("generator", "torch.ops.aten.rand.default", "an operator that draws from the generator of the whole process"),
):

    def _retarget(records: Records, _: Path, target: str = _target) -> None:
        _graph(records, lambda program: _node(program, 0).update(target=target))

    _in_records(_name, _tries, EXPORT)(_retarget)


@_in_records("callable argument", "an argument that is a Python function", EXPORT)
def _(records: Records, _: Path) -> None:
    argument = {"name": "f", "arg": {"as_operator": "torch.os.system"}, "kind": 1}
    _graph(records, lambda program: _node(program)["inputs"].append(argument))


@_in_records("object argument", "an argument that is an object of a C++ class", EXPORT)
def _(records: Records, _: Path) -> None:
    argument = {"name": "o", "arg": {"as_custom_obj": {"name": "o", "class_fqn": "a.B"}}, "kind": 1}
    _graph(records, lambda program: _node(program)["inputs"].append(argument))


@_in_records("variable", "the name of an input, which becomes a parameter in generated Python code", EXPORT)
def _(records: Records, marker: Path) -> None:
    records[MODEL] = records[MODEL].replace(b'"name": "x"', f"\"name\": \"x=open('{marker}', 'w')\"".encode())


@_in_records("parameter", "the name of a parameter, which is looked up in generated Python code", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = records[MODEL].replace(b'"linear.weight"', b'"linear.__class__.weight"')


@_in_records("named tuple", "a type to be looked up by name", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: program["graph_module"].update(treespec_namedtuple_fields={"os.Evil": ["a"]}))


@_in_records("type of arguments", "arguments in a container that unpickles its context", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = records[MODEL].replace(b"builtins.tuple", b"collections.defaultdict", 1)


@_in_records("unknown field", "a field that torch ignores and another reader does not", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: _node(program).update(extra="x"))


@_in_records("key twice", "a key twice, of which two readers read different ones", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = b'{"guards_code": [], ' + records[MODEL][1:]


@_in_records("not a number", "a constant that is no JSON", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: program["opset_version"].update(aten=float("nan")))


@_in_records("brackets", "JSON that nests deeper than the stack", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = b"[" * 400_000


@_in_records("counted symbol", "a symbol with a number up to which torch counts, one by one", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: program["range_constraints"].update(u999999999={"min_val": 0, "max_val": 1}))


@_in_records("another device", "tensors in the memory of a device", EXPORT)
def _(records: Records, _: Path) -> None:
    records[MODEL] = records[MODEL].replace(b'"type": "cpu"', b'"type": "cuda"')


@_in_records("looked-up note", "a note of a node that is looked up among extensions", EXPORT)
def _(records: Records, _: Path) -> None:
    _graph(records, lambda program: _node(program)["metadata"].update(source_fn_stack="a,#triton:kernel"))


@_in_records("example inputs", "a pickle in the place of the example inputs", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    records["data/sample_inputs/model.pt"] = _pickled(marker)


@_in_records("pickled weight", "a weight that says of itself that it is a pickle", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    _payload(records, lambda config: config["linear.weight"].update(use_pickle=True))
    records["data/weights/weight_0"] = _pickled(marker)


@_in_records("old weights", "weights as older versions kept them: one pickle", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    records["data/weights/model.pt"] = _pickled(marker)


@_in_records("custom object", "a constant that is a pickled Python object", EXPORT, runs=True)
def _(records: Records, marker: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        entry = next(iter(config.values()))
        config["more"] = {**entry, "path_name": "opaque_obj_0", "use_pickle": True}

    _payload(records, change, CONSTANTS)
    records["data/constants/opaque_obj_0"] = pickle.dumps(Evil(marker))


@_in_records("native code", "a compiled library, as AOTInductor packs them", EXPORT)
def _(records: Records, _: Path) -> None:
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


@_in_records("unused record", "a weight that nothing refers to", EXPORT)
def _(records: Records, _: Path) -> None:
    records["data/weights/weight_77"] = bytes(64)


@_in_records("weight outside", "a weight that is larger than its record", EXPORT)
def _(records: Records, _: Path) -> None:
    _payload(records, lambda config: config["scale"]["tensor_meta"].update(sizes=[{"as_int": 4000}]))


@_in_records("weight before", "a weight that begins before its record", EXPORT)
def _(records: Records, _: Path) -> None:
    _payload(records, lambda config: config["scale"]["tensor_meta"].update(storage_offset={"as_int": -1}))


@_in_records("repeated weight", "a weight of terabytes that repeats one number", EXPORT)
def _(records: Records, _: Path) -> None:
    meta = {"sizes": [{"as_int": 10**12}], "strides": [{"as_int": 0}]}
    _payload(records, lambda config: config["scale"]["tensor_meta"].update(meta))


@_in_records("empty weight", "a weight of terabytes whose record is empty", EXPORT)
def _(records: Records, _: Path) -> None:
    _payload(records, lambda config: config["scale"]["tensor_meta"].update(sizes=[{"as_int": 10**12}]))
    records["data/weights/weight_2"] = b""


# TorchScript.


def _statement(records: Records, code: str) -> None:
    """Put a statement before the linear layer's return."""
    name = code_of(records)
    changed = records[name].replace(b"    return torch.linear", f"    {code}\n    return torch.linear".encode())
    assert changed != records[name]
    records[name] = changed


for _name, _code, _tries in (
    ("saves", 'torch.save(input, "/tmp/x")', "an operator that writes a file"),
    ("reads a file", 'y = torch.from_file("/etc/passwd", True, 10)', "an operator that maps a file"),
    ("escaped name", 'y = getattr(torch, "s\\x61ve")(input, "f")', "an operator whose name is spelt with an escape"),
    ("alloc from pool", "y = ops.inductor._alloc_from_pool(input, 400, 6, [4], [1])", "a view outside of its memory"),
    ("reinterpret", "y = ops.inductor._reinterpret_tensor(input, [4], [1], 100)", "a view outside of its memory"),
    ("strided", "y = torch.as_strided(input, [4], [1], 1000000)", "a view that can leave its memory"),
    ("loads a tensor", 'y = ops.debugprims.load_tensor("x", [2], [1])', "an operator of another namespace"),
    ("unchecked index", "y = torch._unsafe_index(input, [weight])", "an index that is not compared with the size"),
    ("empty tensor", "y = torch.empty([1000])", "memory as another request left it"),
    ("random", "y = torch.rand([10])", "the generator of the whole process"),
    ("out", "y = torch.add(input, weight, out=bias)", "a write into a tensor that it was given"),
    ("prints", "print(input)", "requests in the log"),
    ("parentheses", f"y = {'(' * 200_000}input{')' * 200_000}", "nesting deeper than the stack of torch's parser"),
    ("minus signs", f"y = {'-' * 200_000}1", "nesting deeper than the stack of torch's parser"),
    ("subscripts", f"y = input{'[0]' * 200_000}", "nesting deeper than the stack of torch's compiler"),
    ("lists", f"y = {'[' * 5_000}{']' * 5_000}", "nesting deeper than the stack of torch's compiler"),
    ("sums", f"y = 1{' + 1' * 200_000}", "nesting deeper than the stack of torch's compiler"),
    ("three quotes", 'y = """" + torch.save(input, "x") + """"', "a text that two parsers end in two places"),
    ("C++ class", "y = __torch__.torch.classes._nnapi.Compilation()", "an object of a C++ class"),
    ("task", "y = fork(self.forward, input)", "a task beside the program"),
    ("shadowed", "torch = input", "another meaning for the word that operators begin with"),
    ("unknown function", "y = exec(input)", "a function that the program does not have"),
    ("missing method", "y = (self).from_file(input, )", "a method that no class of the program has"),
    ("with", "with input:\n      pass", "an object whose entry and exit run code"),
):

    def _insert(records: Records, _: Path, code: str = _code) -> None:
        _statement(records, code)

    _in_records(_name, _tries, SCRIPT)(_insert)


@_in_records("state setter", "a method that runs while the archive is read", SCRIPT)
def _(records: Records, _: Path) -> None:
    name = code_of(records)
    kind = "__torch__." + name.removeprefix("code/__torch__/").removesuffix(".py").replace("/", ".") + ".Linear"
    records[name] += f"  def __setstate__(self: {kind}, state: int) -> NoneType:\n    return None\n".encode()


@_in_records(
    "false type", "an attribute of another class than the pickle holds, whose slots are read unchecked", SCRIPT
)
def _(records: Records, _: Path) -> None:
    name = code_of(records)
    records[name] = records[name].replace(b"bias : Tensor", b"bias : List[int]", 1)


@_in_records("missing attribute", "a class with one more attribute than the object has", SCRIPT)
def _(records: Records, _: Path) -> None:
    name = code_of(records)
    records[name] = records[name].replace(b"  weight : Tensor\n", b"  weight : Tensor\n  more : Tensor\n", 1)


@_in_records("interface", "a class that is only a shape, for any object", SCRIPT)
def _(records: Records, _: Path) -> None:
    records[code_of(records)] += b"class Shape(Interface):\n  pass\n"


@_in_records("foreign letters", "letters that look like others", SCRIPT)
def _(records: Records, _: Path) -> None:
    _statement(records, "у = input")


@_in_records("mobile code", "bytecode for another interpreter", SCRIPT)
def _(records: Records, _: Path) -> None:
    records["bytecode.pkl"] = b"\x80\x02)."


def _sizes_in_pickle(records: Records, old: bytes, new: bytes) -> None:
    changed = records["data.pkl"].replace(old, new, 1)
    assert changed != records["data.pkl"]
    records["data.pkl"] = changed


@_in_records("view outside in a pickle", "a tensor larger than its storage, which torch's reader believes", SCRIPT)
def _(records: Records, _: Path) -> None:
    # K\x08 K\x04: sizes of eight rows of four; J is a number of 32 bits.
    _sizes_in_pickle(records, b"(K\x08K\x04t", b"(J\x00\x00\x00\x01K\x04t")


@_in_records("storage outside", "a storage with more elements than its record, which torch's reader believes", SCRIPT)
def _(records: Records, _: Path) -> None:
    _sizes_in_pickle(records, b"K tQ", b"J\x00\x00\x00\x01tQ")


for _name, _content, _tries in (
    ("pickle calls", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.", "a function of Python's in a pickle"),
    (
        "pickle of a C++ class",
        b"\x80\x02c__torch__.torch.classes._nnapi\nCompilation\n)\x81.",
        "an object of a C++ class",
    ),
    ("memo", b"\x80\x02Nj\xff\xff\xff\x7f.", "a place in the memo that makes the reader reserve gigabytes"),
    ("memo put", b"\x80\x02Nr\xff\xff\xff\x7f.", "a place in the memo that makes the reader reserve gigabytes"),
    ("size of a text", b"\x80\x02X\xff\xff\xff\x7fabc.", "a text of gigabytes in a file of bytes"),
    ("nested lists", b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".", "nesting deeper than the stack"),
    ("value in itself", b"\x80\x02]q\x00h\x00a.", "a list that contains itself"),
    ("underflow", b"\x80\x020.", "an operation without a value to work on"),
    ("no end", b"\x80\x02N", "a pickle that goes on behind its end"),
    ("other protocol", b"\x80\x04N.", "operations of another protocol"),
    ("behind the end", b"\x80\x02N.N.", "operations behind the end"),
    ("no module", b"\x80\x02N.", "nothing in the place of the module"),
):

    def _replace(records: Records, _: Path, content: bytes = _content) -> None:
        for name in [name for name in records if name.startswith("data/")]:
            del records[name]
        records["data.pkl"] = content

    _in_records(_name, _tries, SCRIPT)(_replace)


@_in_records("constants", "other constants than tensors", SCRIPT)
def _(records: Records, _: Path) -> None:
    records["constants.pkl"] = b"\x80\x02(K\x01t."


@_in_records("notes", "an object among the notes for error messages", SCRIPT)
def _(records: Records, _: Path) -> None:
    name = next(name for name in records if name.endswith(".debug_pkl"))
    records[name] = b"\x80\x02c__torch__\nX\n)\x81."


@_in_records("notes alone", "notes about a text that is not there", SCRIPT)
def _(records: Records, _: Path) -> None:
    records["code/__torch__/more.py.debug_pkl"] = b"\x80\x02N."


@_in_records("long version", "a version that is larger than torch's numbers", SCRIPT)
def _(records: Records, _: Path) -> None:
    records["version"] = b"0" + b"9" * 39
