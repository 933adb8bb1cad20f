"""`releases`, `promote`, `rollback`, `canary`, `diff`, `verify` and `gc`, and what all of them refuse."""

import json

import pytest

from integration.releases.conftest import Cli
from integration.releases.samples import contents, named, put_release
from integration.serving.proxy import Fault, FaultyProxy
from lambda_torch.releases.bucket import Bucket
from serving.releases.format import ReleaseRef


@pytest.fixture
def refs(bucket: Bucket) -> list[ReleaseRef]:
    """Four releases in the bucket, the oldest first; no channel names them."""
    return [put_release(bucket, number, note=f"number {number}") for number in range(4)]


def test_an_empty_bucket_says_how_to_begin(cli: Cli, bucket: Bucket) -> None:
    """With nothing published, the list names the command that publishes, and its JSON is an empty list."""
    assert f"lambda-torch publish FOLDER --bucket {bucket.name}" in cli("releases").errors
    assert cli("releases", "--json").json == []


def test_the_list_is_newest_first_with_all_that_names_a_release(cli: Cli, refs: list[ReleaseRef]) -> None:
    """Version, age, size, note, metrics, and each channel's role for it, in the table as in the JSON."""
    cli("promote", refs[0].version)
    cli("promote", refs[1].version)
    cli("canary", refs[2].version, "--share", "0.125")
    cli("promote", refs[1].version, "--channel", "staging")
    listed = cli("releases", "--json").json
    assert [each["version"] for each in listed] == [ref.version for ref in reversed(refs)]
    assert [each["channels"] for each in listed] == [
        [],
        ["live: canary 12.5%"],
        ["live: current", "staging: current"],
        ["live: previous"],
    ]
    table = cli("releases").output
    for text in (refs[3].version[:16], "number 3", "loss 0.75", "live: canary 12.5%", "staging: current", "9 bytes"):
        assert text in table


def test_a_release_is_promoted_by_the_first_letters_of_its_version(
    cli: Cli, bucket: Bucket, refs: list[ReleaseRef]
) -> None:
    """The message names the release in full, and again says that it is served already."""
    first, second = refs[0].version, refs[1].version
    assert cli("promote", first[:10].upper()).output == f"live now serves {first}.\n"
    assert "already" in cli("promote", first[:10]).output
    moved = cli("promote", second[:10], "--json").json
    assert (moved["channel"], moved["current"]["version"], moved["previous"]["version"]) == ("live", second, first)
    assert named(bucket) == (second, first, None)


