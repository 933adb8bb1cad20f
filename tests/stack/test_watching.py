import json
import re
from typing import Any

from serving.telemetry.emf import NAMESPACE, UNITS
from stack.kit import Stack, template

# What each alarm looks at: namespace, metric, threshold.
ALARMS = {
    "CrashAlarm": ("AWS/Lambda", "Errors", 1),
    "DefectAlarm": (NAMESPACE, "Errors", 1),
    "ThrottleAlarm": ("AWS/Lambda", "Throttles", 1),
    "LatencyAlarm": ("AWS/Lambda", "Duration", "5000"),
    "RefusedReleaseAlarm": (NAMESPACE, "SwapFailures", 1),
    "FailedRequestsAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", 1),
    "FailedRunAlarm": ("AWS/States", "ExecutionsFailed", 1),
}


def dimensions(alarm: dict[str, Any]) -> dict[str, str]:
    """An alarm's dimensions by name."""
    return {each["Name"]: each["Value"] for each in alarm["Dimensions"]}


def test_each_alarm_looks_at_its_metric() -> None:
    """Crashes, defects, throttles, p99, refused releases, given-up messages and failed runs have an alarm each."""
    found = {
        name: (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"])
        for name, alarm in Stack().of_type("AWS::CloudWatch::Alarm").items()
    }
    assert found == ALARMS
    assert Stack().properties("LatencyAlarm")["ExtendedStatistic"] == "p99"
    assert dimensions(Stack().properties("FailedRequestsAlarm")) == {"QueueName": "FailedRequests.QueueName"}


def test_alarms_are_of_this_stack() -> None:
    """Two stacks of an account do not set off each other's alarms: metrics are this function's, and Lambda's the alias's."""
    stack = Stack()
    for name in ("CrashAlarm", "ThrottleAlarm", "LatencyAlarm"):
        wanted = {"FunctionName": "PredictFunction", "Resource": "PredictFunction:live"}
        assert dimensions(stack.properties(name)) == wanted
    assert dimensions(stack.properties("DefectAlarm")) == {"function_name": "PredictFunction", "code": "internal_error"}
    assert dimensions(stack.properties("RefusedReleaseAlarm")) == {"function_name": "PredictFunction"}


def test_a_stack_without_requests_is_not_alarmed() -> None:
    """No data is no alarm."""
    for alarm in Stack(StaleReleaseDays="3").of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["TreatMissingData"] == "notBreaching"


def test_mail_is_sent_only_where_an_address_is_given() -> None:
    """With AlarmEmail every alarm goes to a topic with that address, and without it there is no topic."""
    quiet, loud = Stack(), Stack(AlarmEmail="somebody@example.com")
    assert not quiet.of_type("AWS::SNS::Topic")
    assert all("AlarmActions" not in alarm for alarm in quiet.of_type("AWS::CloudWatch::Alarm").values())
    (topic,) = loud.of_type("AWS::SNS::Topic").values()
    assert topic["Subscription"] == [{"Protocol": "email", "Endpoint": "somebody@example.com"}]
    for alarm in loud.of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["arn:aws:sns:us-east-1:123456789012:AlarmTopic"]


def test_a_releases_age_is_watched_where_asked() -> None:
    """StaleReleaseDays makes an alarm in days of the metric in seconds; 0 makes none."""
    assert "StaleReleaseAlarm" not in Stack().resources
    alarm = Stack(StaleReleaseDays="14").properties("StaleReleaseAlarm")
    expression, age = alarm["Metrics"]
    assert expression["Expression"] == "age / 86400"
    assert (age["Id"], age["MetricStat"]["Metric"]["MetricName"]) == ("age", "ReleaseAgeSeconds")
    assert alarm["Threshold"] == "14"


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    """The dashboard's body is JSON, and every metric of ours in it is one that the function writes."""
    body = json.loads(Stack().properties("Dashboard")["DashboardBody"])
    metrics = [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]
    ours = {metric[1] for metric in metrics if metric[0] == NAMESPACE}
    assert ours
    assert ours <= UNITS.keys()
    assert any("SEARCH" in json.dumps(metric) and "Errors" in json.dumps(metric) for metric in metrics)
    assert not re.search(r"\$\{(?!PROP)", json.dumps(body))


def test_logs_are_kept_as_long_as_asked() -> None:
    """Every log group of the stack has the retention of the parameter."""
    groups = Stack(LogRetentionDays="7").of_type("AWS::Logs::LogGroup")
    assert len(groups) == 3
    assert {group["RetentionInDays"] for group in groups.values()} == {"7"}


def test_requests_are_not_logged_unless_asked() -> None:
    """The function is told to leave content out of its log, and the state machine never writes it."""
    assert Stack().properties("PredictFunction")["Environment"]["Variables"]["LOG_REQUESTS"] == "off"
    assert Stack().properties("BulkMachine")["LoggingConfiguration"]["IncludeExecutionData"] is False


def test_tracing_is_a_parameter() -> None:
    """X-Ray traces the API, the function and bulk runs where asked, and nothing otherwise."""
    for choice, on in (("off", False), ("on", True)):
        stack = Stack(Tracing=choice)
        (stage,) = stack.of_type("AWS::ApiGateway::Stage").values()
        assert stage["TracingEnabled"] is on
        assert stack.properties("BulkMachine")["TracingConfiguration"] == {"Enabled": on}
        assert (stack.properties("PredictFunction")["TracingConfig"]["Mode"] == "Active") is on


def test_a_deploy_is_checked_moves_slowly_and_rolls_back() -> None:
    """The alias moves by CodeDeploy: after the check, at the pace of the parameter, and back on an alarm."""
    stack = Stack(Deployment="Linear10PercentEvery1Minute")
    (group,) = stack.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaLinear10PercentEvery1Minute"
    assert group["AutoRollbackConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    watched = {each["Name"] for each in group["AlarmConfiguration"]["Alarms"]}
    assert watched == {"CrashAlarm", "DefectAlarm", "LatencyAlarm"}
    policy = stack.resources["PredictFunctionAliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    assert policy["BeforeAllowTrafficHook"] == "DeployCheckFunction"
    assert template()["Parameters"]["Deployment"]["Default"] == "Canary10Percent5Minutes"


def test_the_check_invokes_the_new_version() -> None:
    """The hook has the name that CodeDeploy may invoke, knows the version just published, and is not deployed that way itself."""
    stack = Stack()
    hook = stack.properties("DeployCheckFunction")
    assert hook["FunctionName"] == "CodeDeployHook_models"
    assert hook["Environment"]["Variables"]["CHECKED_FUNCTION"].endswith(":function:PredictFunction:7")
    assert len(stack.of_type("AWS::CodeDeploy::DeploymentGroup")) == 1


def test_a_dropped_file_starts_a_run() -> None:
    """Objects that end in .jsonl below inbox/ of this bucket start the state machine; what cannot be started is not lost."""
    stack = Stack()
    rule = stack.properties("DroppedFile")
    assert rule["EventPattern"]["detail"]["bucket"]["name"] == ["ModelBucket"]
    assert rule["EventPattern"]["detail"]["object"]["key"] == [{"wildcard": "inbox/*.jsonl"}]
    (target,) = rule["Targets"]
    assert target["Arn"].endswith(":stateMachine:models-bulk")
    assert target["DeadLetterConfig"]["Arn"].endswith(":FailedRequests")
    assert stack.properties("ModelBucket")["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }
    assert stack.allows("DroppedFileRole", "states:StartExecution", target["Arn"])
