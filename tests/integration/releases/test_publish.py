"""`lambda-torch publish`: what it sends, what it moves, and what it refuses before it does either."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from pydantic import RootModel

from integration.releases.conftest import Cli
from integration.releases.samples import contents, named
from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.errors import BucketError
from lambda_torch.project import ROOT
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.recording import golden_examples
from model import Request
from program_kit import models
from program_kit.hostile import HOSTILE

REQUEST = {"category": "Russian", "start_letters": "RUS"}


def golden_file(path: Path, *examples: object) -> Path:
    """A file of golden examples."""
    path.write_text(json.dumps(examples))
    return path


def published(bucket: Bucket) -> dict[str, str]:
    """Every object of a bucket but leases, which each publication writes again: key to ETag."""
    return {key: etag for key, etag in contents(bucket).items() if not key.endswith("/.lease")}


def test_a_real_command_keeps_progress_and_result_apart(
    aws: dict[str, str], bucket: Bucket, folders: list[Path]
) -> None:
    """In a pipe, standard output is the JSON and nothing else; the progress bar goes to standard error."""
    program = Path(sys.executable).with_name("lambda-torch")
    command = [str(program), "publish", str(folders[0]), "--bucket", bucket.name, "--json", "--no-try-processors"]
    done = subprocess.run(command, env={**os.environ, **aws}, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (sorted(result["sent"]), result["existed"]) == (["model.json", "weights.safetensors"], False)
    assert named(bucket) == (result["version"], None, None)
    assert "Publishing" in done.stderr
    assert "100%" in done.stderr or "kB" in done.stderr


def test_a_dry_run_changes_nothing(cli: Cli, bucket: Bucket, folders: list[Path]) -> None:
    """A dry run finds the version and what it would send, into an empty bucket and into one with a release."""
    dry = cli("publish", folders[0], "--dry-run", "--json").json
    assert (dry["dry_run"], dry["existed"], len(dry["sent"])) == (True, False, 2)
    assert contents(bucket) == {}
    version = cli("publish", folders[0], "--json").json["version"]
    assert version == dry["version"]
    before = contents(bucket)
    outcome = cli("publish", folders[1], "--dry-run")
    assert f"instead of {version[:16]}" in outcome.errors
    assert "would be" in outcome.errors
    assert contents(bucket) == before


def test_without_promotion_the_release_is_there_and_nothing_names_it(
    cli: Cli, bucket: Bucket, folders: list[Path]
) -> None:
    """`--no-promote` uploads; `promote` by the first letters does the rest."""
    version = cli("publish", folders[0], "--no-promote").output.strip()
    assert [key for key in contents(bucket) if key.startswith("channels/")] == []
    assert cli("promote", version[:8]).status == 0
    assert named(bucket) == (version, None, None)


def test_the_output_is_the_version(cli: Cli, folders: list[Path]) -> None:
    """A script can take the version from standard output, the first time and again."""
    first, again = cli("publish", folders[0]), cli("publish", folders[0])
    assert first.output == again.output
    assert len(first.output.strip()) == 64
    assert "2 files sent" in first.errors
    assert "The bucket already had every file" in again.errors


def test_publishing_again_sends_and_changes_nothing(cli: Cli, bucket: Bucket, folders: list[Path]) -> None:
    """The same content is the same release, whatever the note says; the note that is there stays, and people are told."""
    cli("publish", folders[0], "--note", "first")
    before = published(bucket)
    again = cli("publish", folders[0], "--note", "second")
    assert "did not change" in again.errors
    assert published(bucket) == before
    assert cli("releases", "--json").json[0]["note"] == "first"


def test_metrics_and_note_are_kept_beside_the_models_own(cli: Cli, folders: list[Path]) -> None:
    """`--metric` may be given often; what training left in the release is there too."""
    cli("publish", folders[1], "--metric", "accuracy=0.75", "--metric", "f1=1e-3", "--note", "für alle")
    (listed,) = cli("releases", "--json").json
    assert listed["metrics"] == {"loss": 2.5, "accuracy": 0.75, "f1": 0.001}
    assert listed["note"] == "für alle"


@pytest.mark.parametrize("metric", ["accuracy", "=1", "accuracy=", "accuracy=high", "accuracy=nan", "accuracy=inf"])
def test_a_metric_that_is_no_number_is_refused(metric: str, cli: Cli, bucket: Bucket, folders: list[Path]) -> None:
    """A figure that the manifest cannot hold is a usage error, before anything is sent."""
    outcome = cli("publish", folders[0], "--metric", metric)
    assert outcome.status == 2
    assert metric in outcome.errors
    assert contents(bucket) == {}


def test_a_note_that_is_too_long_is_refused(cli: Cli, bucket: Bucket, folders: list[Path]) -> None:
    """What readers would refuse is never written."""
    outcome = cli("publish", folders[0], "--note", "x" * 1001)
    assert outcome.status == 1
    assert "note" in outcome.errors
    assert contents(bucket) == {}


def test_a_failing_golden_example_moves_and_sends_nothing(
    cli: Cli, bucket: Bucket, folders: list[Path], tmp_path: Path
) -> None:
    """A release that does not answer as it should is told which example, and can be published once the example is right."""
    live = cli("publish", folders[0]).output.strip()
    before = contents(bucket)
    wrong = golden_file(
        tmp_path / "golden.json", {"request": REQUEST}, {"request": REQUEST, "response": ["R", "U", "S"]}
    )
    outcome = cli("publish", folders[1], "--golden", wrong)
    assert outcome.status == 1
    assert "golden example 2: the response[0] is" in outcome.errors
    assert "Next: " in outcome.errors
    assert contents(bucket) == before
    right = golden_file(tmp_path / "golden.json", {"request": REQUEST})
    better = cli("publish", folders[1], "--golden", right).output.strip()
    assert named(bucket) == (better, live, None)


def test_a_response_that_is_left_out_is_recorded(cli: Cli, bucket: Bucket, folders: list[Path], tmp_path: Path) -> None:
    """The recorded answer is the model's own, and stands in the manifest for every later check."""
    file = golden_file(tmp_path / "golden.json", {"request": REQUEST, "tolerance": 0})
    version = cli("publish", folders[0], "--golden", file).output.strip()
    (example,) = bucket.release(version).manifest.golden
    assert isinstance(example.response, list)
    assert [str(name)[0] for name in example.response] == ["R", "U", "S"]
    assert example.tolerance == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '[{"response": []}]',
        '[{"request": {"category": "Russian", "start_letters": "R"}, "tolerence": 1}]',
        '[{"request": {"category": "Klingon", "start_letters": "R"}}]',
        '[{"request": {"category": "Russian"}}]',
        '[{"request": {"category": "Russian", "start_letters": "R"}, "response": [NaN]}]',
        '[{"request": {"category": "Russian", "start_letters": "R"}, "response": [1e999]}]',
        r'[{"request": {"category": "Russian", "start_letters": "R"}, "response": ["\ud800"]}]',
        '[{"request": {"category": "Russian", "start_letters": "R"}, "tolerance": -1}]',
    ],
)
def test_a_file_that_holds_no_examples_is_refused(
    text: str, cli: Cli, bucket: Bucket, folders: list[Path], tmp_path: Path
) -> None:
    """Broken JSON, misspelt fields, and requests that the model refuses are told by the file's name; nothing is sent."""
    file = tmp_path / "golden.json"
    file.write_text(text)
    outcome = cli("publish", folders[0], "--golden", file)
    assert outcome.status == 1
    assert str(file) in outcome.errors
    assert contents(bucket) == {}


