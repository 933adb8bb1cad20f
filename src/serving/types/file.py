"""Files of any kind: the bytes as they came, with the media type and the name that the client gave."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from serving.types.contents import Content, ContentRules, refused


@dataclass(frozen=True)
class FileRules(ContentRules):
    """What a file field takes: `Annotated[File, FileRules(types=("application/pdf",))]`."""

    types: tuple[str, ...] = ("*/*",)
    """The media types that are taken; `text/*` takes all of a kind, and `*/*` takes any."""

    noun: ClassVar[str] = "file"

    @property
    def media_types(self) -> tuple[str, ...]:
        """As `ContentRules.media_types`."""
        return self.types

    def from_python(self, value: Any) -> "File | None":
        """A File as it is."""
        return value if isinstance(value, File) else None

    def decode(self, content: Content) -> "File":
        """The file. Where the client names a media type that is not taken, PydanticCustomError."""
        if content.media_type is not None and not self.takes(content.media_type):
            raise refused("file_media_type", f"the file is {content.media_type}; taken: {', '.join(self.types)}")
        return File(content.data, content.media_type or "application/octet-stream", content.name)

    def encode(self, value: "File") -> Content:
        """As `ContentRules.encode`."""
        return Content(value.data, value.media_type, value.name)


@dataclass(frozen=True)
class File:
    """A file of a request or an answer.

    Attributes:
        data: the bytes.
        media_type: such as `application/pdf`. The client says it, and nobody checks it against the bytes.
        name: the file's name, without folders; None where the client gave none.
    """

    data: bytes
    media_type: str = "application/octet-stream"
    name: str | None = None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As FileRules' own, without limits on the type."""
        return FileRules().__get_pydantic_core_schema__(source, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As FileRules' own."""
        return FileRules().__get_pydantic_json_schema__(schema, handler)
