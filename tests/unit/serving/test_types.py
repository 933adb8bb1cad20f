"""The types of fields that hold images, arrays, sounds and files."""

import base64
import io
import json
import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from pydantic import BaseModel, Field, ValidationError, create_model

from lambda_torch.project import ROOT
from serving.types import Array, ArrayRules, Audio, AudioRules, File, FileRules, FiniteOrNull, Image, ImageRules
from serving.types.contents import Content
from serving.types.finding import body_field, content_fields, only_content


def field(annotation: Any) -> type[BaseModel]:
    """A request with one field, `value`."""
    return create_model("One", value=(annotation, ...))


def read(annotation: Any, value: Any, **context: Any) -> Any:
    """The field's value from a JSON value."""
    request: Any = field(annotation).model_validate_json(json.dumps({"value": value}), context=context or None)
    return request.value


def refusal(annotation: Any, value: Any) -> tuple[str, str]:
    """Code and message of the refusal of a JSON value."""
    with pytest.raises(ValidationError) as raised:
        read(annotation, value)
    (problem,) = raised.value.errors()
    return problem["type"], problem["msg"]


def picture(format_name: str = "PNG", size: tuple[int, int] = (4, 3), mode: str = "RGB", **options: Any) -> bytes:
    """An image file."""
    into = io.BytesIO()
    Pillow.new(mode, size, 7).save(into, format_name, **options)
    return into.getvalue()


