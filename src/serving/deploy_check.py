"""The check before a deploy: the new version of the function must give the current release's recorded answers.

CodeDeploy calls this function when the new version is there and no request goes to it yet ("AppSpec 'hooks' section for an AWS
Lambda deployment", BeforeAllowTraffic), and waits for its report: `Succeeded` moves requests, `Failed` rolls the deploy back.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from serving.releases import golden
from serving.releases.format import Manifest
from serving.releases.store import ReleaseError, ReleaseStore
from serving.settings import AwsEnvironment, Settings
from serving.storage import signed

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

# The first invocation is a cold start; one that fails on it (an S3 that is slow just now) is no verdict about the code.
ATTEMPTS = 3
PAUSE_SECONDS = 5.0
# A release may be published while its predecessor's examples are tried.
ROUNDS = 3

logger = logging.getLogger("deploy-check")


class CheckError(Exception):
    """The new version must not get requests; the message says why."""


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
    """Tell CodeDeploy `Succeeded` or `Failed`."""
    client.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status=status,
    )


def check(settings: Settings, client: "LambdaClient", sleep: Callable[[float], None] = time.sleep) -> int:
    """Invoke the new version with the golden examples of the channel's releases; how many were right.

    Where nothing was published yet there is nothing to compare with, and 0 is the answer.

    Raises:
        CheckError: an answer is wrong, or there is none.
    """
    if settings.bucket is None or settings.checked_function is None:
        raise CheckError("the variables MODEL_BUCKET and CHECKED_FUNCTION must be set")
    objects = signed.open_objects(AwsEnvironment.from_environment())
    store = ReleaseStore(objects, settings.bucket, settings.cache, settings.fetch_seconds)
    for _ in range(ROUNDS):
        try:
            manifests = {each.version: each for each in _manifests(store, settings.channel)}
        except ReleaseError as error:
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
    """How many answers were right; None where one came from a release that is not among these, as after a publish just now."""
    right = 0
    for manifest in manifests.values():
        for number, example in enumerate(manifest.golden, 1):
            release, response = _ask(client, function, example.request, sleep)
            if release not in manifests:
                return None
            # While a canary runs either release may answer, and each has answers of its own.
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
    """The release that answered, and what."""
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