def test_an_ambiguous_or_unknown_version_is_refused(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """Letters that begin several versions list them; letters that begin none, and roles that are empty, say so."""
    before = contents(bucket)
    ambiguous, unknown = cli("promote", ""), cli("promote", "zz")
    assert (ambiguous.status, unknown.status) == (1, 1)
    assert "4 versions begin with" in ambiguous.errors
    assert refs[0].version[:16] in ambiguous.errors
    assert "No release begins with 'zz'" in unknown.errors
    assert "no canary release" in cli("promote", "canary").errors
    assert contents(bucket) == before


def test_rolling_back_twice_is_where_one_was(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """A rollback swaps current and previous, and so does the next."""
    first, second = refs[0].version, refs[1].version
    cli("promote", first)
    cli("promote", second)
    assert cli("rollback").output == f"live now serves {first}.\n"
    assert named(bucket) == (first, second, None)
    assert cli("rollback", "--json").json["current"]["version"] == second
    assert named(bucket) == (second, first, None)


def test_with_nothing_to_roll_back_to_the_message_says_so(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """An absent channel and one with a single release have no way back."""
    for _ in range(2):
        outcome = cli("rollback")
        assert outcome.status == 1
        assert "no previous release" in outcome.errors
        cli("promote", refs[0].version)
    assert named(bucket) == (refs[0].version, None, None)


def test_there_is_no_rolling_back_to_what_was_removed_or_replaced(
    cli: Cli, bucket: Bucket, refs: list[ReleaseRef]
) -> None:
    """A previous release without its manifest, or with another than the channel names, stays previous."""
    cli("promote", refs[0].version)
    cli("promote", refs[1].version)
    put_release(bucket, 0, note="written anew")
    assert "is not the one that was promoted" in cli("rollback").errors
    bucket.client.delete_object(Bucket=bucket.name, Key=f"releases/{refs[0].version}/manifest.json")
    assert "There is no release" in cli("rollback").errors
    assert named(bucket) == (refs[1].version, refs[0].version, None)


def test_a_canary_comes_goes_and_becomes_current(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """A canary has its share until it is ended or promoted; either way nothing else about the channel is lost."""
    first, second = refs[0].version, refs[1].version
    cli("promote", first)
    assert cli("canary", second[:9], "--share", "0.25").output == f"{second} answers 25% of live.\n"
    assert named(bucket) == (first, None, second)
    assert first in cli("canary", "--off").output
    assert named(bucket) == (first, None, None)
    assert cli("canary", second, "--share", "0.5", "--json").json["canary"]["share"] == 0.5
    cli("promote", "canary")
    assert named(bucket) == (second, first, None)


@pytest.mark.parametrize(
    "words",
    [[], ["abc"], ["abc", "--share", "0"], ["abc", "--share", "1"], ["abc", "--share", "nan"], ["--off", "abc"]],
)
def test_a_canary_needs_a_version_and_a_share_or_its_end(words: list[str], cli: Cli) -> None:
    """Anything else is a usage error."""
    assert cli("canary", *words).status == 2


def test_a_canary_needs_another_current_release(cli: Cli, refs: list[ReleaseRef]) -> None:
    """There is no canary beside nothing, and none beside itself."""
    assert "no release yet" in cli("canary", refs[0].version, "--share", "0.5").errors
    cli("promote", refs[0].version)
    assert "is already the current release" in cli("canary", refs[0].version, "--share", "0.5").errors


@pytest.mark.parametrize(
    "words",
    [
        ["promote", "{2}"],
        ["rollback"],
        ["canary", "{2}", "--share", "0.5"],
        ["canary", "--off"],
        ["gc", "--keep", "0", "--grace", "0"],
    ],
)
def test_dry_runs_change_nothing(words: list[str], cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """Every command that writes can be tried first."""
    cli("promote", refs[0].version)
    cli("promote", refs[1].version)
    before = contents(bucket)
    outcome = cli(*(word.format(*(ref.version for ref in refs)) for word in words), "--dry-run")
    assert outcome.status == 0
    assert "would" in outcome.output + outcome.errors
    assert contents(bucket) == before


def test_a_difference_tells_files_metrics_and_golden_examples(cli: Cli, refs: list[ReleaseRef]) -> None:
    """What changed from one release to another, as JSON and as tables; the channel's words name releases too."""
    cli("promote", refs[0].version)
    found = cli("diff", "current", refs[2].version[:9], "--json").json
    assert found["versions"] == [refs[0].version, refs[2].version]
    assert found["files"] == {"data.txt": {"change": "changed", "sizes": [9, 9]}}
    assert found["metrics"] == {"loss": [0.0, 0.5]}
    assert found["golden"] == [{"request": {"x": 1}, "responses": [[0], [2]]}]
    tables = cli("diff", refs[0].version, refs[2].version).output
    for text in ("changed", "loss", "0.5", "[2]", refs[2].version[:16]):
        assert text in tables


def test_verifying_reads_every_byte(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """A whole release is status 0; a changed byte, another size and a missing file are each named, with status 1."""
    version = refs[0].version
    assert cli("verify", version[:9]).output == f"{version} is complete.\n"
    key = f"releases/{version}/data.txt"
    for body, reason in ((b"Release 0", "has SHA-256"), (b"release", "has 7 bytes")):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
        outcome = cli("verify", version)
        assert outcome.status == 1
        assert f"{key} {reason}" in outcome.errors
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    outcome = cli("verify", version, "--json")
    assert (outcome.status, outcome.json["problems"]) == (1, [f"{key} is missing"])


def test_verifying_notices_a_channel_that_expects_another_manifest(
    cli: Cli, bucket: Bucket, refs: list[ReleaseRef]
) -> None:
    """A manifest that was replaced is whole, but functions refuse it: the channel names the earlier one's hash."""
    cli("promote", refs[0].version)
    put_release(bucket, 0, note="written anew")
    outcome = cli("verify", "current")
    assert outcome.status == 1
    assert "promote it again" in outcome.errors
    cli("promote", "current")
    assert cli("verify", "current").status == 0


def test_cleaning_up_spares_the_newest_and_whatever_a_channel_names(
    cli: Cli, bucket: Bucket, refs: list[ReleaseRef]
) -> None:
    """Only what is neither among the newest nor current, previous or canary of any channel goes, after its age of grace."""
    more = [put_release(bucket, number) for number in (4, 5, 6)]
    cli("promote", refs[0].version)
    cli("promote", refs[2].version)
    cli("canary", refs[1].version, "--share", "0.5", "--channel", "live")
    cli("promote", more[0].version, "--channel", "staging")
    everything = contents(bucket)
    assert cli("gc", "--keep", "1", "--json").json["removed"] == []
    dry = cli("gc", "--keep", "1", "--grace", "0", "--dry-run", "--json").json["removed"]
    done = cli("gc", "--keep", "1", "--grace", "0", "--json").json["removed"]
    assert dry == done == [more[1].version, refs[3].version]
    assert set(everything) - set(contents(bucket)) == {
        f"releases/{version}/{name}" for version in done for name in ("manifest.json", "data.txt")
    }
    assert cli("gc", "--keep", "0", "--grace", "0").output.split()[-3] == more[2].version[:16]


def test_cleaning_up_stops_at_a_channel_that_cannot_be_read(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """What a garbage pointer names is unknown, so nothing is removed."""
    bucket.client.put_object(Bucket=bucket.name, Key="channels/live.json", Body=b"{}")
    before = contents(bucket)
    outcome = cli("gc", "--keep", "0")
    assert outcome.status == 1
    assert "channels/live.json is not in the format of a channel" in outcome.errors
    assert contents(bucket) == before


COMMANDS = [
    ["releases"],
    ["promote", "abc"],
    ["rollback"],
    ["canary", "--off"],
    ["diff", "a", "b"],
    ["verify", "abc"],
    ["gc", "--keep", "1"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_missing_bucket_is_told_with_the_next_step(words: list[str], cli: Cli) -> None:
    """Every command names the bucket that is not there, and where to find its name."""
    outcome = cli(*words, MODEL_BUCKET="no-such-bucket")
    assert outcome.status == 1
    assert "no-such-bucket" in outcome.errors
    assert "NoSuchBucket" in outcome.errors
    assert "Next: Look up its name" in outcome.errors


def test_without_credentials_the_message_says_how_to_sign_in(cli: Cli, tmp_path: object) -> None:
    """No credentials anywhere is a message, and no stack trace."""
    outcome = cli(
        "releases",
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_SHARED_CREDENTIALS_FILE=f"{tmp_path}/none",
        AWS_CONFIG_FILE=f"{tmp_path}/none",
    )
    assert outcome.status == 1
    assert "Next: Sign in" in outcome.errors


def test_a_wrong_address_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is none, and one where nobody answers, are messages with the next step."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between botocore's attempts
    assert "correct --endpoint-url" in cli("releases", "--endpoint-url", "nowhere").errors
    outcome = cli("releases", "--endpoint-url", "http://127.0.0.1:9")
    assert "AWS_ENDPOINT_URL_S3" in outcome.errors


@pytest.mark.parametrize("name", ["Live", "a_b", "../live", "", "x" * 64, "-a"])
def test_a_bad_channel_name_is_a_usage_error(name: str, cli: Cli, refs: list[ReleaseRef]) -> None:
    """A name that could not be a channel's key is refused with the rule."""
    outcome = cli("promote", refs[0].version, f"--channel={name}")
    assert outcome.status == 2
    assert "a channel's name has 1 to 63" in outcome.errors


def test_a_damaged_manifest_is_named(cli: Cli, bucket: Bucket, refs: list[ReleaseRef]) -> None:
    """A manifest that is none, or describes another release, or is far too large, is told by its key."""
    key, other = f"releases/{refs[0].version}/manifest.json", f"releases/{refs[1].version}/manifest.json"
    another = bucket.client.get_object(Bucket=bucket.name, Key=other)["Body"].read()
    for body, reason in ((b"{}", "Field required"), (another, "another release"), (b" " * 4_194_305, "more than")):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
        outcome = cli("promote", refs[0].version)
        assert outcome.status == 1
        assert f"{key} is damaged" in outcome.errors
        assert reason in outcome.errors


def test_an_answer_that_was_lost_is_not_taken_for_a_conflict(
    cli: Cli, bucket: Bucket, refs: list[ReleaseRef], proxy: FaultyProxy
) -> None:
    """A conditional write whose answer is lost is sent again, meets itself, and counts as done."""
    cli("promote", refs[0].version)
    for words in (["promote", refs[1].version], ["promote", refs[2].version, "--channel", "new"]):
        losses = iter([Fault(lost=True)])
        proxy.fault = lambda method, path: next(losses, None) if method == "PUT" else None  # noqa: B023
        outcome = cli(*words, "--json", AWS_ENDPOINT_URL_S3=proxy.url, AWS_MAX_ATTEMPTS="5")
        assert next(losses, None) is None
        assert json.loads(outcome.output)["current"]["version"] == words[1]
    assert named(bucket) == (refs[1].version, refs[0].version, None)
