"""The bytes behind a field: how a request may give them, and what the JSON schema says about that.

A field of such a type is one of these in JSON:

    "iVBORw0KGgo..."                  base64 (RFC 4648, section 4)
    "data:image/png;base64,iVBO..."   a data: URL (RFC 2397) with base64
    {"upload": "<id>"}                an object that `POST /uploads` made room for

A body that is the file itself, or a part of a multipart body, comes as `{"part": "<name>"}` with its bytes in the
context of the validation.
"""

import base64
import binascii
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MEGABYTE = 1024 * 1024
# Characters of a data: URL before its comma: a media type with parameters is short.
_LONGEST_HEAD = 200


@dataclass(frozen=True)
class Content:
    """Bytes as they came, with what the client said about them.

    Attributes:
        data: the bytes.
        media_type: such as `image/png`; None where the client named none.
        name: the file's name; None where the client named none.
    """

    data: bytes
    media_type: str | None = None
    name: str | None = None


def refused(code: str, message: str, **context: Any) -> PydanticCustomError:
    """The refusal of a value, for the client: it becomes status 400."""
    return PydanticCustomError(code, message, context or None)


@dataclass(frozen=True, kw_only=True)
class ContentRules(ABC):
    """What a field with bytes takes. Each type has rules of its own, which stand in `Annotated` beside the type."""

    max_bytes: int = 32 * MEGABYTE
    """The most bytes before decoding."""

    noun: ClassVar[str] = "file"
    """What messages call the value."""

    @property
    @abstractmethod
    def media_types(self) -> tuple[str, ...]:
        """The media types that are taken, the usual one first. `*/*` takes any."""

    @property
    def answer_type(self) -> str:
        """The media type of an answer."""
        return self.media_types[0]

    @abstractmethod
    def from_python(self, value: Any) -> Any:
        """The field's value from a value that Python code gives, such as an answer; None where it is not of this type."""

    @abstractmethod
    def decode(self, content: Content) -> Any:
        """The field's value from bytes. Raises PydanticCustomError."""

    @abstractmethod
    def encode(self, value: Any) -> Content:
        """The bytes of a value in an answer, and their media type."""

    def takes(self, media_type: str) -> bool:
        """Whether a body of this media type can be this field."""
        main = media_type.partition("/")[0]
        return any(taken in (media_type, f"{main}/*", "*/*") for taken in self.media_types)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic reads and writes the field."""
        writing = core_schema.plain_serializer_function_ser_schema(self.to_json, when_used="json")
        return core_schema.with_info_plain_validator_function(self.validate, serialization=writing)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What the documents say about the field. `x-file` tells the page which widget to show."""
        return self.json_schema(handler.mode)

    def json_schema(self, mode: Literal["validation", "serialization"]) -> JsonSchemaValue:
        """The field's JSON schema in a request (`validation`) or in an answer."""
        known = {"kind": self.noun, "mediaTypes": list(self.media_types), "maxBytes": self.max_bytes}
        if mode == "serialization":
            answer = {"type": "string", "format": "uri", "x-file": known}
            return answer if "*" in self.answer_type else {**answer, "contentMediaType": self.answer_type}
        usual = self.media_types[0] if "*" not in self.media_types[0] else "application/octet-stream"
        text = {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": usual,
            "title": "Base64 or a data: URL",
        }
        return {"anyOf": [text, UPLOADED], "x-file": known}

    def validate(self, value: Any, info: ValidationInfo) -> Any:
        """The field's value. Raises PydanticCustomError for the client's mistakes."""
        if info.mode != "json":
            made = self.from_python(value)
            if made is not None:
                return made
        return self.decode(self.read(value, info.context))

    def to_json(self, value: Any) -> Any:
        """The value in a JSON answer: a data: URL, which a request takes too."""
        content = self.encode(value)
        return f"data:{content.media_type};base64,{base64.b64encode(content.data).decode()}"

    def read(self, value: Any, context: Mapping[str, Any] | None) -> Content:
        """The bytes that a request gives, in any of the forms above."""
        if isinstance(value, Content):
            content = value
        elif isinstance(value, bytes | bytearray | memoryview):
            content = Content(bytes(value))
        elif isinstance(value, str):
            content = self._from_text(value)
        elif isinstance(value, dict) and len(value) == 1:
            content = self._referred(value, context or {})
        else:
            raise refused("file_type", f"give this {self.noun} as base64, as a data: URL, or as {{'upload': id}}")
        if len(content.data) > self.max_bytes:
            raise self._too_large()
        if not content.data:
            raise refused("file_empty", f"the {self.noun} is empty")
        return content

    def _from_text(self, text: str) -> Content:
        media_type, encoded = None, text
        if text.startswith("data:"):
            head, comma, encoded = text.partition(",")
            if not comma or not head.endswith(";base64") or len(head) > _LONGEST_HEAD:
                raise refused("base64_invalid", "a data: URL has to be data:<media type>;base64,<base64>")
            media_type = head.removeprefix("data:").removesuffix(";base64").partition(";")[0].strip().lower() or None
        encoded = "".join(encoded.split())
        # Four characters of base64 are three bytes: what cannot fit is refused before it is decoded.
        if len(encoded) // 4 * 3 - 2 > self.max_bytes:
            raise self._too_large()
        try:
            return Content(base64.b64decode(encoded, validate=True), media_type)
        except (binascii.Error, ValueError):
            raise refused("base64_invalid", f"this is not base64, so it is no {self.noun}") from None

    def _referred(self, value: Mapping[str, Any], context: Mapping[str, Any]) -> Content:
        ((how, name),) = value.items()
        if how == "part" and isinstance(part := context.get("parts", {}).get(name), Content):
            return part
        if how != "upload" or not isinstance(name, str):
            raise refused("file_type", f"give this {self.noun} as base64, as a data: URL, or as {{'upload': id}}")
        if "uploads" not in context:
            raise refused("upload_impossible", "an upload cannot be named here; give the bytes as base64")
        found: Content = context["uploads"](name, self.max_bytes)
        return found

    def _too_large(self) -> PydanticCustomError:
        return refused("file_too_large", f"the {self.noun} has more than {self.max_bytes} bytes", limit=self.max_bytes)


# An upload in a request. `serving.uploads` makes the ids.
UPLOADED: JsonSchemaValue = {
    "type": "object",
    "title": "A file that POST /uploads took",
    "properties": {"upload": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
    "required": ["upload"],
    "additionalProperties": False,
}
