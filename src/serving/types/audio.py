"""Sound: samples as float32 between -1 and 1, from WAV files, or from all that the package soundfile reads."""

import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from serving.types.contents import Content, ContentRules, refused

if TYPE_CHECKING:
    from numpy.typing import NDArray

WAV = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
# What soundfile reads beside WAV. Browsers and tools send these media types.
OTHERS = ("audio/flac", "audio/x-flac", "audio/ogg", "audio/mpeg", "audio/mp3")


@dataclass(frozen=True)
class AudioRules(ContentRules):
    """What a sound field takes: `Annotated[Audio, AudioRules(rates=(16_000,))]`."""

    mono: bool = True
    """Whether channels are mixed into one. Else `samples` has the shape (frames, channels)."""

    rates: tuple[int, ...] = ()
    """The sample rates that are taken, in Hz; empty takes any."""

    max_seconds: float = 600.0
    """The longest sound."""

    noun: ClassVar[str] = "sound"

    @property
    def media_types(self) -> tuple[str, ...]:
        """WAV; with soundfile in the model's requirements.txt, also FLAC, Ogg and MP3."""
        return WAV if find_spec("soundfile") is None else (*WAV, *OTHERS)

    def from_python(self, value: Any) -> "Audio | None":
        """An Audio as it is."""
        return value if isinstance(value, Audio) else None

    def decode(self, content: Content) -> "Audio":
        """The sound of a file.

        Raises:
            PydanticCustomError: it is no sound of a format that is taken, it is damaged, too long, or has another rate.
        """
        if find_spec("soundfile") is not None:
            samples, rate = self._by_soundfile(content.data)
        else:
            samples, rate = self._by_wave(content.data)
        return Audio(samples.mean(axis=1) if self.mono else samples, rate)

    def encode(self, value: "Audio") -> Content:
        """A WAV file with 16 bits for each sample."""
        import wave

        import numpy

        frames = value.samples.reshape(len(value.samples), -1)
        whole = (numpy.clip(numpy.nan_to_num(frames), -1, 1) * 32_767).round().astype("<i2")
        into = io.BytesIO()
        with wave.open(into, "wb") as writer:
            writer.setnchannels(frames.shape[1])
            writer.setsampwidth(2)
            writer.setframerate(value.rate)
            writer.writeframes(whole.tobytes())
        return Content(into.getvalue(), WAV[0])

    def _by_wave(self, data: bytes) -> "tuple[NDArray[Any], int]":
        import wave

        import numpy

        try:
            with wave.open(io.BytesIO(data)) as reader:
                rate, width, channels = reader.getframerate(), reader.getsampwidth(), reader.getnchannels()
                count = reader.getnframes()
                raw = reader.readframes(count)
        except (wave.Error, EOFError, ValueError, OverflowError, ArithmeticError, RuntimeError):
            # RuntimeError: a chunk that says it is longer than the file.
            raise refused(
                "sound_invalid", "this is no WAV file with whole numbers (PCM), or the file is damaged"
            ) from None
        if width > 4:
            raise refused("sound_invalid", f"a sample has {width} bytes, and 1 to 4 are taken")
        self._check(count, rate)
        raw = raw[: len(raw) // (width * channels) * width * channels]
        if not raw:
            raise refused("sound_invalid", "the sound has no samples")
        if width == 1:  # the only width without a sign
            flat = (numpy.frombuffer(raw, "u1").astype("float32") - 128) / 128
        elif width == 3:
            # The three bytes become the upper ones of four.
            wide = numpy.zeros((len(raw) // 3, 4), "u1")
            wide[:, 1:] = numpy.frombuffer(raw, "u1").reshape(-1, 3)
            flat = (wide.view("<i4")[:, 0] / 2147483648).astype("float32")
        else:
            flat = (numpy.frombuffer(raw, f"<i{width}") / 2.0 ** (8 * width - 1)).astype("float32")
        return flat.reshape(-1, channels), rate

    def _by_soundfile(self, data: bytes) -> "tuple[NDArray[Any], int]":
        import soundfile

        try:
            reader = soundfile.SoundFile(io.BytesIO(data))
        except RuntimeError:  # soundfile's own error is one
            raise refused("sound_invalid", "this is no sound of a format that is taken, or it is damaged") from None
        with reader:
            rate = int(reader.samplerate)
            self._check(reader.frames, rate)
            samples = self._read(reader)
        return samples, rate

    def _read(self, reader: Any) -> "NDArray[Any]":
        try:
            samples: NDArray[Any] = reader.read(dtype="float32", always_2d=True)
        except RuntimeError:
            raise refused("sound_invalid", "this is no sound of a format that is taken, or it is damaged") from None
        if not len(samples):
            raise refused("sound_invalid", "the sound has no samples")
        return samples

    def _check(self, frames: int, rate: int) -> None:
        if rate <= 0:
            raise refused("sound_invalid", "the sound has no sample rate")
        if self.rates and rate not in self.rates:
            taken = ", ".join(map(str, self.rates))
            raise refused("sound_rate", f"the sound has {rate} samples in a second; taken: {taken}")
        if frames > self.max_seconds * rate:
            raise refused("sound_too_long", f"the sound is longer than {self.max_seconds:g} s", limit=self.max_seconds)


@dataclass(frozen=True)
class Audio:
    """A sound.

    Attributes:
        samples: float32, between -1 and 1: (frames,) for one channel, or (frames, channels).
        rate: samples in a second, for each channel.
    """

    samples: "NDArray[Any]"
    rate: int

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As AudioRules' own."""
        return AudioRules().__get_pydantic_core_schema__(source, handler)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As AudioRules' own."""
        return AudioRules().__get_pydantic_json_schema__(schema, handler)
