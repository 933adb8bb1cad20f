"""`lambda-torch region` in a fake cloud with two regions: the project's own stack in both, with the same releases."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from integration.aws_command import Clients, Run
from integration.releases.samples import contents, named, put_release
from integration.stacks.conftest import PACKAGES, PREFIX
from lambda_torch.releases import channels, replicas
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.replicas import REGIONS_KEY, Replica
from lambda_torch.stacks import twins

Deploy = Callable[..., str]
NAME = "models"
THERE = "eu-west-1"
CODE = "code-of-europe"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake cloud makes stacks at once."""
    monkeypatch.setattr(twins, "POLL_SECONDS", 0.05)


@pytest.fixture
def home(client: Clients, deploy: Deploy) -> Bucket:
    """The stack of the first region, whose channel names the second of two releases."""
    bucket = Bucket(client("s3"), deploy(NAME, MemorySize="1769", SigningKey="on"))
    for number in range(2):
        channels.promote(bucket, "live", put_release(bucket, number))
    client("s3", THERE).create_bucket(Bucket=CODE, CreateBucketConfiguration={"LocationConstraint": THERE})
    return bucket


def added(run: Run, client: Clients, *words: str) -> Bucket:
    """Add the second region, and return its bucket."""
    done = run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE, "--json", *words)
    assert done.status == 0, done.errors
    return Bucket(client("s3", THERE), done.json["bucket"])


def stack_of(client: Clients, region: str) -> Any:
    """What CloudFormation says about the stack in a region."""
    (stack,) = client("cloudformation", region).describe_stacks(StackName=NAME)["Stacks"]
    return stack


def test_one_command_makes_a_second_region(run: Run, client: Clients, home: Bucket) -> None:
    """The stack is there with the same parameters and packages, and its channel names the same releases, which it has."""
    there = added(run, client)
    assert there.name != home.name
    assert named(there) == named(home)
    assert there.versions() == home.versions()
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack_of(client, THERE)["Parameters"]}
    # Its functions verify with public keys, so a second key would be paid for nothing.
    assert (parameters["MemorySize"], parameters["SigningKey"]) == ("1769", "off")
    keys = {each["Key"] for each in client("s3", THERE).list_objects_v2(Bucket=CODE)["Contents"]}
    assert {f"{PREFIX}/PredictFunction", f"{PREFIX}/TorchLayer"} <= keys
    functions = client("lambda", THERE).list_functions()["Functions"]
    assert {each["MemorySize"] for each in functions} == {1769, 512}
    text = json.dumps(client("cloudformation", THERE).get_template(StackName=NAME)["TemplateBody"])
    assert f"s3://{PACKAGES}/" not in text
    assert f"s3://{CODE}/" in text or CODE in text


def test_the_command_can_be_repeated(run: Run, client: Clients, home: Bucket) -> None:
    """The second time nothing is made, and nothing changes in either bucket."""
    there = added(run, client)
    before = contents(home), contents(there)
    again = run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE, "--json")
    assert again.status == 0, again.errors
    assert (again.json["made"], again.json["bucket"]) == (False, there.name)
    assert (contents(home), contents(there)) == before


def test_a_dry_run_makes_nothing(run: Run, client: Clients, home: Bucket) -> None:
    """No stack, no package and no list of regions."""
    before = contents(home)
    done = run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE, "--dry-run")
    assert done.status == 0, done.errors
    assert "would be made in eu-west-1, and follow live" in done.output
    assert contents(home) == before
    assert client("cloudformation", THERE).describe_stacks()["Stacks"] == []
    assert "Contents" not in client("s3", THERE).list_objects_v2(Bucket=CODE)


