"""Publishing: upload a folder as a release, and make it the current release of a channel.

The order makes it safe: first a lease, which `gc` respects, then the files, then the manifest with their hashes, then
the channel. So a channel never names a release that is not complete, even if a publication is interrupted.
"""

import json
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from pydantic import JsonValue, ValidationError

from lambda_torch import project
from lambda_torch.aws_errors import explained
from lambda_torch.checking.defects import told
from lambda_torch.errors import BucketError
from lambda_torch.releases import channels, leases
from lambda_torch.releases.bucket import Bucket, Release
from lambda_torch.releases.keys import SigningKey, add_signature
from serving.contract import ServedModel
from serving.releases import format, golden, screening
from serving.releases.format import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    FileEntry,
    GoldenExample,
    Manifest,
    file_key,
    version_of,
)

Progress = Callable[[str, int], None]
"""Called with `(file name, bytes sent)` during an upload."""

# Numbers are recorded on one CPU and checked on another, which may round differently.
RECORDED_TOLERANCE = 1e-4
FILES_AT_ONCE = 4
FRAMEWORKS = ("torch", "numpy", "safetensors")


@dataclass(frozen=True)
class Published:
    """What a publication did, or would do.

    Attributes:
        release: the release.
        sent: the names of the uploaded files. The bucket already had the others.
        existed: whether the release was published before. Then its manifest does not change.
        previous: the version that the channel named before. None for a new channel, or if no channel is moved.
    """

    release: Release
    sent: tuple[str, ...]
    existed: bool
    previous: str | None

    @property
    def version(self) -> str:
        """The release's version."""
        return self.release.ref.version

    @property
    def programs(self) -> tuple[str, ...]:
        """The files that are programs, which a function takes only where it is allowed."""
        return tuple(name for name, entry in self.release.manifest.files.items() if entry.format is not None)


def publish(
    folder: Path,
    bucket: Bucket,
    *,
    channel: str | None = "live",
    note: str = "",
    metrics: Mapping[str, float] | None = None,
    golden_file: Path | None = None,
    key: SigningKey | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> Published:
    """Upload a release folder, and make it the channel's current release after it has answered its golden examples.

    Args:
        folder: the release folder. Everything in it belongs to the release.
        bucket: the bucket for the release.
        channel: the channel to move. None only uploads.
        note: one line for people, stored in the manifest.
        metrics: numbers for people, stored in the manifest beside the model's own.
        golden_file: a JSON list of `{"request", "response", "tolerance"}`. If a response is missing, the answer of this
            release is recorded. Without a file, the answer to the model's own example is recorded.
        key: signs the release before a channel names it.
        progress: called with the name of a file and the number of bytes in each part that was sent.
        dry_run: check everything, and change nothing.

    Raises:
        BucketError: the folder cannot be served, or the bucket cannot be written.
    """
    if not folder.is_dir():
        raise BucketError(f"{folder} is not a folder.\nNext: make a release: lambda-torch train --output {folder}")
    try:
        files = format.describe(folder)
        screening.check(folder, files, allow_programs=True)
    except ValueError as error:
        raise BucketError(f"{folder} cannot be published: {error}") from error
    model = load(folder)
    examples = golden_examples(model, golden_file)
    measured = {**getattr(model, "metrics", {}), **(metrics or {})}
    try:
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            version=version_of(files),
            created=datetime.now(UTC).replace(microsecond=0),
            note=note,
            files=files,
            frameworks=_frameworks(),
            metrics=measured,
            golden=examples,
        )
        # Refuse here what readers would refuse.
        format.parse(Manifest, format.dump(manifest))
    except ValueError as error:
        raise BucketError(f"The release cannot be described: {_first_problem(error)}") from error
    existed = manifest.version in bucket.versions()
    if not existed:
        # Before anything is sent, because a manifest never changes: with examples that its own release fails, it could
        # not serve.
        check_golden(model, manifest)
    if not dry_run:
        # From here on, gc keeps what the bucket has of this release. Until here, gc may have removed it.
        leases.hold(bucket, manifest.version)
        if existed and manifest.version not in bucket.versions():
            existed = False
            check_golden(model, manifest)
    sent = _send_files(bucket, manifest, folder, progress, dry_run=dry_run)
    if not existed and not dry_run:
        _put_manifest(bucket, manifest)
    release = Release(_ref(manifest), manifest) if dry_run and not existed else bucket.release(manifest.version)
    if release.manifest != manifest:
        check_golden(model, release.manifest)
    if key is not None and not dry_run:
        add_signature(bucket, release.ref, key)
    previous = None
    if channel is not None:
        _, previous = channels.promote(bucket, channel, release.ref, dry_run=dry_run)
    return Published(release, sent, existed, previous)


