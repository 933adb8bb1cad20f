"""What a new project consists of, before any file is written."""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

KINDS = ("image", "text", "tabular", "chat")

_OWN_WEIGHTS = """\
1. `make_release.py` trains a small stand-in, so that everything works from the first minute. Put your own training
   there, or delete it and copy your files into `release/`. `lambda-torch convert model.pth release/weights.safetensors`
   makes safetensors of a checkpoint.
2. `model/network.py` is the network. Replace it by yours.
3. `model/schema.py` says what a client sends and gets. The page and the API's document follow from it.
4. `model/__init__.py` reads `release/` and answers. Its `example()` is a request that the model must always answer alike.

`lambda-torch check` goes through all of this, and says what to do next."""
_MADE_FROM = """\
`lambda-torch init --from` wrote `model/` for the weights in `release/`. Both are yours now:

1. `model/schema.py` says what a client sends and gets. The page and the API's document follow from it.
2. `model/__init__.py` reads `release/` and answers. Its `example()` is a request that the model must always answer alike.

`lambda-torch check` goes through all of this, and says what to do next."""


@dataclass(frozen=True)
class Blueprint:
    """What differs from one project to the next.

    Attributes:
        kind: the folder of texts beside `any`.
        values: what their `@@NAMES@@` stand for.
        example: a request of the model, as JSON.
        requirements: lines for requirements.txt of the model.
        release: files to copy into the release folder, by their names there.
        modules: files to copy into the package `model`, by their names there.
        allow_programs: whether the stack must take programs.
    """

    kind: str
    example: Mapping[str, object]
    values: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    release: Mapping[str, Path] = field(default_factory=dict)
    modules: Mapping[str, Path] = field(default_factory=dict)
    allow_programs: bool = False

    @property
    def example_json(self) -> str:
        """The example as JSON text on one line."""
        return json.dumps(self.example, ensure_ascii=False)

    @property
    def steps(self) -> str:
        """What the user does next, for the README."""
        return _OWN_WEIGHTS if self.kind in KINDS else _MADE_FROM


# By kind: the example of the texts there. `Model.example()` in them gives the same.
_EXAMPLES: dict[str, dict[str, object]] = {
    "tabular": {"area": 84.0, "rooms": 3.0, "age": 12.0},
    "text": {"text": "The food was great, and the people were friendly."},
    "chat": {"prompt": "the cat ", "max_characters": 40, "seed": 1},
}


def of_kind(kind: str) -> Blueprint:
    """A project with a small model of this kind, which trains in some seconds."""
    if kind == "image":
        return Blueprint(kind, {"image": png_of("red")}, requirements=(requirement("pillow"),))
    return Blueprint(kind, _EXAMPLES[kind])


def requirement(distribution: str, otherwise: str = "") -> str:
    """A line of requirements.txt: the version that is installed here, or else a version that is known to work."""
    try:
        return f"{distribution}=={metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return f"{distribution}{otherwise}"


def png_of(colour: str, side: int = 32) -> str:
    """A square of one colour as a PNG file in base64, made without Pillow (PNG specification, chapters 5 and 11)."""
    red_green_blue = {"red": b"\xff\x00\x00", "grey": b"\x80\x80\x80"}[colour]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\x00" + red_green_blue * side) * side)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(file).decode()
