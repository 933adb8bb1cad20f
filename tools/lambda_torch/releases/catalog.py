"""The commands that read a bucket: list, diff, verify."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambda_torch.aws_errors import explained
from lambda_torch.releases.bucket import Bucket, Release
from lambda_torch.releases.keys import signatures
from serving.releases.format import Manifest, file_key
from serving.releases.signing import is_valid

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ListedRelease:
    """One line of the list.

    Attributes:
        release: the release.
        roles: the channels that name it, and how: `live: current`, `live: canary 10%`, ...
    """

    release: Release
    roles: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The line for `--json`."""
        manifest = self.release.manifest
        return {
            "version": manifest.version,
            "created": manifest.created.isoformat(),
            "size": manifest.size,
            "note": manifest.note,
            "metrics": manifest.metrics,
            "frameworks": manifest.frameworks,
            "channels": list(self.roles),
        }


def roles(bucket: Bucket) -> dict[str, tuple[str, ...]]:
    """For each version that a channel names: the channels, and how they name it."""
    found: dict[str, tuple[str, ...]] = {}
    for state in bucket.channels():
        if state.channel is None:
            continue
        named = [("current", state.channel.current), ("previous", state.channel.previous)]
        if canary := state.channel.canary:
            named.append((f"canary {canary.share * 100:.3g}%", canary))
        for role, ref in named:
            if ref is not None:
                found[ref.version] = (*found.get(ref.version, ()), f"{state.name}: {role}")
    return found


def listing(bucket: Bucket) -> list[ListedRelease]:
    """All releases, newest first, with the channels that name them."""
    named = roles(bucket)
    return [ListedRelease(release, named.get(release.ref.version, ())) for release in bucket.releases()]


def age(created: datetime, now: datetime) -> str:
    """The age in one unit, such as `3 days`."""
    seconds = max(0, int((now - created).total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "now"


def difference(one: Release, other: Release) -> dict[str, Any]:
    """What changed from one release to another: files, metrics, golden examples."""
    a, b = one.manifest, other.manifest
    files = {
        name: {
            "change": "added"
            if name not in a.files
            else "removed"
            if name not in b.files
            else "same"
            if a.files[name].sha256 == b.files[name].sha256
            else "changed",
            "sizes": [a.files[name].size if name in a.files else None, b.files[name].size if name in b.files else None],
        }
        for name in sorted({*a.files, *b.files})
    }
    metrics = {name: [a.metrics.get(name), b.metrics.get(name)] for name in sorted({*a.metrics, *b.metrics})}
    requests = [example.request for example in a.golden]
    requests += [example.request for example in b.golden if example.request not in requests]
    golden = [
        {"request": request, "responses": [_response(a.golden, request), _response(b.golden, request)]}
        for request in requests
    ]
    return {
        "versions": [a.version, b.version],
        "files": files,
        "metrics": metrics,
        "golden": golden,
        "frameworks": [a.frameworks, b.frameworks],
    }


def _response(examples: list[Any], request: Any) -> Any:
    return next((example.response for example in examples if example.request == request), None)


def verify(bucket: Bucket, release: Release, progress: Callable[[int], None] | None = None) -> list[str]:
    """Read every byte of a release, compare it with the manifest, and return the problems. A complete release has none.

    Args:
        progress: called with the number of bytes in each part that was read.
    """
    return [*_misnamed(bucket, release), *damaged_files(bucket, release.manifest, progress).values()]


def damaged_files(bucket: Bucket, manifest: Manifest, progress: Callable[[int], None] | None = None) -> dict[str, str]:
    """Read every file of a release and compare it with the manifest. Returns the problems by the names of the files.

    Args:
        progress: called with the number of bytes in each part that was read.
    """
    problems = {}
    for name, entry in manifest.files.items():
        key = file_key(manifest.version, name)
        digest, size = hashlib.sha256(), 0
        with explained(bucket.name):
            try:
                body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
            except bucket.client.exceptions.NoSuchKey:
                problems[name] = f"{key} is missing"
                continue
            for chunk in body.iter_chunks(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if progress:
                    progress(len(chunk))
        if size != entry.size:
            problems[name] = f"{key} has {size} bytes, but the manifest says {entry.size}"
        elif digest.hexdigest() != entry.sha256:
            problems[name] = f"{key} has SHA-256 {digest.hexdigest()}, but the manifest says {entry.sha256}"
    return problems


def signers(bucket: Bucket, release: Release) -> dict[str, bool]:
    """The public keys of those who signed a release, and whether each one's signature is valid."""
    return {each.signer: is_valid(each, release.ref) for each in signatures(bucket, release.ref.version)}


def _misnamed(bucket: Bucket, release: Release) -> list[str]:
    """The channels that name this release with the hash of another manifest. Functions refuse such a release."""
    return [
        f"the channel {state.name!r} names this release with the hash of another manifest: promote it again"
        for state in bucket.channels()
        if state.channel is not None
        for ref in (state.channel.current, state.channel.previous, state.channel.canary)
        if ref is not None and ref.version == release.ref.version and ref.manifest_sha256 != release.ref.manifest_sha256
    ]
