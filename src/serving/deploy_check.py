"""The check before a deploy: the new version of the function must give the current release's recorded answers.

CodeDeploy calls this function after it made the new version and before it sends requests there ("AppSpec 'hooks'
section for an AWS Lambda deployment", BeforeAllowTraffic), and waits for the report: `Succeeded` moves requests,
`Failed` rolls the deploy back.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from serving.errors import ReleaseUnavailableError, ServingError
from serving.releases import golden
from serving.releases.format import Manifest
from serving.releases.store import ReleaseStore, open_store
from serving.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# The first invocation is a cold start. One failure there, for example since S3 is slow, says nothing about the code.
ATTEMPTS = 3
PAUSE_SECONDS = 5.0
# Another release may be published while the examples of the one before are tried.
ROUNDS = 3

logger = logging.getLogger("deploy-check")


class CheckError(ServingError):
    """The new version must not get requests. The message says why."""


def lambda_handler(event: dict[str, Any], _context: Any) -> dict[str, str]:
    """CodeDeploy's hook: check, and report."""
    import boto3

    settings = Settings.from_environment()
    logger.setLevel(settings.log_level)
    status = "Failed"
    try:
        count = check(settings, boto3.client("lambda"))
        logger.info("The new version may serve: %d recorded answers are right", count)
        status = "Succeeded"
    except CheckError as error:
        logger.error("The new version may not serve: %s", error)
    except Exception:
        logger.exception("The check itself failed")
    report(boto3.client("codedeploy"), event, status)
    return {"status": status}


def report(client: Any, event: dict[str, Any], status: Any) -> None:
    """Report `Succeeded` or `Failed` to CodeDeploy."""
    client.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=status,
    )


def check(settings: Settings, client: "LambdaClient", sleep: Callable[[float], None] = time.sleep) -> int:
    """Invoke the new version with the golden examples of the channel's releases.

    Returns:
        How many answers were right. Before the first release there is nothing to compare with, and the result is 0.

    Raises:
        CheckError: an answer is wrong or missing.
    """
    if settings.bucket is None or settings.checked_function is None:
        raise CheckError("the variables MODEL_BUCKET and CHECKED_FUNCTION must be set")
    store = open_store(settings)
    for _ in range(ROUNDS):
        try:
            manifests = {each.version: each for each in _manifests(store, settings.channel)}
        except ReleaseUnavailableError as error:
            if error.code == "no_release":
                return 0
            raise CheckError(str(error)) from error
        right = _compare(client, settings.checked_function, manifests, sleep)
        if right is not None:
            return right
    raise CheckError("it answers with a release that the channel does not name")


def _compare(
    client: "LambdaClient", function: str, manifests: dict[str, Manifest], sleep: Callable[[float], None]
) -> int | None:
    """How many answers were right. None where another release answered, as happens after a publish."""
    right = 0
    for manifest in manifests.values():
        for number, example in enumerate(manifest.golden, 1):
            release, response = _ask(client, function, example.request, sleep)
            if release not in manifests:
                return None
            # While a canary runs, either release may answer, and each one has its own answers.
            if release != manifest.version:
                continue
            difference = golden.compare(response, example.response, example.tolerance)
            if difference is not None:
                raise CheckError(f"golden example {number} of release {manifest.version}: {difference}")
            right += 1
    return right


def _manifests(store: ReleaseStore, channel: str) -> Iterator[Manifest]:
    state = store.channel(channel)
    if state is None:
        return
    for ref in (state.channel.current, state.channel.canary):
        if ref is not None:
            yield store.manifest(ref)


def _ask(client: "LambdaClient", function: str, request: Any, sleep: Callable[[float], None]) -> tuple[str | None, Any]:
    """The release that answered, and its answer."""
    event = {"httpMethod": "POST", "path": "/predict", "headers": {}, "body": json.dumps(request)}
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(PAUSE_SECONDS)
        answer: Any = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            problem = f"it failed: {payload.get('errorType')}: {payload.get('errorMessage')}"
        elif payload.get("statusCode") == 200:
            return payload["headers"].get("X-Model-Version"), json.loads(payload["body"])
        else:
            problem = f"it answered {payload.get('statusCode')}: {payload.get('body')}"
    raise CheckError(f"a golden example was not answered: {problem}")
