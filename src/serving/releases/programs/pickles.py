"""What a pickle in a program's archive would make, found out without making it.

torch keeps the structure of TorchScript modules, constants and example inputs in pickles. Its reader in C++ trusts
them: it takes the number of elements of a storage, and the sizes and strides of a tensor, as they are written, so that
a lie reads and writes outside of the memory. Python's reader would call what a pickle names. Here the operations are
followed on values that only describe: the operations that torch's writers use, a list of names, and sizes that are
compared with the records that are there.
"""

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serving.releases.programs.refusal import ProgramError

DEEPEST: Final = 64
# Bytes of an element, by the name of the storage (torch/storage.py, c10/core/ScalarType.h).
ITEM_BYTES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_TENSOR, _ORDERED = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_TYPED, _DEVICE = "torch.jit._pickle restore_type_tag", "torch device"
# Lists of one type, by the function that makes them, with the type that TorchScript calls them.
_LISTS: Final[Mapping[str, str]] = {
    "torch.jit._pickle build_tensorlist": "List[Tensor]",
    "torch.jit._pickle build_intlist": "List[int]",
    "torch.jit._pickle build_doublelist": "List[float]",
    "torch.jit._pickle build_boollist": "List[bool]",
}
_PLAIN: Final = {_TENSOR, _ORDERED, *(f"torch {name}" for name in ITEM_BYTES)}
_SCRIPT: Final = {_TYPED, _DEVICE, *_LISTS}

# Objects of C++ classes, which run code of theirs while they are read.
BOUND: Final = "__torch__.torch.classes"

