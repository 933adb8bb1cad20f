"""A layer with extra packages, made from the layer of `make layer` in a minute: its native half is taken as it is."""

import os
import shutil
from pathlib import Path

from builder import paths
from builder.memo import Memo
from builder.profile import profiles
from builder.python import bundle, extras
from builder.python.tiers import RecordedModules
from builder.stage import install


def with_extras(
    layer: Path, cache: Path, packages: Path, output: Path, target: profiles.Target
) -> extras.ExtraPackages:
    """Bundle the staged tree of the layer's build together with more packages.

    The results of the build are used again, so only what the packages add is compressed. Their modules are compiled when
    they are imported, and their libraries are not split: both cost a start some time, and change nothing else.

    Args:
        layer: the layer of `make layer`, build/layer.
        cache: what its build has kept, build/cache/layer.
        packages: a folder that pip has filled.
        output: the folder for the new layer.
        target: of the staged tree.
    """
    staged = output.parent / "staged"
    for tree in (cache / "staged", packages):
        for path in sorted(tree.rglob("*")):
            new = staged / path.relative_to(tree)
            if path.is_file() and "__pycache__" not in path.parts and not new.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, new)
    profile = profiles.find(paths.PROFILES, target)
    assert profile is not None
    files = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    recorded = RecordedModules(profile.hot, profile.warm, profile.sources)
    bundle.bundle(staged, output / "python", recorded, held=profile.held, memo=Memo(cache / "kept"))
    for path in sorted((layer / "python").rglob("*")):
        if path.is_file() and (".so" in path.name or path.name == "libraries.cold"):
            new = output / path.relative_to(layer)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            shutil.copyfile(path, new)
    return extras.choose(staged, files)


def target_of(cache: Path, machine: str) -> profiles.Target:
    """What the layer in a build's cache was made from."""
    (tree,) = cache.glob("installed-*/python")
    return profiles.target_of(install.Installed(tree, _wheels(tree), reused=True), machine)


def _wheels(tree: Path) -> tuple[install.Wheel, ...]:
    import json

    entries = json.loads((tree.parent / "wheels.json").read_text(encoding="utf-8"))
    return tuple(install.Wheel(*entry) for entry in entries)
