import json
import re
from typing import Any

import pytest

from serving.settings import Settings
from serving.telemetry.emf import NAMESPACE, UNITS, series
from stack.kit import Stack, template

# What each alarm looks at: namespace, metric, threshold.
ALARMS = {
    "ThrottleAlarm": ("AWS/Lambda", "Throttles", 1),
    "RefusedReleaseAlarm": (NAMESPACE, "SwapFailures", 1),
    "FailedRequestsAlarm": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", 1),
    "FailedRunAlarm": ("AWS/States", "ExecutionsFailed", 1),
}


def dimensions(alarm: dict[str, Any]) -> dict[str, str]:
    """An alarm's dimensions by name."""
    return {each["Name"]: each["Value"] for each in alarm["Dimensions"]}


# The alarms that end deploys: the metric that they compare with the invocations, and when they begin.
SHARES = {
    "FailureAlarm": ([("AWS/Lambda", "Errors", "Sum"), (NAMESPACE, "Errors", "Sum")], 2),
    "LatencyAlarm": ([("AWS/Lambda", "Duration", "PR(5000:)")], 1),
}
OF_ALIAS = {"FunctionName": "PredictFunction", "Resource": "PredictFunction:live"}
OF_DEFECTS = {"function_name": "PredictFunction", "code": "internal_error"}


def share(alarm: dict[str, Any], **values: float) -> float:
    """What the expression of an alarm gives for these values of its metrics: CloudWatch's functions, for single numbers.

    A metric without a value has no data in that minute.
    """
    expression = alarm["Metrics"][0]["Expression"]
    functions = {
        "IF": lambda condition, yes, no: yes if condition else no,
        "FILL": lambda value, filler: filler if value is None else value,
    }
    nothing = {each["Id"]: None for each in alarm["Metrics"]}
    return float(eval(expression, {**functions, **nothing, **values}))


def test_each_alarm_looks_at_its_metric() -> None:
    """Throttles, refused releases, given-up messages and failed runs have an alarm each."""
    found = {
        name: (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"])
        for name, alarm in Stack().of_type("AWS::CloudWatch::Alarm").items()
        if name not in SHARES
    }
    assert found == ALARMS
    assert dimensions(Stack().properties("FailedRequestsAlarm")) == {"QueueName": "FailedRequests.QueueName"}


@pytest.mark.parametrize("name", SHARES)
def test_alarms_that_end_deploys_are_shares_of_the_invocations(name: str) -> None:
    """Each compares its metric with the invocations of the alias, both in the same minutes."""
    alarm = Stack().properties(name)
    expression, *counted, invocations = alarm["Metrics"]
    assert [each["Id"] for each in alarm["Metrics"] if each.get("ReturnData", True)] == [expression["Id"]]
    assert all(each["Id"] in expression["Expression"] for each in (*counted, invocations))
    metrics = [(each["MetricStat"]["Metric"], each["MetricStat"]["Stat"]) for each in counted]
    found = [(metric["Namespace"], metric["MetricName"], statistic) for metric, statistic in metrics]
    assert (found, alarm["Threshold"]) == SHARES[name]
    for metric, _ in metrics:
        assert dimensions(metric) == (OF_DEFECTS if metric["Namespace"] == NAMESPACE else OF_ALIAS)
    assert invocations["MetricStat"]["Metric"]["MetricName"] == "Invocations"
    assert dimensions(invocations["MetricStat"]["Metric"]) == OF_ALIAS
    assert {each["MetricStat"]["Period"] for each in (*counted, invocations)} == {60}


@pytest.mark.parametrize(
    ("failed", "invocations", "begins"),
    [
        (1, 1, False),
        (4, 4, False),
        (5, 5, True),
        (5, 1000, False),
        (20, 1000, False),
        (21, 1000, True),
        (10, 100, True),
    ],
)
def test_a_few_failures_do_not_end_a_deploy(failed: int, invocations: int, begins: bool) -> None:
    """A minute counts with at least five failures that are more than 2 %; a new version that fails at 10 % of them counts."""
    alarm = Stack().properties("FailureAlarm")
    for values in ({"crashed": failed}, {"crashed": 0, "defects": failed}, {"crashed": 1, "defects": failed - 1}):
        assert (share(alarm, **values, invocations=invocations) > alarm["Threshold"]) == begins
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (2, 3)


@pytest.mark.parametrize(
    ("slow", "invocations", "begins"),
    [(1, 1, False), (4, 10, False), (5, 10, True), (5, 1000, False), (10, 1000, False), (11, 1000, True)],
)
def test_a_few_slow_invocations_do_not_end_a_deploy(slow: int, invocations: int, begins: bool) -> None:
    """A minute counts with at least five slow invocations that are more than 1 %; CloudWatch gives the share in percent."""
    alarm = Stack().properties("LatencyAlarm")
    found = share(alarm, slow=100 * slow / invocations, invocations=invocations)
    assert (found > alarm["Threshold"]) == begins


def test_the_limit_of_latency_is_a_parameter() -> None:
    """LatencyAlarmMilliseconds is the limit above which CloudWatch counts."""
    alarm = Stack(LatencyAlarmMilliseconds="250").properties("LatencyAlarm")
    assert alarm["Metrics"][1]["MetricStat"]["Stat"] == "PR(250:)"


def test_alarms_are_of_this_stack() -> None:
    """Two stacks of an account do not set off each other's alarms: metrics are this function's, and Lambda's the alias's."""
    stack = Stack()
    assert dimensions(stack.properties("ThrottleAlarm")) == OF_ALIAS
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


def test_what_nobody_looks_at_can_be_left_out() -> None:
    """With Watching=alarms there is no dashboard, the alarms stay, and the function writes each metric that they look at."""
    stack = Stack(Watching="alarms", StaleReleaseDays="3")
    assert not {"Dashboard", "DashboardUrl"} & {*stack.resources, *stack.outputs}
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert alarms.keys() == Stack(StaleReleaseDays="3").of_type("AWS::CloudWatch::Alarm").keys()
    settings = Settings.from_environment(stack.properties("PredictFunction")["Environment"]["Variables"])
    looked_at = {
        (metric["MetricName"], frozenset(dimensions(metric)))
        for alarm in alarms.values()
        for metric in (
            alarm,
            *(each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each),
        )
        if metric.get("Namespace") == NAMESPACE
    }
    written = {(name, frozenset(group)) for name, groups in series(settings.metrics).items() for group in groups}
    assert settings.metrics == "alarms"
    assert written == looked_at
    assert looked_at < {(name, frozenset(group)) for name, groups in series("full").items() for group in groups}


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
    assert watched == {"FailureAlarm", "LatencyAlarm"}
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
