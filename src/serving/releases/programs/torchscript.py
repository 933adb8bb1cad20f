"""Programs of `torch.jit.save` (`.torchscript`): what such an archive may hold.

torch reads the pickles in it with a reader in C++ that knows TorchScript's own types and trusts their sizes, and
compiles the text of its classes. The text may call any operator; it may declare an attribute as another type than the
pickle holds; and a method `__setstate__` would run while the archive is read. So the text is parsed, the pickles are
followed, and both must agree.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from serving.releases.programs import pickles
from serving.releases.programs.archive import Archive
from serving.releases.programs.exported import check_values
from serving.releases.programs.refusal import ProgramError
from serving.releases.programs.script_parser import parse, parse_type
from serving.releases.programs.script_text import ScriptClass, ScriptFile, ScriptType

_RECORDS: Final = re.compile(
    r"(data|constants|traced_inputs)\.pkl|(data|constants|traced_inputs)/\d{1,9}|version|byteorder"
    r"|\.data/(version|serialization_id)|code/__torch__(/[A-Za-z_]\w*)*\.py(\.debug_pkl)?",
    re.ASCII,
)


def check(archive: Archive) -> None:
    """Look through an archive of `torch.jit.save`.

    Raises:
        ProgramError: it is no such archive, or has something in it that is not let through.
    """
    if "constants.pkl" not in archive or "data.pkl" not in archive:
        raise ProgramError("is not a TorchScript archive")
    if other := next((name for name in archive.records if not _RECORDS.fullmatch(name)), None):
        raise ProgramError(f"holds {other}, which torch does not write")
    check_values(archive, {"byteorder": b"little"})
    program = _Program(archive)
    root = pickles.follow(archive.read("data.pkl"), sizes=_sizes(archive, "data/"), script=True, classes=True)
    if not isinstance(root.value, pickles.ObjectValue):
        raise ProgramError("holds no module in data.pkl")
    program.check_object(root.value)
    constants = pickles.follow(archive.read("constants.pkl"), sizes=_sizes(archive, "constants/"), script=True)
    values = constants.value
    if type(values) is not tuple or not all(isinstance(each, pickles.TensorValue) for each in values):
        raise ProgramError("holds other constants than tensors")
    if any(number >= len(values) for file in program.files.values() for number in file.constants):
        raise ProgramError("uses a constant that is not there")
    if "traced_inputs.pkl" in archive:
        sizes = _sizes(archive, "traced_inputs/")
        pickles.follow(archive.read("traced_inputs.pkl"), sizes=sizes, script=True, hollow=True)
    for name in archive.records:
        if name.endswith(".debug_pkl"):
            if name.removesuffix(".debug_pkl") not in archive:
                raise ProgramError(f"holds {name} without the text that it is about")
            pickles.follow(archive.read(name), sizes={}, script=True)


def _sizes(archive: Archive, folder: str) -> dict[str, int]:
    return {
        name.removeprefix(folder): record.size for name, record in archive.records.items() if name.startswith(folder)
    }


class _Program:
    """The texts of an archive, which may only refer to each other."""

    def __init__(self, archive: Archive) -> None:
        self.files: dict[str, ScriptFile] = {}
        for name in archive.records:
            if name.startswith("code/") and name.endswith(".py"):
                module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
                self.files[module] = parse(archive.read(name), name)
        self._classes: dict[str, ScriptClass] = {
            f"{module}.{name}": made for module, file in self.files.items() for name, made in file.classes.items()
        }
        functions = {f"{module}.{name}" for module, file in self.files.items() for name in file.functions}
        known = functions | set(self._classes)
        methods = {method for made in self._classes.values() for method in made.methods}
        readable = {name for made in self._classes.values() for name in (*made.attributes, *made.constants)}
        for module, file in self.files.items():
            for kind, names, there in (
                ("refers to", file.references, known),
                ("calls", file.methods, methods),
                ("reads", file.attributes, readable),
            ):
                if missing := sorted(names - there):
                    raise ProgramError(f"{kind} {missing[0][:100]} in {module}, which is nowhere in the archive")

    def check_object(self, value: pickles.ObjectValue) -> None:
        """An object must have the attributes of its class, each of the type that the class says. torch does not look.

        Raises:
            ProgramError: it has others, or another type.
        """
        made = self._classes.get(value.type)
        if made is None or made.base != "Module":
            raise ProgramError(f"holds an object of {value.type[:100]}, which is no module of the archive")
        held = value.attributes or {}
        if set(held) != set(made.attributes):
            odd = sorted(set(held) ^ set(made.attributes))[0]
            raise ProgramError(f"holds an object of {value.type[:100]} whose attributes differ from the class in {odd}")
        for name, each in held.items():
            if not self._fits(each, made.attributes[name]):
                raise ProgramError(f"holds {name} of {value.type[:100]} as something else than {made.attributes[name]}")

    def _fits(self, value: Any, kind: ScriptType) -> bool:
        arguments = kind.arguments
        if kind.name == "Optional":
            return value is None or self._fits(value, arguments[0])
        if kind.name in ("List", "Dict"):
            return self._fits_collection(value, kind)
        if kind.name == "Tuple":
            several = type(value) is tuple and len(value) == len(arguments)
            return several and all(self._fits(each, part) for each, part in zip(value, arguments, strict=True))
        if kind.name.startswith("__torch__."):
            if not isinstance(value, pickles.ObjectValue) or value.type != kind.name:
                return False
            self.check_object(value)
            return True
        plain = _PLAIN.get(kind.name)
        return plain is not None and type(value) is plain

    def _fits_collection(self, value: Any, kind: ScriptType) -> bool:
        if isinstance(value, pickles.TypedValue):
            if parse_type(value.type) != kind:
                return False
            value = value.value
        elif value:
            return False
        if kind.name == "List":
            return type(value) is list and all(self._fits(each, kind.arguments[0]) for each in value)
        key, item = kind.arguments
        return type(value) is dict and all(self._fits(k, key) and self._fits(v, item) for k, v in value.items())


_PLAIN: Final[Mapping[str, type[Any]]] = {
    "Tensor": pickles.TensorValue,
    "Device": pickles.DeviceValue,
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "NoneType": type(None),
}
