"""When a request is sent again, and after how long.

Two limits hold together. One call ends after so many tries and so much time. And all calls of a client share a budget:
a retry takes one token, and an answer gives a part of one back. While a service fails, its clients then send it at most
a tenth more requests than before, and not several times as many (the retry budgets of Finagle and gRPC).
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lambda_torch_client.errors import ApiError, ModelServiceError, UnreachableError

# What an answer puts back into the budget.
TOKENS_OF_AN_ANSWER = 0.1


@dataclass(frozen=True)
class RetryRules:
    """How a client tries again.

    Attributes:
        tries: how often a request is sent at most; 1 for no retry.
        seconds: after this time no retry begins. It is no limit for a single try.
        first_pause: seconds before the first retry, at most. The pause doubles, and a random part of it is waited,
            so that clients do not come back together.
        longest_pause: seconds of one pause at most. A service that asks for a longer one is not asked again.
        budget: retries that all calls of the client may have together before answers fill the budget again.
    """

    tries: int = 4
    seconds: float = 30.0
    first_pause: float = 0.25
    longest_pause: float = 10.0
    budget: float = 10.0

    def __post_init__(self) -> None:
        if self.tries < 1 or min(self.seconds, self.first_pause, self.longest_pause, self.budget) < 0:
            raise ValueError("RetryRules takes one try or more, and no negative number")


@dataclass
class RetryBudget:
    """The tokens that the calls of a client share. Threads may share it too."""

    rules: RetryRules
    clock: Callable[[], float] = time.monotonic
    # Without a secret in it: anything random does.
    draw: Callable[[], float] = random.random
    tokens: float = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.tokens = self.rules.budget

    def answered(self) -> None:
        """An answer came: a part of a token comes back."""
        with self._lock:
            self.tokens = min(self.rules.budget, self.tokens + TOKENS_OF_AN_ANSWER)

    def take(self) -> bool:
        """One token, for a retry; False if there is none."""
        with self._lock:
            if self.tokens < 1:
                return False
            self.tokens -= 1
            return True


class Tries:
    """The tries of one call."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._rules = budget.rules
        self._failed = 0
        self._began = budget.clock()

    def pause(self, error: ModelServiceError) -> float:
        """The seconds to wait before the next try.

        Raises:
            ModelServiceError: this error, if there is no next try.
        """
        self._failed += 1
        if self._failed >= self._rules.tries or not may_retry(error):
            raise error
        wanted = error.retry_after if isinstance(error, ApiError) else None
        longest = min(self._rules.longest_pause, self._rules.first_pause * 2 ** (self._failed - 1))
        seconds = self._budget.draw() * longest if wanted is None else wanted
        late = self._budget.clock() - self._began + seconds > self._rules.seconds
        if late or seconds > self._rules.longest_pause or not self._budget.take():
            raise error
        return seconds


def may_retry(error: ModelServiceError) -> bool:
    """Whether the same request may get an answer a little later. A prediction changes nothing, so asking twice is safe.

    - No connection, or one that ends without a word: another one may work. An answer that took too long is no such case.
    - 429: the request did not reach the model.
    - 503: API Gateway found no room, or the function says with Retry-After when it looks again. Without that header
      the function's 503 stays until somebody changes the stack.
    - 502: the environment ended, and another one takes the next request.

    Not 504, since the same request would take as long again; not 500, which is a defect; and no other 4xx.
    """
    if isinstance(error, UnreachableError):
        return error.in_time
    if not isinstance(error, ApiError):
        return False
    if error.status == 503:
        return error.retry_after is not None or error.code == "service_unavailable"
    return error.status in (429, 502)
