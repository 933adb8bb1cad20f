"""Programs of `torch.export.save` (`.pt2`): what such an archive may hold.

What torch 2.13 does with one, read in its sources: `torch.export.load` calls `torch.load(weights_only=False)` for
weights that are marked `use_pickle`, for archives of older versions, and for example inputs that the safe reader
refuses. It unpickles custom objects, loads compiled libraries, gives sizes and guards to Python's eval, and takes any
name below `torch` for an operator. Here nothing is let through that has a place for one of these.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from serving.releases.programs import pickles, schema
from serving.releases.programs.archive import Archive
from serving.releases.programs.fields import read_json
from serving.releases.programs.refusal import ProgramError

_RECORDS: Final = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_INPUT_RECORDS: Final = re.compile(
    r"data\.pkl|data/\d+|byteorder|version|\.format_version|\.storage_alignment|\.data/(version|serialization_id)"
)
# Bytes of an element by `ScalarType` of the schema.
_ITEM_BYTES: Final[Mapping[int, int]] = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 2,
    7: 4,
    8: 8,
    9: 4,
    10: 8,
    11: 16,
    12: 1,
    13: 2,
    28: 2,
    29: 1,
    30: 1,
    31: 1,
    32: 1,
    33: 1,
    34: 4,
    35: 8,
}
_STRIDED: Final = 7


def check(archive: Archive) -> None:
    """Look through an archive of `torch.export.save`.

    Raises:
        ProgramError: it is none of torch 2.8 or later, or has something in it that is not let through.
    """
    if "models/model.json" not in archive or "archive_format" not in archive:
        raise ProgramError("is not an archive of torch.export.save of torch 2.8 or later")
    if other := next((name for name in archive.records if not _RECORDS.fullmatch(name)), None):
        raise ProgramError(
            f"holds {other}, which may be code: only one program, its tensors and its sizes are let through"
        )
    check_values(archive, {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"})
    _check_payloads(archive, "weights", "weight_")
    _check_payloads(archive, "constants", "tensor_")
    _check_example_inputs(archive.read("data/sample_inputs/model.pt"))
    schema.PROGRAM(read_json(archive.read("models/model.json"), "graph"))


def check_values(archive: Archive, values: Mapping[str, bytes]) -> None:
    """The small records of an archive must say what torch writes into them; missing ones are torch's to miss.

    Raises:
        ProgramError: one says something else.
    """
    for name, expected in values.items():
        if name in archive and archive.read(name) != expected:
            raise ProgramError(f"has another {name} than {expected.decode()}")
    for name in ("version", ".data/version", ".data/serialization_id", ".format_version", ".storage_alignment"):
        # torch reads all but the hash as a number of 64 bits.
        digits = 60 if name == ".data/serialization_id" else 9
        if name in archive and not re.fullmatch(rb"\d{1,%d}\n?" % digits, archive.read(name, 61)):
            raise ProgramError(f"has a {name} that is no number")


def _check_payloads(archive: Archive, folder: str, prefix: str) -> None:
    place = f"data/{folder}/"
    config = read_json(archive.read(f"{place}model_{folder}_config.json"), f"list of {folder}")
    schema.PAYLOADS(config)
    used: dict[str, int] = {}
    for name, entry in config["config"].items():
        record = archive.records.get(place + entry["path_name"])
        if record is None or not entry["path_name"].startswith(prefix):
            raise ProgramError(f"names {entry['path_name']} for {name}, which is not there")
        meta = entry["tensor_meta"]
        # torch reads a record once, as the type that it is first named with.
        if used.setdefault(entry["path_name"], meta["dtype"]) != meta["dtype"]:
            raise ProgramError(f"reads {entry['path_name']} as two types")
        _check_tensor(name, meta, record.size)
    there = {name.removeprefix(place) for name in archive.records if name.startswith(place + prefix)}
    if unused := sorted(there - set(used)):
        raise ProgramError(f"holds {place}{unused[0]}, which nothing in it refers to")


def _check_tensor(name: str, meta: Mapping[str, Any], size: int) -> None:
    item = _ITEM_BYTES.get(meta["dtype"])
    if item is None or meta["layout"] != _STRIDED or size % item:
        raise ProgramError(f"holds {name} as a tensor of an unknown kind, or a part of an element")
    numbers = [*meta["sizes"], *meta["strides"], meta["storage_offset"]]
    if any("as_int" not in number for number in numbers):
        raise ProgramError(f"holds {name} with a size that is not a number")
    sizes, strides = ([number["as_int"] for number in meta[key]] for key in ("sizes", "strides"))
    pickles.check_bounds(sizes, strides, meta["storage_offset"]["as_int"], size // item)


def _check_example_inputs(content: bytes) -> None:
    """torch reads them without a restriction where the restricted reader fails, so they hold plain values only."""
    if not content:
        return
    archive = Archive(content)
    if other := next((name for name in archive.records if not _INPUT_RECORDS.fullmatch(name)), None):
        raise ProgramError(f"holds example inputs with {other}")
    check_values(archive, {"byteorder": b"little"})
    sizes = {name[5:]: record.size for name, record in archive.records.items() if name.startswith("data/")}
    pickles.follow(archive.read("data.pkl"), sizes=sizes)