def text(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def wav(samples: Any, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    """A WAV file of whole numbers."""
    into = io.BytesIO()
    with wave.open(into, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(samples)
    return into.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    """A .npy file."""
    into = io.BytesIO()
    np.save(into, array, **options)
    return into.getvalue()


# --- images


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_is_a_pil_image(name: str) -> None:
    """Base64 and a data: URL of each usual format give an RGB image."""
    data = picture(name)
    for given_as in (text(data), f"data:image/x;base64,{text(data)}"):
        image = read(Image, given_as)
        assert (image.size, image.mode) == ((4, 3), "RGB")


def test_an_image_has_the_mode_of_its_rules() -> None:
    """A rule beside the type decides the mode; None keeps the file's own."""
    assert read(Annotated[Image, ImageRules(mode="L")], text(picture())).mode == "L"
    assert read(Annotated[Image, ImageRules(mode=None)], text(picture(mode="LA"))).mode == "LA"


def test_a_transparent_image_lies_on_white() -> None:
    """What cannot be seen does not become black."""
    into = io.BytesIO()
    Pillow.new("RGBA", (2, 2), (0, 0, 0, 0)).save(into, "PNG")
    assert read(Image, text(into.getvalue())).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_the_upper_eight() -> None:
    """A 16-bit grey image is as bright as its 8-bit copy."""
    into = io.BytesIO()
    Pillow.fromarray(np.full((2, 2), 32_768, "u2")).save(into, "PNG")
    assert read(Image, text(into.getvalue())).getpixel((0, 0)) == (128, 128, 128)


def test_an_image_is_turned_as_its_camera_says() -> None:
    """EXIF's orientation 6 turns a wide image into a high one."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert read(Image, text(picture("JPEG", (8, 4), exif=exif))).size == (4, 8)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("no base64!", "base64_invalid"),
        ("data:image/png,plain", "base64_invalid"),
        (text(b"hello"), "image_invalid"),
        ("", "file_empty"),
        (text(picture()[:40]), "image_invalid"),
        (text(picture(size=(64, 64))[:90]), "image_invalid"),
        (text(picture("BMP")), "image_invalid"),
        (7, "file_type"),
        (None, "file_type"),
        ([1], "file_type"),
        ({"upload": "0" * 32}, "upload_impossible"),
        ({"part": "0"}, "file_type"),
        ({"other": "0"}, "file_type"),
    ],
)
def test_what_is_no_image_is_refused(value: Any, code: str) -> None:
    """Each wrong value has a code; none raises anything else."""
    assert refusal(Image, value)[0] == code


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """An image of few bytes and many pixels is refused by its header."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = picture()
    bomb = data[:16] + header + struct.pack(">I", __import__("zlib").crc32(b"IHDR" + header)) + data[33:]
    assert refusal(Image, text(bomb))[0] == "image_too_large"
    assert refusal(Annotated[Image, ImageRules(max_pixels=11)], text(data))[0] == "image_too_large"
    assert refusal(Annotated[Image, ImageRules(max_bytes=20)], text(data))[0] == "file_too_large"


@given(st.binary(max_size=300), st.integers(0, 80))
def test_damaged_images_are_refused_or_read(noise: bytes, at: int) -> None:
    """Whatever bytes stand in a PNG, the field is an image or a refusal."""
    data = picture()
    for damaged in (noise, data[:at] + noise, data[:at] + noise[:3] + data[at + 3 :]):
        try:
            assert read(Image, text(damaged)).mode == "RGB"
        except ValidationError as error:
            assert error.error_count() == 1


def test_an_image_in_an_answer_is_a_data_url() -> None:
    """PNG by default; the answer of one function is a request of the next."""
    made: Any = field(Image)(value=Pillow.new("RGB", (4, 3)))
    answer = json.loads(made.model_dump_json())["value"]
    assert answer.startswith("data:image/png;base64,")
    assert read(Image, answer).size == (4, 3)
    from_array: Any = field(Image)(value=np.zeros((3, 4, 3), "u1"))
    assert from_array.value.size == (4, 3)
    as_jpeg: Any = field(Annotated[Image, ImageRules(answer_format="JPEG")])(value=Pillow.new("RGBA", (4, 3)))
    assert json.loads(as_jpeg.model_dump_json())["value"].startswith("data:image/jpeg;base64,/9j/")


def test_pillow_is_imported_with_the_first_image(tmp_path: Path) -> None:
    """Naming the types imports neither Pillow nor NumPy; without Pillow the first image says which line is missing."""
    program = """
import sys
sys.modules["PIL"] = None
from pydantic import BaseModel
from serving.types import Image, Array, Audio, File
class Request(BaseModel):
    image: Image | None = None
    rows: Array["float32", (None, 6)] | None = None
    sound: Audio | None = None
    file: File | None = None
Request.model_json_schema()
assert "numpy" not in sys.modules
try:
    Request.model_validate_json('{"image": "aGVsbG8="}')
except ModuleNotFoundError as error:
    assert error.name == "PIL"
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "add the line `pillow` to the model's requirements.txt" in done.stdout


# --- arrays

ROWS: Any = Array["float32", (None, 6)]


def test_an_array_is_read_from_lists_and_bytes() -> None:
    """Nested lists, a .npy file in either order, and plain little-endian numbers give the same writable array."""
    wanted = np.arange(12, dtype="float32").reshape(2, 6)
    for value in (
        wanted.tolist(),
        text(npy(wanted)),
        text(npy(np.asfortranarray(wanted))),
        text(npy(wanted.astype(">f8"))),
        text(wanted.tobytes()),
        f"data:application/x-npy;base64,{text(npy(wanted))}",
    ):
        found = read(ROWS, value)
        assert found.dtype == np.float32
        assert found.flags.writeable
        assert (found == wanted).all()
        torch.from_numpy(found)


@pytest.mark.parametrize(
    ("value", "code", "part"),
    [
        ([[1, 2, 3, 4, 5]], "array_shape", "at [0]: there are 5 numbers or lists, and 6 are needed"),
        ([[1] * 6, [1] * 5], "array_shape", "at [1]"),
        ([1, 2, 3, 4, 5, 6], "array_shape", "at [0]: a list is needed"),
        ([[1, 2, 3, 4, 5, "6"]], "array_shape", "at [0][5]: a number is needed"),
        ([[1, 2, 3, 4, 5, None]], "array_shape", "at [0][5]: a number is needed"),
        ([[1, 2, 3, 4, 5, [6]]], "array_shape", "at [0][5]: a number is needed"),
        ([[True] * 6], "array_type", "float32"),
        ([[1, 2, 3, 4, 5, 1e300]], "array_range", "float32"),
        ([[1, 2, 3, 4, 5, 10**400]], "array_", ""),
        (text(b"12345"), "array_invalid", "any x 6"),
        (text(npy(np.zeros((2, 5)))), "array_shape", "and not 2 x 5"),
        (text(npy(np.zeros((2, 6)))[:-3]), "array_invalid", "damaged"),
        (text(npy(np.array([["a"] * 6]))), "array_invalid", ""),
        (text(npy(np.array([[{}] * 6], dtype=object), allow_pickle=True)), "array_invalid", ""),
        (text(npy(np.full((1, 6), np.nan))), "array_not_finite", ""),
        ({}, "file_type", ""),
    ],
)
def test_what_is_no_such_array_is_refused(value: Any, code: str, part: str) -> None:
    """A row with five of six numbers, and the like: the message says where it is and what is needed."""
    found = refusal(ROWS, value)
    assert found[0].startswith(code)
    assert part in found[1]


def test_a_header_decides_nothing_about_memory() -> None:
    """A .npy file whose header promises more numbers than it has is refused before room is made for them."""
    data = npy(np.zeros((2, 6), "float32"))
    for shape in (b"(9, 6)", b"(999999999999, 6)", b"(" + b"9" * 150 + b", 6)", b"(" + b"1, " * 60 + b")"):
        assert refusal(ROWS, text(data.replace(b"(2, 6)", shape)))[0] == "array_invalid"


def test_whole_numbers_stay_whole() -> None:
    """An array of integers takes no fractions and nothing out of its range; whole floats are taken."""
    pixels = Array["uint8", (2,)]
    assert read(pixels, [0, 255]).tolist() == [0, 255]
    assert read(pixels, [1.0, 2.0]).tolist() == [1, 2]
    assert refusal(pixels, [0, 256])[0] == "array_range"
    assert refusal(pixels, [-1, 0])[0] == "array_range"
    assert refusal(pixels, [0.5, 1])[0] == "array_type"
    assert read(Array["bool", (None,)], [True, False]).tolist() == [True, False]
    assert read(Array[np.int64, (None,)], []).shape == (0,)


def test_where_it_is_allowed_nan_is_null() -> None:
    """In JSON null stands for NaN, in both directions, and the schema says so; elsewhere the answer is an error."""
    loose = Annotated[Any, ArrayRules(dtype="float64", shape=(None,), allow_inf_nan=True)]
    value = read(loose, [1, None])
    assert np.isnan(value).tolist() == [False, True]
    answer: Any = field(loose)(value=np.array([1, np.inf]))
    assert answer.model_dump_json() == '{"value":[1.0,null]}'
    schema = field(loose).model_json_schema(mode="serialization")["properties"]["value"]
    assert schema["items"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}
    with pytest.raises(ValidationError, match="NaN or infinite"):
        field(Array["float64", (None,)])(value=np.array([np.nan]))


def test_an_answer_takes_tensors_and_arrays() -> None:
    """Tensors with and without gradients, of bfloat16 too, become nested lists."""
    for given_as in (torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.bfloat16), np.ones(2)):
        answer: Any = field(Array["float32", (2,)])(value=given_as)
        assert answer.model_dump_json() == '{"value":[1.0,1.0]}'


@given(
    arrays.arrays(
        st.sampled_from(["float32", "float64", "int16", "uint8", "bool"]),
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_arrays_survive_each_way(array: Any) -> None:
    """From JSON lists and from .npy comes the array that went in, for every dtype and shape."""
    kind = Array[array.dtype.name, array.shape]
    for value in (array.tolist(), text(npy(array))):
        found = read(kind, value)
        assert found.dtype == array.dtype
        assert (found == array).all()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_array_or_refused(data: bytes) -> None:
    """No bytes after NumPy's magic raise anything but a refusal."""
    for each in (data, b"\x93NUMPY" + data, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data)) + data):
        try:
            read(ROWS, text(each))
        except ValidationError as error:
            assert error.error_count() == 1


def test_the_schema_has_the_lengths() -> None:
    """Free lengths have no limits in the JSON schema; the others have both."""
    schema = field(ROWS).model_json_schema()["properties"]["value"]
    rows = schema["anyOf"][0]
    assert rows == {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 6, "maxItems": 6},
    }
    assert schema["x-array"] == {"dtype": "float32", "shape": [None, 6], "maxBytes": 33_554_432}
    with pytest.raises(TypeError, match="a dtype and a shape"):
        Array["float32"]


