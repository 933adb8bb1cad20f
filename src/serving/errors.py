"""What can go wrong in front of a client, and the one shape it is told in."""

from collections.abc import Mapping
from typing import Any


class ServiceError(Exception):
    """An answer that is not a success: `{"error": {"code", "message", "details"}}` with an HTTP status.

    Attributes:
        status: HTTP status code, 4xx for what the client can mend, 503 while there is no usable release.
        code: stable snake_case word for programs.
        message: one sentence for people: the cause and, where there is one, the next step.
        details: JSON-able facts, for example which letters are unknown; never the request's own content at length.
        headers: extra response headers, such as `Allow`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}