_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A function or a class that the pickle names."""

    text: str


@dataclass(frozen=True)
class StorageValue:
    """The content of one record: `numel` elements of `item` bytes."""

    key: str
    kind: str
    numel: int


@dataclass(frozen=True)
class TensorValue:
    """A view of a storage, inside of its bounds."""

    storage: StorageValue


@dataclass(frozen=True)
class TypedValue:
    """A list or dict with the TorchScript type that it is restored as, such as `List[str]`."""

    value: Any
    type: str


@dataclass(frozen=True)
class DeviceValue:
    """A device."""

    name: str


@dataclass
class ObjectValue:
    """An object of a TorchScript class, with its attributes by name; None until they are set."""

    type: str
    attributes: dict[str, Any] | None = None


@dataclass(frozen=True)
class Pickled:
    """What a pickle would make, and the storages that it names."""

    value: Any
    storages: Mapping[str, StorageValue]


def follow(
    content: bytes, *, sizes: Mapping[str, int], script: bool = False, classes: bool = False, hollow: bool = False
) -> Pickled:
    """Follow a pickle.

    Args:
        content: the pickle.
        sizes: the bytes of each record that a storage may be, by the record's key. Every one must be used.
        script: whether it may name TorchScript's functions.
        classes: whether it may make objects of TorchScript's classes.
        hollow: whether records may be empty that are not read: the inputs of a trace.

    Raises:
        ProgramError: it does anything that torch's writers do not, or describes tensors that its records cannot hold.
    """
    reader = _Follower(sizes, script, classes, hollow)
    try:
        value = reader.run(content)
    except (ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        raise ProgramError(f"holds a pickle that does not end well ({str(error)[:100]})") from error
    _walk(value, set(), 0)
    if unused := sorted(set(sizes) - set(reader.storages)):
        raise ProgramError(f"holds {unused[0]}, which nothing in it refers to")
    return Pickled(value, reader.storages)


def _walk(value: Any, path: set[int], depth: int) -> None:
    """No value may hold itself, nor nest without end."""
    if isinstance(value, TypedValue):
        value = value.value
    if isinstance(value, ObjectValue):
        value = value.attributes if value.attributes is not None else {}
    if not isinstance(value, tuple | list | dict):
        return
    if id(value) in path or depth > DEEPEST:
        raise ProgramError("holds a pickle of values that contain themselves, or nest too deeply")
    path.add(id(value))
    for each in value.values() if isinstance(value, dict) else value:
        _walk(each, path, depth + 1)
    path.discard(id(value))


class _Follower:
    """A pickle machine over values that only describe (the operations: CPython's Lib/pickletools.py)."""

    def __init__(self, sizes: Mapping[str, int], script: bool, classes: bool, hollow: bool) -> None:
        self.storages: dict[str, StorageValue] = {}
        self._sizes = sizes
        self._names = _PLAIN | _SCRIPT if script else _PLAIN
        self._classes = classes
        self._hollow = hollow
        self._stack: list[Any] = []
        self._memo: list[Any] = []

    def run(self, content: bytes) -> Any:
        first = True
        for opcode, argument, position in pickletools.genops(content):
            if first and (opcode.name, argument) != ("PROTO", 2):
                raise ProgramError("holds a pickle of another protocol than 2")
            if opcode.name == "STOP":
                if position != len(content) - 1 or len(self._stack) != 1:
                    raise ProgramError("holds a pickle with something behind its end")
                return self._pop()
            if not first:
                self._step(opcode.name, argument)
            first = False
        raise ProgramError("holds a pickle without an end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "LONG1"):
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            # Writers count up; any other place would make a reader reserve memory up to it.
            if argument != len(self._memo) or not stack or stack[-1] is _MARK:
                raise ProgramError("holds a pickle that numbers its values in another way than torch")
            self._memo.append(stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            self._to_mark(name)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop() for _ in range(int(name[-1])))[::-1])
        elif name == "APPEND":
            item = self._pop()
            self._top(list).append(item)
        elif name == "SETITEM":
            value, key = self._pop(), self._pop()
            self._set(self._top(dict), key, value)
        elif name == "GLOBAL":
            stack.append(self._global(argument))
        elif name == "BINPERSID":
            stack.append(self._storage(self._pop()))
        elif name == "REDUCE":
            arguments, function = self._pop(), self._pop()
            stack.append(self._call(function, arguments))
        elif name == "NEWOBJ":
            stack.append(self._new(self._pop(), self._pop()))
        elif name == "BUILD":
            self._build(self._pop())
        else:
            raise ProgramError(f"holds a pickle with the operation {name}, which torch does not write")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ProgramError("holds a pickle that does not end well")
        return value

    def _top(self, kind: type[Any]) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ProgramError("holds a pickle that fills something else than a list or a dict")
        return self._stack[-1]

    def _to_mark(self, name: str) -> None:
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        items.reverse()
        if name == "TUPLE":
            self._stack.append(tuple(items))
        elif name == "APPENDS":
            self._top(list).extend(items)
        else:
            target = self._top(dict)
            for key, value in zip(items[::2], items[1::2], strict=True):
                self._set(target, key, value)

    @staticmethod
    def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
        if type(key) not in (str, int) or key in target:
            raise ProgramError("holds a pickle with a key that is no text, or is there twice")
        target[key] = value

    def _global(self, argument: str) -> _Name:
        module, _, name = argument.partition(" ")
        of_program = self._classes and module.split(".")[0] == "__torch__"
        if argument not in self._names and (not of_program or f"{module}.".startswith(f"{BOUND}.")):
            raise ProgramError(f"names {argument[:80]!r} in a pickle, which is not let through")
        return _Name(f"{module}.{name}" if module.startswith("__torch__") else argument)

    def _storage(self, value: Any) -> StorageValue:
        word, kind, key, device, numel = value
        if word != "storage" or device != "cpu" or not isinstance(kind, _Name) or type(numel) is not int:
            raise ProgramError("holds a storage that is not in the CPU's memory")
        storage = StorageValue(key, kind.text.removeprefix("torch "), numel)
        if storage.kind not in ITEM_BYTES:
            raise ProgramError(f"holds a storage of {storage.kind[:40]!r}")
        there = self._sizes.get(key)
        if there != numel * ITEM_BYTES[storage.kind] and not (self._hollow and there == 0):
            raise ProgramError(f"says that the storage {str(key)[:40]!r} has {numel} elements, and its record says not")
        if self.storages.setdefault(key, storage) != storage:
            raise ProgramError(f"reads the storage {key!r} as two types")
        return storage

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.text if isinstance(function, _Name) else ""
        if name == _ORDERED and arguments == ():
            return {}
        if name == _TENSOR:
            return _tensor(*arguments)
        if name == _TYPED:
            value, text = arguments
            if type(value) not in (list, dict) or type(text) is not str or len(text) > 1000:
                raise ProgramError("restores a type of something else than a list or a dict")
            return TypedValue(value, text)
        if name in _LISTS:
            (value,) = arguments
            if type(value) is not list:
                raise ProgramError("makes a list of something else")
            return TypedValue(value, _LISTS[name])
        if name == _DEVICE and arguments == ("cpu",):
            return DeviceValue("cpu")
        raise ProgramError(f"calls {name[:80] or 'something'} in a pickle in a way that torch does not")

    @staticmethod
    def _new(arguments: Any, kind: Any) -> ObjectValue:
        if arguments != () or not isinstance(kind, _Name) or not kind.text.startswith("__torch__."):
            raise ProgramError("makes an object that is none of its own classes")
        return ObjectValue(kind.text)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        named = type(state) is dict and all(type(key) is str for key in state)
        if type(target) is not ObjectValue or target.attributes is not None or not named:
            raise ProgramError("sets the state of something else than a fresh object")
        target.attributes = state


_CONSTANTS: Final[Mapping[str, Any]] = {
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any) -> TensorValue:
    if type(storage) is not StorageValue or type(requires_grad) is not bool or hooks != {}:
        raise ProgramError("makes a tensor in a way that torch does not")
    check_bounds(size, stride, offset, storage.numel)
    return TensorValue(storage)


def check_bounds(size: Any, stride: Any, offset: Any, numel: int) -> None:
    """A view with these sizes and strides must lie within `numel` elements, and have no more of them.

    Raises:
        ProgramError: it leaves them, or repeats them.
    """
    shape = [*size, *stride, offset]
    if type(size) not in (tuple, list) or len(size) != len(stride) or len(size) > 25:
        raise ProgramError("holds a tensor whose sizes and strides do not belong together")
    if any(type(number) is not int or not 0 <= number < 2**62 for number in shape):
        raise ProgramError("holds a tensor with sizes that no memory has")
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    if count and (last >= numel or count > numel):
        raise ProgramError(f"holds a tensor of {count} elements that leaves its storage of {numel}")
    if not count and offset > numel:
        raise ProgramError("holds an empty tensor that begins outside of its storage")
