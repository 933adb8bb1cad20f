"""The branch filter undoes itself: the Python encoder against the C decoder."""

import ctypes
import random
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import paths
from builder.native.branch_filter import encode_x86

Decoder = Callable[[bytes, int], bytes]

# Bytes that the filter looks for, much more often than in real code, so that forms overlap and end at the edge.
tricky = st.binary(max_size=96) | st.lists(
    st.sampled_from([0xE8, 0xE9, 0x8B, 0x05, 0x0D, 0x3D, 0x00, 0x1F, 0x20, 0xDF, 0xE0, 0xFF, 0x48]), max_size=96
).map(bytes)


@pytest.fixture(scope="module")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """The pager's decoder, compiled from its source."""
    path = tmp_path_factory.mktemp("filter") / "filter.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", path, paths.PAGER / "filter.c"], check=True)
    function = ctypes.CDLL(str(path)).filter_x86_decode
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32]
    function.restype = None

    def call(data: bytes, address: int) -> bytes:
        buffer = ctypes.create_string_buffer(data, max(1, len(data)))
        function(buffer, len(data), address)
        return buffer.raw[: len(data)]

    return call


@given(code=tricky, address=st.integers(0, (1 << 32) - 4096))
@example(code=bytes.fromhex("e8e895cfc301000000"), address=0x11F5000)
def test_any_bytes_come_back(decode: Decoder, code: bytes, address: int) -> None:
    """Whatever the bytes and wherever they lie, decoding gives back what was encoded."""
    assert decode(encode_x86(code, address), address) == code


def test_real_code_comes_back(decode: Decoder) -> None:
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
        assert decode(encode_x86(code, address), address) == code


def test_calls_of_one_function_look_alike() -> None:
    """Two calls of the same target have the same bytes afterwards: that is what the filter is for."""
    target, first, second = 0x123450, 0x1000, 0x9000
    calls = [b"\xe8" + (target - address - 5).to_bytes(4, "little") + b"\x90" for address in (first, second)]
    encoded = [encode_x86(call, address) for call, address in zip(calls, (first, second), strict=True)]
    assert calls[0] != calls[1]
    assert encoded[0] == encoded[1]
