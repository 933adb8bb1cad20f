import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.conftest import Project, SamResult
from container.deployment import STACK, Cloud, cloud, invoke, typed
from lambda_torch.project import EVENTS
from lambda_torch.sam import command

GUIDED = "guided-stack"
BARE = EVENTS / "bare.json"
# What a change in src/ changes in the stack: a new version of the function takes the old one's place behind the alias, and the
# check of deploys is of the same sources. No layer, no bucket, no API.
UPDATED = {
    ("Modify", "PredictFunction"),
    ("Modify", "DeployCheckFunction"),
    ("Add", "PredictFunctionVersion"),
    ("Modify", "PredictFunctionAliaslive"),
    ("Delete", "PredictFunctionVersion"),
}
# What a person answers at `sam deploy --guided`: another stack, one other parameter, the defaults for the rest.
ANSWERS = [
    (r"Stack Name \[.*?\]", GUIDED),
    (r"AWS Region \[.*?\]", ""),
    (r"Parameter MemorySize \[.*?\]", "1769"),
    (r"Parameter \w+ \[.*?\]", ""),
    (r"Confirm changes before deploy \[.*?\]", "y"),
    (r"Allow SAM CLI IAM role creation \[.*?\]", ""),
    (r"Disable rollback \[.*?\]", ""),
    (r"has no authentication\. Is this okay\? \[.*?\]", "y"),
    (r"Save arguments to configuration file \[.*?\]", "y"),
    (r"SAM configuration file \[.*?\]", ""),
    (r"SAM configuration environment \[.*?\]", ""),
    (r"Deploy this changeset\? \[.*?\]", "y"),
]


@pytest.fixture(scope="module")
def to(images: None) -> Iterator[Cloud]:
    """Where these tests deploy to."""
    with cloud() as running:
        yield running


@pytest.fixture(scope="module")
def deployed(built: Project, to: Cloud) -> SamResult:
    """`sam deploy` with samconfig.toml's defaults."""
    done = built.sam("deploy", "--no-confirm-changeset", variables=to.variables)
    assert done.status == 0, done.said[-4000:]
    return done


def publish(to: Cloud, stack: str, release: Path) -> str:
    """Run the command that a stack's outputs name, as it is there, with this release: the bucket's name."""
    outputs = to.outputs(stack)
    program, *arguments = shlex.split(outputs["PublishCommand"].replace("examples/names/release", str(release)))
    assert program == "lambda-torch"
    subprocess.run(
        [str(Path(sys.executable).with_name("lambda-torch")), *arguments],
        env=command.environment(to.variables),
        check=True,
    )
    return outputs["ModelBucketName"]


@pytest.fixture(scope="module")
def published(deployed: SamResult, to: Cloud, release: Path) -> str:
    """The bucket of the deployed stack, with a release in it."""
    return publish(to, STACK, release)


def build(project: Project, container_pip: list[str]) -> SamResult:
    """Build what changed."""
    done = project.sam("build", "--use-container", *container_pip)
    assert done.status == 0, done.said[-4000:]
    return done


def edit(project: Project, container_pip: list[str], line: str) -> None:
    """Add a line to the function and build it."""
    with (project.folder / "src" / "app.py").open("a") as source:
        source.write(f"\n{line}\n")
    done = build(project, container_pip)
    assert "Valid cache found, copying previously built resources for following layers (TorchLayer)" in done.said


def changes(done: SamResult) -> set[tuple[str, str]]:
    """What a deploy changed: pairs of operation and logical id, without the hash in a version's."""
    lines = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith(("+ ", "* ", "- "))]
    return {(operation, re.sub(r"(?<=Version)[0-9a-f]{10}$", "", name)) for operation, name in lines}


def renamed(name: str) -> str:
    """A line for app.py that makes every answer carry a header."""
    return f"_{name} = lambda_handler; lambda_handler = lambda e, c: (a := _{name}(e, c), a['headers'].update(X_{name}='1'))[0]"


@pytest.fixture(scope="module", autouse=True)
def source_restored(built: Project, container_pip: list[str]) -> Iterator[None]:
    """Edits of these tests do not outlive them."""
    source = built.folder / "src" / "app.py"
    before = source.read_text()
    yield
    source.write_text(before)
    build(built, container_pip)