# --- sounds


@pytest.mark.parametrize(
    ("width", "frames"),
    [(1, bytes([128, 192])), (2, b"\0\0\0\x40"), (3, b"\0\0\0\0\0\x40"), (4, b"\0\0\0\0\0\0\0\x40")],
)
def test_a_wav_file_is_samples_and_their_rate(width: int, frames: bytes) -> None:
    """Each width of whole numbers gives float32 between -1 and 1."""
    sound = read(Audio, text(wav(frames, width=width)))
    assert sound.rate == 8000
    assert sound.samples.dtype == np.float32
    assert sound.samples.tolist() == [0, 0.5]


def test_channels_are_mixed_or_kept() -> None:
    """A rule decides whether two channels become one."""
    stereo = text(wav(np.array([[0, 16384]], "<i2").tobytes(), channels=2))
    assert read(Audio, stereo).samples.tolist() == [0.25]
    kept = read(Annotated[Audio, AudioRules(mono=False)], stereo)
    assert kept.samples.tolist() == [[0, 0.5]]
    again: Any = field(Audio)(value=kept)
    assert json.loads(again.model_dump_json())["value"].startswith("data:audio/wav;base64,UklGR")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (text(b"hello"), "sound_invalid"),
        (text(wav(b"")), "sound_invalid"),
        (text(wav(b"\0\0" * 9000)), "sound_too_long"),
        (text(wav(b"\0\0", rate=44_100)), "sound_rate"),
        (text(wav(b"\0\0")[:30]), "sound_invalid"),
    ],
)
def test_what_is_no_such_sound_is_refused(value: str, code: str) -> None:
    """Damaged, too long, of another rate: each has its code."""
    assert refusal(Annotated[Audio, AudioRules(rates=(8000,), max_seconds=1)], value)[0] == code


