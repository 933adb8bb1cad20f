"""Releases that are programs, in a function that follows its channel: taken where they are allowed, and refused without harm."""

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from integration.releases import program_model
from integration.releases.program_model import Request
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from program_kit import models
from program_kit.archives import pack, records_of
from program_kit.hostile import HOSTILE
from serving.errors import ReleaseUnavailableError
from serving.releases import format
from serving.releases.deaths import DeathMarks
from serving.releases.follower import Follower, RefreshPace
from serving.releases.format import GoldenExample, Manifest, ReleaseRef
from serving.releases.loader import Loader
from serving.releases.reading import ChannelReader
from serving.releases.reporting import ReleaseLog
from serving.releases.room import Room
from serving.releases.slot import Slot
from serving.releases.store import ReleaseStore
from serving.releases.swapper import Swapper
from serving.storage.objects import Objects
from serving.telemetry.emf import Metrics
from serving.telemetry.log import Log

# TorchScript is deprecated in torch 2.13; it is still read.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

ROW = [1.0, 2.0, 3.0, 4.0]
StartFollowing = Callable[..., Follower]


def put(bucket: Bucket, folder: Path, *golden: GoldenExample) -> ReleaseRef:
    """Put a folder into the bucket as a person with access to the bucket alone can: nothing of it is loaded."""
    files = format.describe(folder)
    manifest = Manifest(
        schema_version=1, version=format.version_of(files), created=datetime.now(UTC), files=files, golden=[*golden]
    )
    for name in files:
        key = format.file_key(manifest.version, name)
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=(folder / name).read_bytes())
    body = format.dump(manifest)
    key = format.file_key(manifest.version, format.MANIFEST_NAME)
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    return ReleaseRef(version=manifest.version, manifest_sha256=hashlib.sha256(body).hexdigest())


def folder_of(parent: Path, name: str, content: bytes) -> Path:
    """A release folder with one program."""
    folder = parent / f"{len(list(parent.iterdir()))}"
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def following(bucket: Bucket, direct: Objects, tmp_path: Path) -> StartFollowing:
    """Starts to follow the channel, with or without programs."""

    class Package:
        Model = program_model.Model
        Request = program_model.Request
        Response = program_model.Response

    def start(*, allow_programs: bool) -> Follower:
        slot, log = Slot(), ReleaseLog(Log("CRITICAL"), Metrics("test"))
        reader = ChannelReader(
            lambda: ReleaseStore(direct, bucket.name, tmp_path / "cache", 60), "live", allow_programs=allow_programs
        )
        package: Any = Package
        loader = Loader(package, Room(16 * 1024**3), DeathMarks(tmp_path / "cache"), 60.0)
        follower = Follower(reader, Swapper(slot, reader, loader, log), slot, RefreshPace(0, 0), log)
        follower.start()
        return follower

    return start


def answer(follower: Follower) -> tuple[str, list[float]]:
    """The release that answers, and its answer."""
    with follower.use(lambda: b"") as release:
        (response,) = release.model.predict([Request(row=ROW)])
    assert isinstance(response, program_model.Response)
    return release.version, response.row


@pytest.mark.parametrize("name", ["mlp.pt2", "mlp-traced.torchscript"])
def test_programs_serve_where_they_are_allowed_and_nowhere_else(
    bucket: Bucket, following: StartFollowing, tmp_path: Path, name: str
) -> None:
    """The same release answers with AllowPrograms, and is a refusal with the next step without."""
    program = f"model{Path(name).suffix}"
    folder = folder_of(tmp_path, program, (models.written() / name).read_bytes())
    ref = put(bucket, folder)
    channels.promote(bucket, "live", ref)
    expected = program_model.Model.load(folder).predict([Request(row=ROW)])[0].row
    version, row = answer(following(allow_programs=True))
    assert version == ref.version
    assert row == pytest.approx(expected)
    with pytest.raises(ReleaseUnavailableError, match=rf"{program} is a program .*AllowPrograms") as refused:
        answer(following(allow_programs=False))
    assert refused.value.code == "release_refused"


def test_hostile_programs_cost_nothing_but_a_refusal(bucket: Bucket, following: StartFollowing, tmp_path: Path) -> None:
    """While one hostile release after the other becomes current, the good one goes on serving, and nothing ran."""
    good = put(bucket, folder_of(tmp_path, "model.pt2", (models.written() / "mlp.pt2").read_bytes()))
    channels.promote(bucket, "live", good)
    follower = following(allow_programs=True)
    before = answer(follower)
    marker = tmp_path / "marker"
    for kind in ("tensor named metadata", "capital letters", "alloc from pool", "parentheses", "pickled weight"):
        hostile = HOSTILE[kind]
        name = "model.pt2" if hostile.kind == "torch.export" else "model.torchscript"
        channels.promote(bucket, "live", put(bucket, folder_of(tmp_path, name, hostile.make(marker))))
        follower.start()
        assert answer(follower) == before
        assert name in (follower.counters.problem or "")
    assert not marker.exists()


def test_what_crashes_in_the_trial_is_a_refusal_and_the_model_goes_on(
    bucket: Bucket, following: StartFollowing, tmp_path: Path
) -> None:
    """A program that passes the checks and fails when it runs does not come near the process that serves."""
    good = put(bucket, folder_of(tmp_path, "model.pt2", (models.written() / "mlp.pt2").read_bytes()))
    channels.promote(bucket, "live", good)
    follower = following(allow_programs=True)
    before = answer(follower)
    records = records_of(models.written() / "mlp-scripted.torchscript")
    for statement, reason in (
        ("bias = torch.add(bias, torch.sum(torch.repeat(torch.ones([1000000]), [1000000])))", "memory"),
        ('ops.prim.RaiseException("no", "builtins.ValueError")', "not answered"),
    ):
        name = next(name for name in records if "linear" in name and name.endswith(".py"))
        changed = records[name].replace(
            b"    return torch.linear", f"    {statement}\n    return torch.linear".encode()
        )
        folder = folder_of(tmp_path, "model.torchscript", pack({**records, name: changed}))
        golden = GoldenExample(request={"row": [*ROW]}, response={"row": [0.0, 0.0, 0.0]}, tolerance=1.0)
        channels.promote(bucket, "live", put(bucket, folder, golden))
        follower.start()
        assert answer(follower) == before
        assert reason in (follower.counters.problem or "")


def test_a_program_in_the_cache_is_looked_at_again(bucket: Bucket, following: StartFollowing, tmp_path: Path) -> None:
    """A program that the cache has from before is refused all the same once programs are off."""
    ref = put(bucket, folder_of(tmp_path, "model.pt2", (models.written() / "mlp.pt2").read_bytes()))
    channels.promote(bucket, "live", ref)
    assert answer(following(allow_programs=True))[0] == ref.version
    assert (tmp_path / "cache" / ref.version / "model.pt2").exists()
    with pytest.raises(ReleaseUnavailableError):
        answer(following(allow_programs=False))
    shutil.rmtree(tmp_path / "cache")