def test_package_uploads_function_and_layer(built: Project, to: Cloud, tmp_path: Path) -> None:
    """`sam package` leaves a template that names the uploaded zips: the layer's and the two functions'."""
    to.s3.create_bucket(Bucket="packages")
    output = tmp_path / "packaged.yaml"
    done = built.sam(
        "package",
        "--s3-bucket",
        "packages",
        "--output-template-file",
        str(output),
        variables=to.variables,
    )
    assert done.status == 0, done.said
    text = output.read_text()
    assert len(to.keys("packages")) == 3
    assert all(text.count(f"s3://packages/{key}") == 1 for key in to.keys("packages"))


def test_the_outputs_are_printed(deployed: SamResult, to: Cloud) -> None:
    """After a deploy the terminal shows the URL, the bucket and the command that publishes a model."""
    outputs = to.outputs()
    shown = "".join(deployed.stdout.split())
    assert outputs["PredictUrl"].endswith("/prod/predict")
    for name in ("PredictUrl", "ModelBucketName", "PublishCommand", "PredictFunctionName"):
        assert "".join(outputs[name].split()) in shown


def test_without_a_release_the_deployed_function_says_how_to_publish(
    built: Project, deployed: SamResult, to: Cloud
) -> None:
    """A new stack has no model yet: its function answers 503 with the command."""
    answer = invoke(built, to, EVENTS / "api-v1.json")
    assert answer["statusCode"] == 503
    assert f"--bucket {to.outputs()['ModelBucketName']}" in answer["body"]


def test_the_deployed_function_answers(built: Project, published: str, to: Cloud) -> None:
    """After the printed publish command, the deployed function gives names."""
    answer = invoke(built, to, EVENTS / "api-v1.json")
    assert answer["statusCode"] == 200, answer
    assert len(answer["headers"]["X-Model-Version"]) == 64


def test_a_second_deploy_with_nothing_changed_says_so(built: Project, deployed: SamResult, to: Cloud) -> None:
    """Deploying again succeeds, and changes nothing."""
    done = built.sam("deploy", "--no-confirm-changeset", variables=to.variables)
    assert done.status == 0, done.said
    assert f"No changes to deploy. Stack {STACK} is up to date" in done.said


def test_an_update_keeps_the_layer(built: Project, published: str, to: Cloud, container_pip: list[str]) -> None:
    """After an edit in src/, a deploy modifies the function, keeps layer, bucket and API, and the new code answers."""
    edit(built, container_pip, renamed("updated"))
    done = built.sam("deploy", "--no-confirm-changeset", variables=to.variables)
    assert done.status == 0, done.said
    assert changes(done) == UPDATED
    assert invoke(built, to, EVENTS / "api-v1.json")["headers"]["X_updated"] == "1"


