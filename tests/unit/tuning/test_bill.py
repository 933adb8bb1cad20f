"""What a stack costs in a month: the table of prices, the parts, and the tables in docs/cost.md."""

import datetime
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.cli import main
from lambda_torch.errors import StackError
from lambda_torch.project import TEMPLATE
from lambda_torch.stacks.template import StackTemplate
from lambda_torch.tuning import bill
from lambda_torch.tuning.bill import DOORS, MonthOfRequests, Tally, billed_stack, month_bill
from lambda_torch.tuning.price_table import PriceTable
from lambda_torch.tuning.watched import watched_parts
from serving.settings import Settings
from stack.kit import Stack
from unit.tuning.documented_tables import documented, output_of

TABLE = PriceTable.read()
TALLY = Tally(TABLE)
STACK = billed_stack(StackTemplate(TEMPLATE))


def month(requests: int, ms: float = 100, cold_share: float = 0.0) -> MonthOfRequests:
    """A month with so many requests."""
    return MonthOfRequests(requests, ms, cold_share)


@pytest.mark.parametrize("name", TABLE.rows)
def test_every_price_has_a_public_source_and_a_date(name: str) -> None:
    """Each row names the document it was read in and the day, which has been."""
    row = TABLE[name]
    assert row.source.startswith("https://")
    assert datetime.date(2026, 1, 1) <= datetime.date.fromisoformat(row.date) <= datetime.date.today()
    assert row.unit
    limits = [up_to for up_to, _ in row.tiers]
    assert limits == sorted(limits)
    assert limits[-1] == math.inf


@given(st.sampled_from(sorted(TABLE.rows)), st.floats(0, 1e12), st.floats(0, 1e12))
def test_more_use_never_costs_less(name: str, some: float, more: float) -> None:
    """Costs grow with the units, across tiers, and the free tier takes away and never adds."""
    row = TABLE[name]
    assert row.cost(some) <= row.cost(some + more) + 1e-6
    assert 0 <= row.cost(some, free_tier=True) <= row.cost(some)


@given(st.sampled_from(sorted(TABLE.rows)))
def test_tiers_meet(name: str) -> None:
    """At the end of a tier the next one begins: one unit more costs that unit."""
    row = TABLE[name]
    for (up_to, _), (_, usd) in zip(row.tiers, row.tiers[1:], strict=False):
        assert row.cost(up_to + row.per) - row.cost(up_to) == pytest.approx(usd)


def test_api_gateways_tiers_are_those_of_its_document() -> None:
    """One thousand million requests by the REST API: 333 million at 3.50 and 667 million at 2.80 a million."""
    assert TABLE["rest-api"].cost(1e9) == pytest.approx(333 * 3.50 + 667 * 2.80)
    assert TABLE["http-api"].cost(400e6) == pytest.approx(300 * 1.00 + 100 * 0.90)


def test_a_million_requests_by_the_rest_api() -> None:
    """Each part, reckoned by hand: a million requests of 100 ms at 3,008 MB."""
    parts = month_bill(TALLY, STACK, month(1_000_000), "REST API")
    assert parts["door"] == pytest.approx(3.50)
    assert parts["invocations"] == pytest.approx(0.20)
    assert parts["compute"] == pytest.approx(100_000 * 3008 / 1024 * 0.0000166667)
    # Of ours a line in ten seconds, 750 bytes and 8 for each further request in it, 365 of Lambda's for each request, and 26
    # for each line; kept for a month.
    lines = bill.SECONDS / 10
    ours = lines * 776 + (1_000_000 - lines) * 8
    assert parts["logs"] == pytest.approx((ours / 1e9 + 0.365 + 0.052) * (0.50 + 0.03))
    every = billed_stack(StackTemplate(TEMPLATE, {"LogSeconds": "0"}))
    assert month_bill(TALLY, every, month(1_000_000), "REST API")["logs"] == pytest.approx(1.193 * (0.50 + 0.03))
    asked = billed_stack(StackTemplate(TEMPLATE, {"LogRequests": "on"}))
    assert asked.log_seconds == 0
    assert parts["metrics"] == pytest.approx(11 * 0.30)
    assert parts["alarms"] == pytest.approx(STACK.alarm_metrics * 0.10)
    assert parts["dashboard"] == 3.00
    assert parts["waiting at the queue"] == pytest.approx(657_000 * 0.40e-6)


