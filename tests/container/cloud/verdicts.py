"""CodeDeploy's side of the check before a deploy: it takes the verdict. moto knows no deployments of Lambda functions."""

from typing import Any

from moto.codedeploy.responses import CodeDeployResponse
from moto.core.responses import ActionResult


def apply() -> None:
    """Answer PutLifecycleEventHookExecutionStatus."""
    response_type: Any = CodeDeployResponse
    response_type.put_lifecycle_event_hook_execution_status = _taken


def _taken(response: Any) -> ActionResult:
    assert response._get_param("status") in ("Succeeded", "Failed")
    return ActionResult({"lifecycleEventHookExecutionId": response._get_param("lifecycleEventHookExecutionId")})