def _first_problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def load(folder: Path) -> ServedModel:
    """Load the release as the function would and predict once.

    Raises:
        BucketError: the model does not load, or does not predict. The message has its own reason.
    """
    from serving.releases.loader import warm_up

    try:
        from model import Model

        model: ServedModel = Model.load(folder)
        warm_up(model)
    except Exception as error:
        raise BucketError(
            f"{folder} is not a release that {_model_folder()} can serve: {told(error, project.model_in_use())}"
        ) from error
    return model


def _model_folder() -> str:
    """The folder of the model in use, for messages."""
    folder = project.model_in_use()
    return str(folder.relative_to(project.ROOT) if folder.is_relative_to(project.ROOT) else folder)


def golden_examples(model: ServedModel, file: Path | None) -> list[GoldenExample]:
    """The golden examples of a file, or the model's own example. Missing responses are recorded from the model.

    Raises:
        BucketError: the file is not a list of examples, the model refuses a request, or a manifest cannot store an
            example.
    """
    from model import Request

    if file is None:
        example = getattr(model, "example", None)
        if example is None:
            return []
        request: JsonValue = example().model_dump(mode="json", exclude_unset=True)
        try:
            return [_recorded(model, {"request": request})]
        except ValueError as error:
            raise BucketError(
                f"The model's own example cannot be a golden example: {_first_problem(error)}\n"
                "Next: correct Model.example() or its response, or give your own examples: --golden FILE"
            ) from error
    try:
        entries = json.loads(file.read_bytes(), parse_constant=_no_constant)
        fields = set(GoldenExample.model_fields)
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and "request" in entry and set(entry) <= fields for entry in entries
        ):
            raise ValueError('it is not a list of {"request": ..., "response": ..., "tolerance": ...}')
        for entry in entries:
            Request.model_validate_json(json.dumps(entry["request"]))
        return [
            GoldenExample.model_validate(entry) if "response" in entry else _recorded(model, entry) for entry in entries
        ]
    except ValueError as error:
        raise BucketError(f"{file} has no golden examples for this model: {_first_problem(error)}") from error
    except Exception as error:
        # The file cannot be read, or the model's own code raised an exception for a request.
        raise BucketError(f"{file} has no golden examples for this model: {type(error).__name__}: {error}") from error


def check_golden(model: ServedModel, manifest: Manifest) -> None:
    """Check that the release answers the golden examples in the manifest.

    Raises:
        BucketError: an example failed. No channel was moved.
    """
    from model import Request

    try:
        golden.check(model, Request, manifest.golden)
    except golden.GoldenError as error:
        raise BucketError(
            f"Release {manifest.version} does not answer as recorded: {error}\n"
            "No channel was moved. Next: correct the model, or remove the response from the file, to record a new one."
        ) from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _recorded(model: ServedModel, entry: dict[str, JsonValue]) -> GoldenExample:
    from model import Request

    tolerance = entry.get("tolerance", RECORDED_TOLERANCE)
    response = golden.answer(model, Request, entry["request"])
    return GoldenExample.model_validate({"request": entry["request"], "response": response, "tolerance": tolerance})


def _frameworks() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in FRAMEWORKS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _ref(manifest: Manifest) -> format.ReleaseRef:
    import hashlib

    digest = hashlib.sha256(format.dump(manifest)).hexdigest()
    return format.ReleaseRef(version=manifest.version, manifest_sha256=digest)


def _send_files(
    bucket: Bucket, manifest: Manifest, folder: Path, progress: Progress | None, *, dry_run: bool
) -> tuple[str, ...]:
    """Upload the files that the bucket does not have. boto3 sends the parts of a file at the same time."""

    def send(item: tuple[str, FileEntry]) -> str | None:
        name, entry = item
        key = file_key(manifest.version, name)
        if _has(bucket, key, entry):
            if progress:
                progress(name, entry.size)
            return None
        if not dry_run:
            bucket.client.upload_file(
                str(folder / PurePosixPath(name)),
                bucket.name,
                key,
                ExtraArgs={"Metadata": {"sha256": entry.sha256}},
                Callback=(lambda count: progress(name, count)) if progress else None,
            )
        return name

    with explained(bucket.name), ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return tuple(name for name in pool.map(send, manifest.files.items()) if name is not None)


def _has(bucket: Bucket, key: str, entry: FileEntry) -> bool:
    """Whether the bucket has this content, by its size and the hash in its metadata. `verify` reads the bytes."""
    from botocore.exceptions import ClientError

    try:
        head = bucket.client.head_object(Bucket=bucket.name, Key=key)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
            return False
        raise
    return head["ContentLength"] == entry.size and head["Metadata"].get("sha256") == entry.sha256


def _put_manifest(bucket: Bucket, manifest: Manifest) -> None:
    """Write the manifest, unless another command published the same content first. Then its manifest stays."""
    from botocore.exceptions import ClientError

    with explained(bucket.name):
        try:
            bucket.client.put_object(
                Bucket=bucket.name,
                Key=file_key(manifest.version, MANIFEST_NAME),
                Body=format.dump(manifest),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                raise