@given(st.integers(0, 10**9), st.floats(0, 1), st.sampled_from([0.0, 1.0, 10.0, 3600.0]))
def test_lines_of_requests_are_never_more_than_requests(requests: int, share: float, seconds: float) -> None:
    """A longer LogSeconds never costs more, a line has a hundred requests at most, and a message always has its line."""
    stack = replace(STACK, log_seconds=seconds)
    starts = requests * share
    lines = bill.request_lines(stack, requests, 1, starts)
    assert requests / bill.MOST_GATHERED <= lines <= requests
    assert bill.request_lines(replace(stack, log_seconds=stack.log_seconds * 2), requests, 1, starts) <= lines
    every = replace(stack, log_seconds=0.0)
    asked = month(requests)
    assert month_bill(TALLY, stack, asked, "queue")["logs"] == month_bill(TALLY, every, asked, "queue")["logs"]


def test_nothing_is_asked_and_little_is_paid() -> None:
    """Idle, a stack pays its alarms, its dashboard, what it stores, and the calls that wait at its queue."""
    parts = month_bill(TALLY, STACK, month(0), "REST API")
    paid = {part for part, usd in parts.items() if usd}
    assert paid == {"alarms", "dashboard", "releases", "waiting at the queue"}


def test_what_a_parameter_switches_on_costs_its_price() -> None:
    """Tracing and SnapStart by the template's parameters; X-Ray takes one request a second and one in twenty of the others."""
    on = billed_stack(
        StackTemplate(TEMPLATE, {"Tracing": "on", "SnapStart": "PublishedVersions", "MemorySize": "1024"})
    )
    assert (on.traced, on.snapshots, on.memory_mb) == (True, True, 1024)
    parts = month_bill(TALLY, on, month(2 * bill.SECONDS, cold_share=0.5), "REST API")
    assert parts["traces"] == pytest.approx(1.05 * bill.SECONDS * 5e-6)
    cache = 730 * 3600 * 0.0000015046
    assert parts["SnapStart"] == pytest.approx(cache + bill.SECONDS * 0.0001397998)
    off = month_bill(TALLY, STACK, month(2 * bill.SECONDS), "REST API")
    assert (off["traces"], off["SnapStart"]) == (0, 0)


def test_alarms_are_those_whose_condition_holds() -> None:
    """Every metric that an alarm of SAM's transform looks at; the alarm on old releases is one more, with its parameter."""
    alarms = Stack().of_type("AWS::CloudWatch::Alarm").values()
    looked_at = [[each for each in alarm.get("Metrics", ["one"]) if "Expression" not in each] for alarm in alarms]
    assert sum(map(len, looked_at)) == STACK.alarm_metrics
    more = billed_stack(StackTemplate(TEMPLATE, {"StaleReleaseDays": "30"}))
    assert more.alarm_metrics == STACK.alarm_metrics + 1


def test_a_batch_of_a_bulk_file_is_one_invocation() -> None:
    """Of 200 items in a batch, one invocation, two state transitions and one file of answers are paid."""
    parts = month_bill(TALLY, STACK, month(1_000_000), "bulk file")
    assert parts["door"] == pytest.approx(5000 * (2 * 0.025e-3 + 0.005e-3))
    assert parts["invocations"] == pytest.approx(5000 * 0.20e-6)
    assert parts["compute"] == pytest.approx(month_bill(TALLY, STACK, month(1_000_000), "REST API")["compute"])


def test_what_is_free_is_free_once() -> None:
    """A million calls of SQS are free for messages and waiting together."""
    tally = Tally(TABLE, free_tier=True)
    parts = month_bill(tally, STACK, month(1_000_000), "queue")
    assert parts["door"] - 5.0 + parts["waiting at the queue"] == pytest.approx((3e6 + 657_000 - 1e6) * 0.40e-6)