def test_an_example_that_json_cannot_hold_is_refused() -> None:
    """A model whose own example is answered with half a character is told so before anything is written."""

    class Answer(RootModel[Any]):
        pass

    class Odd:
        def example(self) -> Request:
            return Request.model_validate(REQUEST)

        def predict(self, requests: list[Request]) -> list[Answer]:
            return [Answer(["\ud800"]) for _ in requests]

    with pytest.raises(BucketError, match="surrogates not allowed") as caught:
        golden_examples(Odd(), None)
    assert "Next: " in str(caught.value)


def test_an_interrupted_upload_goes_on_where_it_stopped(
    cli: Cli, bucket: Bucket, folders: list[Path], proxy: FaultyProxy
) -> None:
    """A file that arrived is not sent again; until everything has, no release is listed and no channel moves."""
    proxy.fault = lambda method, path: Fault(status=403) if (method, path[-12:]) == ("PUT", ".safetensors") else None
    outcome = cli("publish", folders[0], AWS_ENDPOINT_URL_S3=proxy.url)
    assert outcome.status == 1
    assert "Next: " in outcome.errors
    assert [key.rpartition("/")[2] for key in published(bucket)] == ["model.json"]
    assert cli("releases", "--json").json == []
    proxy.fault = lambda method, path: None
    assert cli("publish", folders[0], "--json", AWS_ENDPOINT_URL_S3=proxy.url).json["sent"] == ["weights.safetensors"]


def test_a_file_that_changed_in_the_bucket_is_sent_again(cli: Cli, bucket: Bucket, folders: list[Path]) -> None:
    """An object of another size under a release's key does not count as sent."""
    version = cli("publish", folders[0], "--no-promote").output.strip()
    bucket.client.put_object(Bucket=bucket.name, Key=f"releases/{version}/model.json", Body=b"{}")
    assert cli("publish", folders[0], "--json").json["sent"] == ["model.json"]
    assert cli("verify", version[:8]).status == 0


def test_a_folder_that_is_no_release_is_refused(cli: Cli, bucket: Bucket, folders: list[Path], tmp_path: Path) -> None:
    """A missing folder, an empty one and one with a link in it are refused with the next step, and nothing is sent."""
    (tmp_path / "empty").mkdir()
    linked = copytree(folders[0], tmp_path / "linked")
    (linked / "extra").symlink_to("/etc/passwd")
    for folder, reason in ((tmp_path / "nowhere", "Next: "), (tmp_path / "empty", "no files"), (linked, "regular")):
        outcome = cli("publish", folder)
        assert outcome.status == 1
        assert reason in outcome.errors
    assert contents(bucket) == {}


def test_who_publishes_a_program_is_told_what_it_takes(cli: Cli, folders: list[Path], tmp_path: Path) -> None:
    """Publishing a program says that the function refuses it unless it is allowed, and how that is done; weights say nothing."""
    folder = copytree(folders[0], tmp_path / "release")
    (folder / "extra.pt2").write_bytes((models.written() / "mlp.pt2").read_bytes())
    outcome = cli("publish", folder)
    assert outcome.status == 0
    said = " ".join(outcome.errors.split())
    assert "extra.pt2: a program. The function refuses the release unless" in said
    assert "AllowPrograms is true" in said
    assert "AllowPrograms" not in cli("publish", folders[1]).errors
    (folder / "extra.pt2").write_bytes(HOSTILE["tensor named metadata"].make(tmp_path / "marker"))
    assert "extra.pt2 has a size that is not one of torch's" in cli("publish", folder).errors
