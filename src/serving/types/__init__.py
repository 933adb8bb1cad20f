"""Types for the fields of requests and responses that hold more than text and numbers.

    from serving.types import Array, Audio, File, FiniteOrNull, Image

    class Request(BaseModel):
        image: Image                            # a PIL image
        rows: Array["float32", (None, 6)]       # a NumPy array
        sound: Audio                            # samples and their rate
        paper: File                             # bytes, media type, name

Rules of one's own stand beside the type: `Annotated[Image, ImageRules(mode="L")]`. Pillow and NumPy are imported when a
value is decoded, and not before.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from serving.types.array import Array, ArrayRules
from serving.types.audio import Audio, AudioRules
from serving.types.contents import ContentRules
from serving.types.file import File, FileRules
from serving.types.finite import FiniteOrNull
from serving.types.image import ImageRules

if TYPE_CHECKING:
    import PIL.Image

    Image: TypeAlias = PIL.Image.Image
else:
    Image = Annotated[Any, ImageRules()]

__all__ = [
    "Array",
    "ArrayRules",
    "Audio",
    "AudioRules",
    "ContentRules",
    "File",
    "FileRules",
    "FiniteOrNull",
    "Image",
    "ImageRules",
]