@given(st.sampled_from(sorted(DOORS)), st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_more_requests_never_cost_less(door: str, some: int, more: int, free: bool) -> None:
    """The bill of a busier month is not smaller, whatever the door."""
    tally, stack = Tally(TABLE, free), replace(STACK, traced=True, snapshots=True)
    few, many = (
        sum(month_bill(tally, stack, month(count, cold_share=0.01), door).values()) for count in (some, some + more)
    )
    assert few <= many + 1e-6


def test_the_stacks_own_doors_are_known() -> None:
    """The template has a REST API, a queue and bulk files."""
    assert set(STACK.doors) >= {"REST API", "queue", "bulk file"}


def test_the_interval_of_looking_for_releases_is_the_functions() -> None:
    """The bill counts with the function's own default."""
    defaults = {field.alias: field.default for field in Settings.model_fields.values()}
    assert defaults["RELEASE_REFRESH_SECONDS"] == bill.REFRESH_SECONDS


@pytest.mark.parametrize("words", [words for words, _ in documented()])
def test_the_documents_tables_are_the_commands_output(words: str) -> None:
    """docs/cost.md and docs/watching.md have what the command prints today. If it has not: make docs-tables."""
    assert dict(documented())[words] == output_of(words)


def test_what_watches_costs_what_the_bill_says() -> None:
    """The alarms, metrics and dashboards one by one add up to their parts of the bill, with both values of Watching."""
    for choice in ("full", "alarms"):
        template = StackTemplate(TEMPLATE, {"Watching": choice, "StaleReleaseDays": "7", "ResponseStreaming": "api"})
        parts = month_bill(TALLY, billed_stack(template), month(1_000_000), "REST API")
        found = list(watched_parts(TALLY, template))
        for kind, part in (("alarm", "alarms"), ("metric", "metrics"), ("dashboard", "dashboard")):
            assert sum(each.usd for each in found if each.kind == kind) == pytest.approx(parts[part])
        assert {each.name for each in found if each.kind == "alarm"} == template.of_type(
            "AWS::CloudWatch::Alarm"
        ).keys()
        json_of = CliRunner().invoke(main, ["cost", "--watching", "--parameter", f"Watching={choice}", "--json"])
        assert {each["kind"] for each in json.loads(json_of.output)["parts"]} == {each.kind for each in found}


def test_the_bill_needs_the_time_of_a_request() -> None:
    """Without --ms there is no bill, and the message names the command that measures."""
    done = CliRunner().invoke(main, ["cost"])
    assert (done.exit_code, "lambda-torch tune" in done.output) == (2, True)


def test_json_has_every_part_and_every_source() -> None:
    """Programs get the parts of each door, the totals, and where each price is from."""
    done = CliRunner().invoke(main, ["cost", "--ms", "20", "--requests", "1000", "--requests", "2000", "--json"])
    facts = json.loads(done.output)
    assert facts["requests"] == [1000, 2000]
    assert set(facts["doors"]) == set(DOORS)
    for door, bills in facts["doors"].items():
        for parts, total in zip(bills, facts["totals"][door], strict=True):
            assert total == pytest.approx(sum(parts.values()) - parts["traces"] - parts["SnapStart"])
    assert facts["prices"]["trace"]["source"] == "https://aws.amazon.com/xray/pricing/"


@pytest.mark.parametrize(
    ("parameters", "doors"),
    [
        ({}, ["REST API"]),
        ({"ApiType": "private", "VpcEndpointIds": "vpce-01234567"}, ["REST API"]),
        ({"ApiType": "http"}, ["HTTP API"]),
        ({"ApiType": "http", "ResponseStreaming": "url"}, ["HTTP API", "function URL"]),
        ({"ApiType": "none", "ResponseStreaming": "url"}, ["function URL"]),
        ({"ApiType": "none"}, []),
    ],
)
def test_the_doors_are_those_that_the_parameters_open(parameters: dict[str, str], doors: list[str]) -> None:
    """The bill knows the kind of API and the function URL that a stack has; the queue and bulk files are always there."""
    assert billed_stack(StackTemplate(TEMPLATE, parameters)).doors == (*doors, "queue", "bulk file")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "is not a template"),
        ("Parameters: {}", "it has no Resources"),
        ("Resources: {Queue: {Type: 'AWS::SQS::Queue'}}", "is not the template of this project"),
    ],
)
def test_what_is_no_template_of_the_project_is_refused(content: str, said: str, tmp_path: Path) -> None:
    """A file that is no template, or one of another project, is one message."""
    path = tmp_path / "template.yaml"
    path.write_text(content)
    done = CliRunner().invoke(main, ["cost", "--ms", "20", "--template", str(path)])
    assert done.exit_code == 1
    assert said in done.output


def test_a_parameter_that_the_template_lacks_is_refused() -> None:
    """A slip in a parameter's name is told, with the names that there are."""
    with pytest.raises(StackError, match=r"no parameter MemSize. It has .*MemorySize"):
        StackTemplate(TEMPLATE, {"MemSize": "1"})
