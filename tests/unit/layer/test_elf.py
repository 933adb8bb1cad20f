"""Reading ELF files: what is there, and what is refused."""

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import ElfError
from builder.native.elf import SharedLibrary, Tag, pack_note


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small shared library."""
    folder = tmp_path_factory.mktemp("elf")
    source = folder / "small.c"
    source.write_text(
        "int other(void); int value = 5; int *pointer = &value; int f(void) { return other() + value; }\n"
        "static int one(void) { return 1; } static int (*pick(void))(void) { return one; }\n"
        'int chosen(void) __attribute__((ifunc("pick")));\n'
    )
    output = folder / "libsmall.so"
    flags = ["-shared", "-fPIC", "-Wl,-soname,libsmall.so.1", "-Wl,-rpath,$ORIGIN", "-lm", "-Wl,--no-as-needed", "-lm"]
    subprocess.run(["gcc", "-o", output, source, *flags], check=True)
    return output


def test_tables_agree_with_pyelftools(path: Path) -> None:
    """Segments, sections, dynamic entries and bytes are those that pyelftools finds."""
    library = SharedLibrary.read(path)
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert [s.address for s in library.segments] == [s["p_vaddr"] for s in elf.iter_segments()]
        text = elf.get_section_by_name(".text")
        assert text is not None
        assert library.at(text["sh_addr"], text["sh_size"]) == text.data()
        assert {s.name for s in library.sections} >= {".text", ".dynsym", ".dynstr", ".eh_frame"}
    assert library.machine in ("x86_64", "aarch64")
    assert "libm.so.6" in [library.string(value) for tag, value in library.dynamic if tag == Tag.NEEDED]
    soname, runpath = library.tag(Tag.SONAME), library.tag(Tag.RUNPATH)
    assert soname is not None
    assert runpath is not None
    assert (library.string(soname), library.string(runpath)) == ("libsmall.so.1", "$ORIGIN")


def test_relocations_and_resolvers(path: Path) -> None:
    """Every dynamic relocation is found, and the functions that the loader calls while it relocates."""
    library = SharedLibrary.read(path)
    with path.open("rb") as file:
        elf = ELFFile(file)
        expected = sum(
            elf.get_section_by_name(name).num_relocations()  # type: ignore[union-attr]
            for name in (".rela.dyn", ".rela.plt")
        )
    assert len(list(library.relocations())) == expected
    resolvers = library.resolvers()
    text = next(section for section in library.sections if section.name == ".text")
    assert resolvers
    assert all(text.address <= address < text.end for address in resolvers)


def test_addresses_outside_the_file(path: Path) -> None:
    """Asking for bytes that no segment brings is an error with the address, not a wrong answer."""
    with pytest.raises(ElfError, match="0x7fffffff"):
        SharedLibrary.read(path).at(0x7FFFFFFF, 8)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """What is not a 64-bit little-endian shared library is refused by name."""
    path = tmp_path / "libother.so"
    path.write_bytes(content)
    with pytest.raises(ElfError, match=r"libother\.so"):
        SharedLibrary.read(path)


@given(st.data())
@settings(max_examples=150)
def test_damage_never_escapes(path: Path, data: st.DataObject) -> None:
    """A damaged or cut file gives an ElfError or a library, never another exception, whatever is asked of it."""
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # The ELF header and the program headers, or the section headers at the end.
        place = data.draw(st.integers(0, 1023) | st.integers(len(content) - 2000, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), 64, 500, len(content) // 2]))]
    try:
        library = SharedLibrary(path, bytes(content))
        assert library.loads
        assert library.dynamic is not None
        assert library.sections is not None
    except ElfError as error:
        assert "libsmall.so" in str(error)


def test_notes_are_padded() -> None:
    """A note's name and description are padded to four bytes each, their sizes are not."""
    note = pack_note(b"torch-layer", 1, bytes(16))
    assert note[:12] == (12).to_bytes(4, "little") + (16).to_bytes(4, "little") + (1).to_bytes(4, "little")
    assert len(note) == 12 + 12 + 16