def test_the_check_lets_the_deployed_version_pass(built: Project, published: str, to: Cloud, tmp_path: Path) -> None:
    """Called as CodeDeploy calls it, the stack's check gets the release's recorded answers from the new version."""
    hook = tmp_path / "hook.json"
    hook.write_text(json.dumps({"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}))
    answer = invoke(built, to, hook, function="DeployCheckFunction", alias="$LATEST")
    assert answer == {"status": "Succeeded"}


def test_sync_replaces_the_code_without_a_deploy(
    built: Project, published: str, to: Cloud, container_pip: list[str]
) -> None:
    """`sam sync --code` sends an edited function to the stack, without CloudFormation."""
    if container_pip:
        pytest.skip("sam sync hands no variables to build containers, and pip's settings here need some")
    # SAM remembers what it has sent to a stack of this name, in an earlier run's cloud.
    (built.folder / ".aws-sam" / "sync.toml").unlink(missing_ok=True)
    edit(built, container_pip, renamed("synced"))
    arguments = ["--code", "--no-watch", "--stack-name", STACK, "--resource-id", "PredictFunction", "--use-container"]
    # SAM asks whether it is a development stack.
    done = typed(built, ["sync", *arguments], [(r"\[Y/n\]", "y")], to.variables)
    assert done.status == 0, done.said
    assert invoke(built, to, EVENTS / "api-v1.json")["headers"]["X_synced"] == "1"


def test_delete_keeps_the_releases(built: Project, published: str, to: Cloud) -> None:
    """`sam delete` removes the stack; the bucket and its releases stay, as the template says."""
    before = to.keys(published)
    done = built.sam("delete", "--stack-name", STACK, "--no-prompts", "--region", "us-east-1", variables=to.variables)
    assert done.status == 0, done.said
    assert STACK not in to.stacks()
    assert to.keys(published) == before
    assert before


def test_guided_deploy_as_a_person_types_it(built: Project, to: Cloud, container_pip: list[str], release: Path) -> None:
    """`sam deploy --guided` asks for the parameters, shows the changes, deploys, and saves the answers: the stack can then be
    published to, invoked, updated without questions, and deleted."""
    build(built, container_pip)  # whatever the sync before has left there
    saved = built.folder / "samconfig.toml"
    before = saved.read_text()
    again = ["deploy", "--no-confirm-changeset"]
    try:
        done = typed(built, ["deploy", "--guided"], ANSWERS, to.variables)
        assert done.status == 0, done.said[-4000:]
        assert f"Successfully created/updated stack - {GUIDED}" in done.said
        function = to.outputs(GUIDED)["PredictFunctionName"]
        assert to.client("lambda").get_function(FunctionName=function)["Configuration"]["MemorySize"] == 1769
        assert f'stack_name = "{GUIDED}"' in saved.read_text()
        publish(to, GUIDED, release)
        assert [name[0] for name in json.loads(invoke(built, to, BARE, GUIDED)["body"])] == ["R", "U", "S"]
        unchanged = built.sam(*again, variables=to.variables)
        assert unchanged.status == 0, unchanged.said
        assert f"No changes to deploy. Stack {GUIDED} is up to date" in unchanged.said
        edit(built, container_pip, renamed("guided"))
        updated = built.sam(*again, variables=to.variables)
        assert updated.status == 0, updated.said
        assert changes(updated) == UPDATED
        assert invoke(built, to, BARE, GUIDED)["headers"]["X_guided"] == "1"
    finally:
        saved.write_text(before)
    gone = built.sam("delete", "--stack-name", GUIDED, "--no-prompts", "--region", "us-east-1", variables=to.variables)
    assert gone.status == 0, gone.said
    assert GUIDED not in to.stacks()


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_dev_and_prod_are_stacks_of_their_own(built: Project, to: Cloud, name: str) -> None:
    """`sam deploy --config-env NAME` deploys a stack, and a stage of the API, of that name."""
    done = built.sam("deploy", "--config-env", name, "--no-confirm-changeset", variables=to.variables)
    assert done.status == 0, done.said[-4000:]
    stack = f"lambda-torch-{name}"
    assert to.outputs(stack)["PredictUrl"].endswith(f"/{name}/predict")
    gone = built.sam("delete", "--stack-name", stack, "--no-prompts", "--region", "us-east-1", variables=to.variables)
    assert gone.status == 0, gone.said


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "credentials"),
    ],
    ids=["absent profile", "no credentials"],
)
def test_without_credentials_nothing_is_deployed(
    built: Project, to: Cloud, variables: dict[str, str], says: str
) -> None:
    """A deploy with an absent profile, or none, ends with a message that names it, and makes no stack."""
    before = to.stacks()
    done = built.sam("deploy", "--no-confirm-changeset", "--stack-name", "never", variables=to.variables | variables)
    assert done.status != 0
    assert says in done.said
    assert to.stacks() == before


class _Expired(http.server.BaseHTTPRequestHandler):
    """Answers as AWS does when temporary credentials have run out."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(403)
        self.end_headers()
        self.wfile.write(
            b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>"
            b"<Message>The security token included in the request is expired</Message></Error></ErrorResponse>"
        )

    def log_message(self, format: str, *arguments: object) -> None:
        """The test looks at what SAM says."""


def test_expired_credentials_are_told(built: Project) -> None:
    """A deploy with temporary credentials that have run out ends with AWS's reason."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Expired) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            variables = {"AWS_ENDPOINT_URL": f"http://localhost:{server.server_port}"}
            done = built.sam("deploy", "--no-confirm-changeset", variables=variables)
        finally:
            server.shutdown()
            thread.join()
    assert done.status != 0
    assert "ExpiredToken" in done.said
