"""How large the layer will be, said before the slow steps: the staged tree's content by kind, times a measured ratio.

The forecast takes a second or two; recording, splitting and verifying take minutes. `report.json` has forecast and
result side by side, so that a ratio which no longer fits is seen (tests/integration/layer/test_budget.py compares
them).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from builder.account.contents import package_of
from builder.errors import LayerSizeError
from builder.native.elf import SharedLibrary
from builder.native.layout import COLD_RULES
from builder.native.page_set import PAGE_BYTES
from builder.native.selection import libraries_of
from builder.profile.profiles import KEYED, Profile
from builder.python import extras
from builder.python.tiers import PACKED, RecordedModules, classify
from builder.stage import policy


class Ratio(NamedTuple):
    """What a byte of one kind of content takes in the layer."""

    likely: float
    least: float  # no measured package took less
    reason: str


AS_IT_IS = Ratio(1.0, 1.0, "files that go over unchanged, and of split libraries what stays in them")
COLD_CODE = Ratio(0.221, 0.20, "cold code and unwind tables of torch 2.13.0 and NumPy 2.4.6 are 22.1 % of their size")
COLD_CODE_OF_OTHERS = Ratio(
    0.28,
    0.20,
    "21 % (scikit-learn 1.9.1), 24 % (scipy 1.17.1), 26 % (tokenizers 0.23.3), 39 % (pillow 13.0.0, safetensors 0.8.0)",
)
HOT_SOURCE = Ratio(0.345, 0.30, "hot modules of the shipped workload: bytecode and source, packed, against the source")
WARM_SOURCE = Ratio(0.370, 0.32, "warm modules of the shipped workload, in the same way")
COLD_SOURCE = Ratio(0.152, 0.13, "cold modules of the shipped workload: packed source against the source")
SOURCE = Ratio(0.275, 0.15, "modules of every tier together, where no profile tells the tiers apart")
EXTRA_SOURCE = Ratio(
    0.14,
    0.10,
    "packed extra packages: 65.5 MB of sources, of transformers 5.24.0 and what it requires, are 7.9 MB with their bytecode",
)
SOURCE_AS_FILE = Ratio(
    2.25,
    2.15,
    "a source and its bytecode: bytecode is 1.18 (transformers 5.24.0) to 1.40 (safetensors) times the source",
)

# Where no profile says which pages are hot: of the code of torch and NumPy the shipped workload touches 13 %.
HOT_SHARE = Ratio(0.13, 0.10, "44.3 of 352 MB of code and unwind tables, torch 2.13.0 and NumPy 2.4.6")

RUN_TIME_BYTES = 460_000
"""The package torch_layer, the pager, the companions and the indexes of both archives."""


class Forecast(NamedTuple):
    """The size of the layer before it is built, in bytes."""

    likely: int
    least: int
    packages: tuple[tuple[str, int], ...]  # name and likely bytes, largest first


class _Part(NamedTuple):
    """Some bytes of one package, all of one kind."""

    package: str
    bytes: float
    ratio: Ratio


def forecast(staged: Path, profile: Profile | None) -> Forecast:
    """What a layer of this tree will have, unzipped.

    Args:
        staged: The tree after strip.
        profile: What is hot, if a profile fits the tree's wheels.

    Raises:
        ElfError: A library is damaged.
    """
    likely: dict[str, float] = {"torch_layer": RUN_TIME_BYTES}
    least = float(RUN_TIME_BYTES)
    libraries = libraries_of(staged, profile.other_builds if profile is not None else ())
    for part in (*_of_libraries(staged, libraries, profile), *_of_other_files(staged, libraries, profile)):
        likely[part.package] = likely.get(part.package, 0.0) + part.bytes * part.ratio.likely
        least += part.bytes * part.ratio.least
    packages = sorted(((name, round(size)) for name, size in likely.items()), key=lambda item: (-item[1], item[0]))
    return Forecast(sum(size for _, size in packages), round(least), tuple(packages))


def _of_libraries(staged: Path, libraries: list[str], profile: Profile | None) -> Iterator[_Part]:
    """The libraries that are split: what goes cold, and what stays."""
    rules = {rule.name for rule in COLD_RULES}
    for name in libraries:
        library = SharedLibrary.read(staged / name)
        package = package_of(name)
        may_go = [section for section in library.sections if section.name in rules]
        size = sum(section.bytes for section in may_go)
        if package not in KEYED:
            hot = least_hot = 0.0
        elif profile is None:
            hot, least_hot = size * HOT_SHARE.likely, size * HOT_SHARE.least
        else:
            pages = [number * PAGE_BYTES for number in profile.pages.of(name)]
            hot = least_hot = float(sum(PAGE_BYTES for page in pages for s in may_go if s.address <= page < s.end))
        ratio = COLD_CODE if package in KEYED else COLD_CODE_OF_OTHERS
        yield _Part(package, len(library.data) - size, AS_IT_IS)
        yield _Part(package, size, _mixed(ratio, hot / size if size else 0.0, least_hot / size if size else 0.0))


def _mixed(ratio: Ratio, hot: float, least_hot: float) -> Ratio:
    """The ratio of content of which a part stays as it is."""
    return Ratio(hot + (1 - hot) * ratio.likely, least_hot + (1 - least_hot) * ratio.least, ratio.reason)


def _of_other_files(staged: Path, libraries: list[str], profile: Profile | None) -> Iterator[_Part]:
    """Python modules by tier, and all other files."""
    split = set(libraries)
    files = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
    recorded = RecordedModules((), frozenset(), frozenset())
    if profile is not None:
        recorded = RecordedModules(profile.hot, profile.warm, profile.sources)
    tiers = classify(list(files), recorded, (), extras.choose(staged, list(files)).packed)
    ratios = {
        **dict.fromkeys(tiers.modules, COLD_SOURCE if profile else SOURCE),
        **dict.fromkeys(tiers.warm, WARM_SOURCE),
        **dict.fromkeys(tiers.hot, HOT_SOURCE),
        **{path: EXTRA_SOURCE for path in tiers.modules if path.split("/")[0] not in PACKED},
    }
    for name, path in files.items():
        if name in split:
            continue
        size, package = path.stat().st_size, package_of(name)
        if name in ratios:
            yield _Part(package, size, ratios[name])
            if name in tiers.staying:
                yield _Part(package, size, AS_IT_IS)
        else:
            yield _Part(package, size, SOURCE_AS_FILE if name.endswith(".py") else AS_IT_IS)


def require_room(found: Forecast, budget_bytes: int) -> None:
    """Refuse a layer that cannot keep within its budget, even if everything packs as well as anything ever did.

    Raises:
        LayerSizeError: Naming the largest packages, and what helps.
    """
    if found.least > budget_bytes:
        raise too_large(
            f"the layer will have at least {found.least:,} bytes unzipped ({found.likely:,} are likely)",
            found.least,
            budget_bytes,
            [(size, name) for name, size in found.packages],
        )


def too_large(what: str, size: int, budget_bytes: int, largest: list[tuple[int, str]]) -> LayerSizeError:
    """The error for a layer of `size` bytes: the largest things of it, and advice that fits.

    Args:
        what: The beginning of the message: what has how many bytes.
        size: The bytes that are over the budget.
        budget_bytes: What the layer may have.
        largest: Bytes and names, largest first; the first twelve are shown.
    """
    rows = "\n".join(f"  {count:>13,}  {name}" for count, name in largest[:12])
    cause = (
        f"{what}, and its budget is {budget_bytes:,} bytes (the function and all of its layers together may have "
        f"{policy.LIMIT_BYTES:,}). The largest:\n{rows}"
    )
    less = "leave packages out of extra-requirements.txt, or choose smaller ones"
    if size > policy.LIMIT_BYTES:
        return LayerSizeError(cause, f"{less}. A larger budget does not help: Lambda refuses a layer of this size")
    enough = min(-(-size // 1_000_000) * 1_000_000, policy.LIMIT_BYTES)
    return LayerSizeError(cause, f"{less}; or, if your function is small, raise the budget: --budget {enough}")
