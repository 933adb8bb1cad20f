"""Small shared libraries, compiled by the test that wants them."""

import subprocess
from pathlib import Path


def compiled(folder: Path, source: str, *flags: str) -> bytes:
    """A shared library compiled from C; `folder` is for what is on the way."""
    output = folder / "compiled.so"
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(output), *flags]
    subprocess.run(command, input=source.encode(), check=True)
    return output.read_bytes()


def compiled_with_need(folder: Path, version: str) -> bytes:
    """A library that asks for a symbol of `version`, from a stand-in that is linked in only for its name."""
    (folder / "map").write_text(f"{version} {{ global: new_call; }};")
    script = f"-Wl,--version-script={folder / 'map'}"
    stand_in = compiled(folder, "int new_call(void) { return 1; }", "-Wl,-soname,libnew.so", script)
    (folder / "libnew.so").write_bytes(stand_in)
    return compiled(folder, "int new_call(void); int use(void) { return new_call(); }", f"-L{folder}", "-lnew")
