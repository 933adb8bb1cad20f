"""Images: a PIL image from PNG, JPEG, WebP or GIF, turned as its camera says, in the mode that the model wants."""

import contextlib
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from serving.types.contents import Content, ContentRules, refused

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Pillow's names of formats, and their media types.
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
# A mode with transparency, by the mode that has none.
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True)
class ImageRules(ContentRules):
    """What an image field takes: `Annotated[Image, ImageRules(mode="L")]`."""

    mode: str | None = "RGB"
    """The mode of Pillow that a request's image is converted to; None keeps what the file has. Transparent parts become
    white where the mode has no transparency."""

    max_pixels: int = 25_000_000
    """The most pixels, width times height. A small file can hold a very large image: it is refused before it is decoded."""

    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF")
    """The formats that are taken, by Pillow's names."""

    answer_format: str = "PNG"
    """The format of an image in an answer."""

    noun: ClassVar[str] = "image"

    @property
    def media_types(self) -> tuple[str, ...]:
        """As `ContentRules.media_types`."""
        return tuple(MEDIA_TYPES[name] for name in self.formats)

    @property
    def answer_type(self) -> str:
        """As `ContentRules.answer_type`: that of `answer_format`."""
        return MEDIA_TYPES[self.answer_format]

    def from_python(self, value: Any) -> "Picture | None":
        """A PIL image as it is, or the image of a NumPy array (height, width, channels) of uint8."""
        pillow = sys.modules.get("PIL.Image")
        if pillow is not None and isinstance(value, pillow.Image):
            return value  # type: ignore[no-any-return]
        if hasattr(value, "__array_interface__"):
            made: Picture = _pillow().fromarray(value)
            return made
        return None

    def decode(self, content: Content) -> "Picture":
        """The image of a file.

        Raises:
            PydanticCustomError: it is no image of these formats, it is damaged, or it has too many pixels.
        """
        module = _pillow()
        taken = ", ".join(self.formats)
        try:
            image: Picture = module.open(io.BytesIO(content.data), formats=self.formats)
        except module.DecompressionBombError:
            raise self._too_many_pixels() from None
        except Exception:
            # Pillow raises errors of many kinds for bytes that are no image.
            raise refused("image_invalid", f"this is no image of a format that is taken: {taken}") from None
        with image:
            if image.width * image.height > self.max_pixels:
                raise self._too_many_pixels()
            try:
                image.load()
            except MemoryError:
                raise
            except Exception:
                raise refused("image_invalid", f"the {image.format} image is damaged or not complete") from None
            return self._prepared(image)

    def _prepared(self, image: "Picture") -> "Picture":
        from PIL import ImageOps

        turned = image
        # An image with a broken EXIF part is an image all the same.
        with contextlib.suppress(Exception):
            turned = ImageOps.exif_transpose(image)
        if self.mode is None or turned.mode == self.mode:
            return turned.copy()
        if turned.mode.startswith("I"):
            # 16 bits for each pixel: Pillow itself would clip them to the lowest eight.
            turned = turned.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        has_alpha = turned.mode in _TRANSPARENT or "transparency" in turned.info
        if has_alpha and self.mode not in _TRANSPARENT:
            layer = turned.convert("RGBA")
            turned = _pillow().new("RGBA", layer.size, "white")
            turned.alpha_composite(layer)
        return turned.convert(self.mode)

    def encode(self, value: "Picture") -> Content:
        """As `ContentRules.encode`, in `answer_format`."""
        into = io.BytesIO()
        plain = value.convert("RGB") if self.answer_format == "JPEG" and value.mode not in ("RGB", "L") else value
        plain.save(into, self.answer_format)
        return Content(into.getvalue(), MEDIA_TYPES[self.answer_format])

    def _too_many_pixels(self) -> Exception:
        return refused("image_too_large", f"the image has more than {self.max_pixels} pixels", limit=self.max_pixels)


def _pillow() -> Any:
    """The module PIL.Image.

    Raises:
        ModuleNotFoundError: Pillow is not installed; the message has the line that adds it.
    """
    try:
        import PIL.Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "The type Image needs Pillow, which is not installed. "
            "Next: add the line `pillow` to the model's requirements.txt.",
            name="PIL",
        ) from None
    return PIL.Image
