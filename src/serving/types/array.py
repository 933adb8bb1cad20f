"""Arrays of numbers: a NumPy array of one dtype and shape, from nested lists, base64, or a .npy file."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from serving.types.contents import UPLOADED, Content, ContentRules, refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The format of .npy files (NumPy's documentation, "NEP 1"): magic, version, length of the header, header. This is the
# header that NumPy writes for plain numbers, up to its end. NumPy's own reader evaluates it as Python, and takes more.
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|\x02\x00....)"
    rb"\{'descr': '([<>|][biuf][1248]|\|b1)', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,200})\), \} *\n",
    re.DOTALL,
)
_MOST_DIMENSIONS = 32
NPY = "application/x-npy"
RAW = "application/octet-stream"
# The kinds of dtype, by NumPy's letters: bool, signed and unsigned integers, floating point.
_KINDS = "biuf"


@dataclass(frozen=True)
class ArrayRules(ContentRules):
    """What an array field takes; `Array[dtype, shape]` makes one.

    A type checker understands `Annotated[numpy.ndarray, ArrayRules(dtype="float32", shape=(None, 6))]`.
    """

    dtype: str = "float32"
    """NumPy's name of the type of each number."""

    shape: tuple[int | None, ...] = (None,)
    """The length of each dimension; None is any length."""

    allow_inf_nan: bool = False
    """Whether NaN and infinities are taken. In JSON they are null, in both directions."""

    noun: ClassVar[str] = "array"

    @property
    def media_types(self) -> tuple[str, ...]:
        """As `ContentRules.media_types`."""
        return (NPY, RAW)

    def json_schema(self, mode: Any) -> dict[str, Any]:
        """Nested lists, whose lengths the schema has. A request may also give base64 of a .npy file."""
        number: dict[str, Any] = {"type": {"b": "boolean", "f": "number"}.get(self._kind, "integer")}
        if self.allow_inf_nan and self._kind == "f":
            number = {"anyOf": [number, {"type": "null"}]}
        lists = number
        for length in reversed(self.shape):
            fixed = {} if length is None else {"minItems": length, "maxItems": length}
            lists = {"type": "array", "items": lists, **fixed}
        if mode == "serialization":
            return lists
        text = {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": NPY,
            "title": "Base64 of a .npy file",
        }
        known = {"dtype": self.dtype, "shape": list(self.shape), "maxBytes": self.max_bytes}
        return {"anyOf": [lists, text, UPLOADED], "x-array": known}

    @property
    def _kind(self) -> str:
        if self.dtype.startswith("float"):
            return "f"
        return "b" if self.dtype == "bool" else "i"

    def validate(self, value: Any, info: Any) -> "NDArray[Any]":
        """As `ContentRules.validate`; nested lists are taken too."""
        if isinstance(value, list | tuple):
            return self._checked(self._from_lists(value))
        made: NDArray[Any] = super().validate(value, info)
        return made

    def to_json(self, value: "NDArray[Any]") -> Any:
        """Nested lists. Where they are allowed, NaN and infinities become null."""
        numpy = _numpy()
        if self._kind != "f" or numpy.isfinite(value).all():
            return value.tolist()
        if self.allow_inf_nan:
            return numpy.where(numpy.isfinite(value), value.astype(object), None).tolist()
        raise ValueError("an array of the answer has a number that is NaN or infinite")

    def from_python(self, value: Any) -> "NDArray[Any] | None":
        """A NumPy array, a tensor, or anything else with numbers in it that NumPy reads."""
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        if not hasattr(value, "__array__"):
            return None
        numpy = _numpy()
        return self._checked(numpy.asarray(value))

    def decode(self, content: Content) -> "NDArray[Any]":
        """The array of a .npy file, or of the plain numbers (little-endian) where the shape leaves one length open.

        Raises:
            PydanticCustomError: the bytes do not have this type or shape.
        """
        numpy, data = _numpy(), content.data
        if data.startswith(_MAGIC):
            return self._checked(self._from_npy(data))
        wanted = numpy.dtype(self.dtype).newbyteorder("<")
        free = self.shape.count(None)
        rest = math.prod(length for length in self.shape if length is not None) * wanted.itemsize
        if free > 1 or not rest or len(data) % rest or (free == 0 and len(data) != rest):
            raise refused(
                "array_invalid", f"this is neither a .npy file nor {self._words()} as plain little-endian numbers"
            )
        plain = numpy.frombuffer(data, wanted).reshape([-1 if length is None else length for length in self.shape])
        return self._checked(plain)

    def encode(self, value: "NDArray[Any]") -> Content:
        """A .npy file."""
        import io

        numpy, into = _numpy(), io.BytesIO()
        numpy.save(into, value, allow_pickle=False)
        return Content(into.getvalue(), NPY)

    def _from_lists(self, value: Any) -> "NDArray[Any]":
        numpy = _numpy()
        if self.allow_inf_nan:
            value = _nan_for_null(value)
        problem = _ragged(value, self.shape, "")
        if problem:
            raise refused("array_shape", problem)
        try:
            made: NDArray[Any] = numpy.asarray(value)
        except (ValueError, OverflowError, TypeError):
            raise refused("array_shape", f"give {self._words()}: lists that are equally long, with numbers") from None
        if made.size == 0:
            # An empty list does not say how long the lists in it would be.
            lengths = [*made.shape, *(length or 0 for length in self.shape[made.ndim :])]
            made = numpy.zeros(lengths, self.dtype)
        return made

    def _from_npy(self, data: bytes) -> "NDArray[Any]":
        numpy = _numpy()
        found = _HEADER.match(data)
        if found is not None:
            kind, order, lengths = (part.decode() for part in found.groups())
            dtype, shape = numpy.dtype(kind), [int(each) for each in re.findall(r"\d+", lengths)]
            begin = found.end()
            # The header says how much memory the array would take, so it has to fit the bytes that are there.
            if math.prod(shape) * dtype.itemsize == len(data) - begin and len(shape) <= _MOST_DIMENSIONS:
                flat = numpy.frombuffer(data, dtype, offset=begin)
                made: NDArray[Any] = flat.reshape(shape, order="F" if order == "True" else "C")
                return made
        raise refused("array_invalid", "the .npy file is damaged, or it holds something else than plain numbers")

    def _checked(self, array: "NDArray[Any]") -> "NDArray[Any]":
        """A copy of this dtype, if the array's values and shape fit."""
        numpy = _numpy()
        fits = len(array.shape) == len(self.shape) and all(
            wanted in (None, found) for wanted, found in zip(self.shape, array.shape, strict=True)
        )
        if not fits:
            found = " x ".join(map(str, array.shape)) or "a single number"
            raise refused("array_shape", f"give {self._words()}, and not {found}")
        if array.dtype.kind not in _KINDS or (self._kind == "b") != (array.dtype.kind == "b"):
            raise refused("array_type", f"give {self._words()}")
        if array.dtype.kind == "f" and not self.allow_inf_nan and not numpy.isfinite(array).all():
            raise refused("array_not_finite", "the array has a number that is NaN or infinite")
        return self._converted(array)

    def _converted(self, array: "NDArray[Any]") -> "NDArray[Any]":
        numpy, wanted = _numpy(), _numpy().dtype(self.dtype)
        if wanted.kind in "iu" and array.size:
            limits = numpy.iinfo(wanted)
            if array.dtype.kind == "f" and not (array == numpy.trunc(array)).all():
                raise refused("array_type", f"give {self._words()}: whole numbers")
            if array.min() < limits.min or array.max() > limits.max:
                raise refused("array_range", f"each number has to be from {limits.min} to {limits.max}")
        with numpy.errstate(over="ignore"):
            made: NDArray[Any] = numpy.array(array, wanted, order="C")
        if wanted.kind == "f" and not self.allow_inf_nan and not numpy.isfinite(made).all():
            raise refused("array_range", f"a number is too large for {self.dtype}")
        return made

    def _words(self) -> str:
        """Such as `an array of float32 with the shape any x 6`."""
        shape = " x ".join("any" if length is None else str(length) for length in self.shape) or "()"
        return f"an array of {self.dtype} with the shape {shape}"


