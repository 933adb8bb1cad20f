"""When a client sends a request again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch_client import ApiError, ModelServiceError, RetryRules, UnreachableError
from lambda_torch_client.errors import api_error
from lambda_torch_client.retries import RetryBudget, Tries, may_retry


class Clock:
    """A time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def throttled(retry_after: float | None = None) -> ApiError:
    """API Gateway's 429."""
    return api_error(429, {"message": "Too Many Requests"}, retry_after=retry_after)


def pause_of(call: Tries, asked: float | None) -> float | None:
    """The pause after one more failure; None if the call ends with it."""
    try:
        return call.pause(throttled(asked))
    except ApiError:
        return None


@given(
    st.integers(1, 6),
    st.floats(0, 60),
    st.floats(0.01, 5),
    st.floats(0.01, 20),
    st.floats(0, 20),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
    st.none() | st.floats(0, 30),
)
def test_retries_keep_every_limit(
    tries: int,
    seconds: float,
    first: float,
    longest: float,
    budget: float,
    drawn: list[float],
    asked: float | None,
) -> None:
    """Tries, time, pauses and budget: none of them is ever passed, whatever the rules are."""
    clock, draws = Clock(), iter(drawn)
    shared = RetryBudget(RetryRules(tries, seconds, first, longest, budget), clock, lambda: next(draws))
    sent = retried = 0
    for _ in range(5):
        call, began, attempts = Tries(shared), clock.now, 1
        while (pause := pause_of(call, asked)) is not None:
            assert 0 <= pause <= longest
            assert pause == asked or asked is None
            clock.now += pause
            attempts += 1
        assert attempts <= tries
        assert clock.now - began <= seconds
        sent, retried = sent + attempts, retried + attempts - 1
    assert retried <= budget
    assert sent == 5 + retried


def test_answers_fill_the_budget() -> None:
    """Ten answers pay for one retry, and the budget never grows beyond its size."""
    budget = RetryBudget(RetryRules(budget=1))
    assert budget.take()
    assert not budget.take()
    for _ in range(11):
        budget.answered()
    assert budget.take()
    for _ in range(1000):
        budget.answered()
    assert budget.tokens == 1


@pytest.mark.parametrize(("status", "again"), [(s, s in (429, 502, 503)) for s in (*range(400, 432), *range(500, 512))])
def test_which_refusals_of_the_gateway_are_sent_again(status: int, again: bool) -> None:
    """Of all 4xx only 429; of 5xx those that another try may not meet again."""
    assert may_retry(api_error(status, {"message": None})) is again


def test_which_failures_are_sent_again() -> None:
    """The function's 503 with a time, and a broken connection; not its 503 without one, and not a slow answer."""
    body = {"error": {"code": "no_release", "message": "None yet.", "details": {}}}
    assert may_retry(api_error(503, body, retry_after=1))
    assert not may_retry(api_error(503, body))
    assert may_retry(UnreachableError("broken"))
    assert not may_retry(UnreachableError("slow", in_time=False))
    assert not may_retry(ModelServiceError("other"))


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"seconds": -1.0}, {"budget": -1.0}])
def test_rules_are_checked(wrong: dict[str, float]) -> None:
    """No try at all, and negative numbers, are refused."""
    with pytest.raises(ValueError, match="one try or more"):
        RetryRules(**wrong)  # type: ignore[arg-type]
