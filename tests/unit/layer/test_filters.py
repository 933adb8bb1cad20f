"""The branch filters undo themselves: the Python encoders against the C decoders."""

import ctypes
import random
import struct
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import paths
from builder.native.arm64_filter import encode_arm64
from builder.native.branch_filter import encode_x86

Coder = Callable[[bytes, int], bytes]


class Decoders(NamedTuple):
    """The pager's two decoders."""

    x86: Coder
    arm64: Coder


# Bytes that the x86 filter looks for, much more often than in real code, so that forms overlap and end at the edge.
tricky = st.binary(max_size=96) | st.lists(
    st.sampled_from([0xE8, 0xE9, 0x8B, 0x05, 0x0D, 0x3D, 0x00, 0x1F, 0x20, 0xDF, 0xE0, 0xFF, 0x48]), max_size=96
).map(bytes)

# Words of AArch64 code that the filter changes, at both ends of their ranges, and words that only look like them.
words = st.lists(
    st.sampled_from([0x94000000, 0x97FFFFFF, 0x95FFFFFF, 0x90000000, 0xF0FFFFFF, 0xB07FFFE0, 0xD0800001, 0x14000001])
    | st.integers(0, (1 << 32) - 1),
    max_size=40,
).map(lambda numbers: struct.pack(f"<{len(numbers)}I", *numbers))


@pytest.fixture(scope="module")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Decoders:
    """The pager's decoders, compiled from their source."""
    path = tmp_path_factory.mktemp("filter") / "filter.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", path, paths.PAGER / "filter.c"], check=True)
    library = ctypes.CDLL(str(path))

    def decoder(name: str) -> Coder:
        function = getattr(library, name)
        function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32]
        function.restype = None

        def call(data: bytes, address: int) -> bytes:
            buffer = ctypes.create_string_buffer(data, max(1, len(data)))
            function(buffer, len(data), address)
            return buffer.raw[: len(data)]

        return call

    return Decoders(decoder("filter_x86_decode"), decoder("filter_arm64_decode"))


@given(code=tricky, address=st.integers(0, (1 << 32) - 4096))
@example(code=bytes.fromhex("e8e895cfc301000000"), address=0x11F5000)
def test_any_bytes_come_back(decode: Decoders, code: bytes, address: int) -> None:
    """Whatever the bytes and wherever they lie, decoding gives back what was encoded."""
    assert decode.x86(encode_x86(code, address), address) == code


def test_real_code_comes_back(decode: Decoders) -> None:
    """Long stretches with the density of real code come back too, also past the steps of 16 bytes."""
    dice = random.Random(7)
    for _ in range(20):
        code = b"".join(
            dice.choice([b"\xe8", b"\xe9", b"\x48\x8b\x05", b"\xff\x15", b""])
            + dice.randbytes(3)
            + dice.choice([b"\x00", b"\xff", b"\x7f"])
            + dice.randbytes(dice.randint(0, 20))
            for _ in range(2000)
        )
        address = dice.randrange(0, 1 << 30, 4096)
        assert decode.x86(encode_x86(code, address), address) == code


def test_calls_of_one_function_look_alike() -> None:
    """Two calls of the same target have the same bytes afterwards: that is what the filter is for."""
    target, first, second = 0x123450, 0x1000, 0x9000
    calls = [b"\xe8" + (target - address - 5).to_bytes(4, "little") + b"\x90" for address in (first, second)]
    encoded = [encode_x86(call, address) for call, address in zip(calls, (first, second), strict=True)]
    assert calls[0] != calls[1]
    assert encoded[0] == encoded[1]


@given(code=words | tricky, address=st.integers(0, (1 << 30) - 1024).map(lambda number: number * 4))
def test_any_words_of_aarch64_come_back(decode: Decoders, code: bytes, address: int) -> None:
    """Whatever the words and wherever they lie, decoding gives back what was encoded, with a rest of less than a word."""
    assert decode.arm64(encode_arm64(code, address), address) == code


def test_calls_and_pages_of_aarch64_look_alike() -> None:
    """Two calls of one function have the same bytes afterwards, and so have two instructions that name one page; a jump stays."""
    target, places = 0x3456000, (0x1000000, 0x1084A10)
    calls = [struct.pack("<I", 0x94000000 | (target - place) // 4 & 0x03FFFFFF) for place in places]
    distances = [(target >> 12) - (place >> 12) & 0x1FFFFF for place in places]
    pages = [struct.pack("<I", 0x90000003 | (each & 3) << 29 | each >> 2 << 5) for each in distances]
    for first, second in (calls, pages):
        assert first != second
        assert encode_arm64(first, places[0]) == encode_arm64(second, places[1])
    jump = struct.pack("<I", 0x14000123)
    assert encode_arm64(jump, places[0]) == jump