@given(st.binary(max_size=80), st.integers(0, 60))
def test_damaged_sounds_are_refused_or_read(noise: bytes, at: int) -> None:
    """Whatever bytes stand in a WAV file, the field is a sound or a refusal."""
    data = wav(b"\0\x01" * 10)
    for damaged in (noise, data[:at] + noise, data[:at] + noise[:4] + data[at + 4 :]):
        try:
            assert read(Audio, text(damaged)).samples.ndim == 1
        except ValidationError as error:
            assert error.error_count() == 1


# --- files


def test_a_file_has_bytes_and_what_the_client_said() -> None:
    """A data: URL brings a media type, a part of a body also a name."""
    assert read(File, text(b"abc")) == File(b"abc", "application/octet-stream", None)
    assert read(File, f"data:text/csv;charset=utf-8;base64,{text(b'a,b')}") == File(b"a,b", "text/csv", None)
    part = Content(b"x", "text/plain", "notes.txt")
    assert read(File, {"part": "value"}, parts={"value": part}) == File(b"x", "text/plain", "notes.txt")
    taken = read(File, {"upload": "0" * 32}, uploads=lambda name, limit: Content(name.encode()))
    assert taken.data == b"0" * 32


def test_a_file_of_another_type_is_refused() -> None:
    """Only where the client says a type, since nothing else knows one."""
    only = Annotated[File, FileRules(types=("text/*",))]
    assert read(only, f"data:text/csv;base64,{text(b'a')}").media_type == "text/csv"
    assert refusal(only, f"data:image/png;base64,{text(b'a')}")[0] == "file_media_type"


# --- all of them


def test_the_fields_with_bytes_are_found() -> None:
    """Also optional ones, and by their names in JSON; the only file can be the body."""

    class Request(BaseModel):
        photo: Annotated[Image, ImageRules(mode="L")] | None = Field(None, alias="image")
        rows: Annotated[np.ndarray, ArrayRules("float32", (None, 6))] | None = None
        threshold: float = 0.5

    assert list(content_fields(Request)) == ["image", "rows"]
    found = body_field(Request)
    assert found is not None
    assert (found[0], found[1].takes("image/png"), found[1].takes("text/csv")) == ("image", True, False)
    assert only_content(Request) is None
    assert only_content(field(Image)) is not None
    assert body_field(field(int)) is None
    two: Any = create_model("Two", image=(Image, ...), sound=(Audio | None, None))
    assert body_field(two)[0] == "image"  # type: ignore[index]
    assert body_field(create_model("Both", image=(Image, ...), sound=(Audio, ...))) is None


def test_a_number_that_may_be_missing_is_null() -> None:
    """FiniteOrNull turns NaN and infinities into null, and its schema says number or null."""
    kind = field(FiniteOrNull)
    for given_as in (float("nan"), np.float32("inf"), torch.tensor(float("nan")), None):
        assert kind(value=given_as).model_dump_json() == '{"value":null}'
    assert kind(value=1.5).model_dump_json() == '{"value":1.5}'
    assert kind.model_json_schema()["properties"]["value"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