def test_publish_promote_rollback_and_canary_move_both_regions(run: Run, client: Clients, home: Bucket) -> None:
    """Each command on the first bucket takes the releases to the other region, and the channel after them."""
    there = added(run, client)
    other = put_release(home, 2)
    for words in (
        ["promote", other.version],
        ["rollback"],
        ["canary", other.version, "--share", "0.25"],
        ["promote", "canary"],
    ):
        done = run(words[0], *words[1:], "--bucket", home.name)
        assert done.status == 0, done.errors
        assert "eu-west-1: live serves" in done.errors
        assert named(there) == named(home), words
    assert named(home)[0] == other.version
    assert set(there.versions()) == set(home.versions())
    dry = run("rollback", "--bucket", home.name, "--dry-run")
    assert "eu-west-1: live would follow" in dry.errors


def test_a_pointer_never_arrives_before_its_release(
    run: Run, client: Clients, home: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment when a channel is written there, every release that it names is complete there."""
    added(run, client)
    seen = []
    write = Bucket.write

    def watched(self: Bucket, key: str, body: bytes, etag: str | None) -> bool:
        if self.name != home.name and key.startswith("channels/"):
            document = json.loads(body)
            named_there = {document[role]["version"] for role in ("current", "previous") if document[role]}
            seen.append(named_there <= set(self.versions()))
        return write(self, key, body, etag)

    monkeypatch.setattr(Bucket, "write", watched)
    assert run("promote", put_release(home, 2).version, "--bucket", home.name).status == 0
    assert seen == [True]


def test_a_region_that_fails_holds_up_nothing_and_is_behind(run: Run, client: Clients, home: Bucket) -> None:
    """The first region is moved, the message names the region and the next step, `list` shows it, and `sync` mends it."""
    there = added(run, client)
    before = named(there)
    replicas.remove_replica(home, THERE)
    replicas.add_replica(home, Replica(region=THERE, bucket="gone-for-now"))
    other = put_release(home, 2)
    done = run("promote", other.version, "--bucket", home.name, "--json")
    assert done.status == 1
    assert "Behind: eu-west-1" in done.errors
    assert f"Next: lambda-torch region sync --bucket {home.name}" in done.errors
    assert named(home)[0] == other.version
    (result,) = done.json["regions"]
    assert "gone-for-now" in result["problem"]
    listed = run("region", "list", "--bucket", home.name)
    assert "cannot be read" in listed.output
    replicas.add_replica(home, Replica(region=THERE, bucket=there.name))
    assert named(there) == before
    (row,) = run("region", "list", "--bucket", home.name, "--json").json
    assert (row["status"], row["missing"]) == ("behind", [other.version])
    dry = run("region", "sync", "--bucket", home.name, "--dry-run")
    assert (dry.status, "1 releases would be copied" in dry.errors, named(there)) == (0, True, before)
    assert run("region", "sync", "--bucket", home.name).status == 0
    assert named(there) == named(home)
    (row,) = run("region", "list", "--bucket", home.name, "--json").json
    assert row["status"] == "same"
    assert "same" in run("region", "list", "--bucket", home.name).output


def test_a_rollback_in_one_region_stays_until_it_is_taken_back(
    run: Run, client: Clients, home: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region can be rolled back alone; `sync` leaves it, `--force` and the next promotion do not."""
    there = added(run, client)
    _later(monkeypatch, 60)
    assert run("rollback", "--bucket", there.name, AWS_DEFAULT_REGION=THERE).status == 0
    alone = named(there)
    assert alone != named(home)
    assert run("region", "list", "--bucket", home.name, "--json").json[0]["status"] == "moved there"
    refused = run("region", "sync", "--bucket", home.name)
    assert (refused.status, named(there)) == (1, alone)
    assert "region sync --force" in refused.errors
    assert run("region", "sync", "--bucket", home.name, "--force").status == 0
    assert named(there) == named(home)
    assert run("rollback", "--bucket", there.name, AWS_DEFAULT_REGION=THERE).status == 0
    _later(monkeypatch, 120)
    assert run("promote", put_release(home, 2).version, "--bucket", home.name).status == 0
    assert named(there) == named(home)


def _later(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Let channels be moved so many seconds later: they say when in whole seconds."""
    from datetime import UTC, datetime, timedelta

    from lambda_torch.releases import bucket

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(UTC) + timedelta(seconds=seconds)

    monkeypatch.setattr(bucket, "datetime", Later)


def test_a_region_can_follow_no_more(run: Run, client: Clients, home: Bucket) -> None:
    """After `remove` only the first region moves, and the other serves on."""
    there = added(run, client)
    before = named(there)
    done = run("region", "remove", THERE, "--bucket", home.name)
    assert (done.status, "follows no more" in done.output) == (0, True)
    assert run("promote", put_release(home, 2).version, "--bucket", home.name).status == 0
    assert named(there) == before
    for words in (["remove", THERE], ["sync"]):
        gone = run("region", *words, "--bucket", home.name)
        assert (gone.status, "lambda-torch region add" in gone.errors) == (1, True)


@pytest.mark.parametrize(
    ("parameters", "missing"),
    [
        ({"SubnetIds": "subnet-01234567", "SecurityGroupIds": "sg-01234567"}, ["SubnetIds", "SecurityGroupIds"]),
        ({"KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/0a1b"}, ["KmsKeyArn"]),
    ],
)
def test_what_is_in_the_first_region_needs_another_value(
    run: Run, client: Clients, deploy: Deploy, parameters: dict[str, str], missing: list[str]
) -> None:
    """The message lists each such parameter before anything is made; an empty value is one too."""
    deploy(NAME, **parameters)
    done = run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE)
    assert done.status == 1
    assert all(f"{name}: " in done.errors for name in missing)
    assert client("cloudformation", THERE).describe_stacks()["Stacks"] == []
    given = [word for name in missing for word in ("--parameter", f"{name}=")]
    assert run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE, *given, "--dry-run").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["us-east-1", "--stack", NAME], "is in us-east-1 already"),
        ([THERE, "--stack", "nowhere"], "There is no stack nowhere in us-east-1"),
        ([THERE, "--stack", NAME, "--parameter", "Nothing=1"], "has no parameter Nothing"),
    ],
)
def test_what_cannot_be_added_is_told(run: Run, deploy: Deploy, words: list[str], said: str) -> None:
    """The same region, no such stack, no such parameter."""
    deploy(NAME)
    done = run("region", "add", *words)
    assert (done.status, said in done.errors) == (1, True)


def test_a_list_of_regions_that_is_damaged_is_told(run: Run, home: Bucket) -> None:
    """It is not taken for an empty one; the message names the object."""
    home.client.put_object(Bucket=home.name, Key=REGIONS_KEY, Body=b"{}")
    done = run("region", "list", "--bucket", home.name)
    assert (done.status, REGIONS_KEY in done.errors) == (1, True)


def test_without_a_bucket_for_code_sams_own_is_used(run: Run, client: Clients, home: Bucket) -> None:
    """SAM's managed bucket of the region is made where there is none; standard output is the result alone."""
    done = run("region", "add", THERE, "--stack", NAME, "--json")
    assert done.status == 0, done.errors
    assert done.json["made"] is True
    managed = [each["Name"] for each in client("s3", THERE).list_buckets()["Buckets"] if "sam-cli" in each["Name"]]
    (bucket,) = managed
    keys = {each["Key"] for each in client("s3", THERE).list_objects_v2(Bucket=bucket)["Contents"]}
    assert f"{PREFIX}/PredictFunction" in keys


def test_a_stack_that_cloudformation_refuses_leaves_nothing(
    run: Run, client: Clients, home: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has CloudFormation's reason and the next step; no stack is left, and no region follows."""
    refuse = twins.Twins.make

    def broken(self: twins.Twins, twin: twins.StackTwin, template_url: str, progress: Callable[[str], None]) -> str:
        return refuse(self, twin, template_url.replace(CODE, "no-such-bucket"), progress)

    monkeypatch.setattr(twins.Twins, "make", broken)
    done = run("region", "add", THERE, "--stack", NAME, "--packages-bucket", CODE)
    assert done.status == 1
    assert "Next:" in done.errors
    assert client("cloudformation", THERE).describe_stacks()["Stacks"] == []
    assert replicas.replicas_of(home) == []
