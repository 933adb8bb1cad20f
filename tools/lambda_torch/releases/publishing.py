"""Publishing: upload a folder as a release, and make it the current release of a channel.

The order makes it safe: first a lease, which `gc` respects, then the files, then the manifest with their hashes, then
the channel. So a channel never names a release that is not complete, even if a publication is interrupted.
"""

import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from lambda_torch import project
from lambda_torch.aws_errors import explained
from lambda_torch.checking.defects import told
from lambda_torch.errors import BucketError
from lambda_torch.releases import channels, leases, processors, release_files
from lambda_torch.releases.bucket import Bucket, Release
from lambda_torch.releases.keys import SigningKey, add_signature
from lambda_torch.releases.recording import first_problem, golden_examples, golden_path, tolerance_of
from lambda_torch.releases.storing import FILES_AT_ONCE, Progress, has_file, metadata_of, put_manifest
from serving.contract import ServedModel
from serving.releases import format, golden, screening
from serving.releases.format import (
    SCHEMA_VERSION,
    FileEntry,
    Manifest,
    file_key,
    version_of,
)

FRAMEWORKS = ("torch", "numpy", "safetensors")


@dataclass(frozen=True)
class Published:
    """What a publication did, or would do.

    Attributes:
        release: the release.
        sent: the names of the uploaded files. The bucket already had the others.
        existed: whether the release was published before. Then its manifest does not change.
        previous: the version that the channel named before. None for a new channel, or if no channel is moved.
        left_out: files of the folder that are no part of the release (`release_files.LEFT_OUT`).
    """

    release: Release
    sent: tuple[str, ...]
    existed: bool
    previous: str | None
    left_out: tuple[str, ...] = ()

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
    say: Callable[[str], None] | None = None,
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
        say: gets a line for each long step. With it, the golden examples of a new release are also tried with the kernels of
            other processors (`processors`). Without it they are not: the release serves on this machine only.

    Raises:
        BucketError: the folder cannot be served, or the bucket cannot be written.
    """
    if not folder.is_dir():
        raise BucketError(_no_folder(folder))
    try:
        release_files.check_names(folder)
        files, left_out = release_files.describe(folder)
        screening.check(folder, files, allow_programs=True)
    except ValueError as error:
        raise BucketError(f"{folder} cannot be published: {error}") from error
    model = load(folder)
    examples = golden_examples(model, golden_file, tolerance_of(folder))
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
        raise BucketError(f"The release cannot be described: {first_problem(error)}") from error
    existed = manifest.version in bucket.versions()
    if not existed:
        # Before anything is sent, because a manifest never changes: with examples that its own release fails, it could
        # not serve.
        check_golden(model, manifest)
        if examples and say is not None:
            processors.try_examples(folder, examples, processors.others(), say)
    if not dry_run:
        # From here on, gc keeps what the bucket has of this release. Until here, gc may have removed it.
        leases.hold(bucket, manifest.version)
        if existed and manifest.version not in bucket.versions():
            existed = False
            check_golden(model, manifest)
    sent = _send_files(bucket, manifest, folder, progress, dry_run=dry_run)
    if not existed and not dry_run:
        put_manifest(bucket, manifest.version, format.dump(manifest))
    release = Release(_ref(manifest), manifest) if dry_run and not existed else bucket.release(manifest.version)
    if release.manifest != manifest:
        check_golden(model, release.manifest)
    if key is not None and not dry_run:
        add_signature(bucket, release.ref, key)
    previous = None
    if channel is not None:
        _, previous = channels.promote(bucket, channel, release.ref, dry_run=dry_run)
    return Published(release, sent, existed, previous, left_out)


def _no_folder(folder: Path) -> str:
    """What to say where the release folder is not there, with the releases that are."""
    others = [project.RELEASE, *sorted((project.BUILD / "releases").glob("*")), project.SAMPLE_RELEASE]
    found = [str(_shown(each)) for each in others if each.is_dir()]
    problem = f"{folder} is not a folder." if folder.exists() else f"{folder} does not exist."
    here = f" Here are: {', '.join(found[:5])}." if found else ""
    return f"{problem}\nNext: name a release folder: the folder with the files that Model.load reads.{here}"


def _shown(path: Path) -> Path:
    """A path as short as it can be named from the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


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
            f"No channel was moved. Next: correct the model. If the new answer is right: {_record_again(manifest)}."
        ) from error


def _record_again(manifest: Manifest) -> str:
    """How to record a new answer. A release that was published keeps its golden examples."""
    file = golden_path()
    here = f"remove the response from {file}, and the new one is recorded; " if file.is_file() else ""
    return (
        f"{here}if these files were published before (version {manifest.version[:16]}), their golden examples never "
        "change, so change one of the files, such as a text file with the date"
    )


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
        if has_file(bucket, key, entry):
            if progress:
                progress(name, entry.size)
            return None
        if not dry_run:
            bucket.client.upload_file(
                str(folder / PurePosixPath(name)),
                bucket.name,
                key,
                ExtraArgs=metadata_of(entry),
                Callback=(lambda count: progress(name, count)) if progress else None,
            )
        return name

    with explained(bucket.name), ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return tuple(name for name in pool.map(send, manifest.files.items()) if name is not None)