class _ArrayTypes:
    """What makes the annotation for a dtype and a shape."""

    def __getitem__(self, parameters: Any) -> Any:
        """The annotation for a dtype (NumPy's name or type) and a shape, whose free lengths are None."""
        if not isinstance(parameters, tuple) or len(parameters) != 2:
            raise TypeError('Array takes a dtype and a shape: Array["float32", (None, 6)]')
        dtype, shape = parameters
        lengths = shape if isinstance(shape, tuple) else (shape,)
        name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
        return Annotated[Any, ArrayRules(dtype=name, shape=lengths)]


# `Array[dtype, shape]`: a NumPy array. `Array["float32", (None, 6)]` takes any number of rows of six numbers.
Array = _ArrayTypes()


def _ragged(value: Any, shape: tuple[int | None, ...], where: str) -> str | None:
    """Where nested lists differ from the shape, in words; None where they do not. Looks at lists, and not at numbers."""
    if not shape:
        return None
    at = f"at {where}: " if where else ""
    if not isinstance(value, list | tuple):
        return f"{at}a list is needed"
    if shape[0] is not None and len(value) != shape[0]:
        return f"{at}there are {len(value)} numbers or lists, and {shape[0]} are needed"
    if len(shape) == 1:
        wrong = next((index for index, each in enumerate(value) if isinstance(each, list | str | dict | None)), None)
        return None if wrong is None else f"at {where}[{wrong}]: a number is needed"
    pairs = ((f"{where}[{index}]", each) for index, each in enumerate(value))
    return next((problem for name, each in pairs if (problem := _ragged(each, shape[1:], name))), None)


def _nan_for_null(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_nan_for_null(each) for each in value]
    return math.nan if value is None else value


def _numpy() -> Any:
    """NumPy, which the layer has."""
    import numpy

    return numpy
