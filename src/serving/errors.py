"""The errors of this package. Each one says what went wrong and, where there is one, the next step.

    ServingError
      x SettingsError             an environment variable has a value that cannot be used
      x HttpError                 a request is refused or fails: status, code, message and details for the client
      x ReleaseUnavailableError   no release can serve: code and message
        DeadlyReleaseError        the same, for a release that ends the process while it is loaded
      x AnswerError               a model's response cannot be sent as JSON
      x GoldenError               a model does not give a recorded response
      x ProgramError              a program of a release may not be loaded
      x ProbeError                a release with programs did not get through its trial
      x FetchError                S3 did not give an object
      x NotModified               the object is the one that the reader has already
      x BatchError                a batch of a bulk file is not answered
      x ResultWriteError          S3 did not take a result
      x PieceError                what a model's `stream` gave is no piece
      x CheckError                a new version of the function must not get requests

The code of HttpError and ReleaseUnavailableError is for programs and does not change; the message is for people.
"""

from collections.abc import Mapping
from typing import Any


class ServingError(Exception):
    """The base of all errors of this package."""


class HttpError(ServingError):
    """An answer that is not a success: `{"error": {"code", "message", "details"}}` with an HTTP status.

    Attributes:
        status: the HTTP status: 4xx for what the client can correct, 503 while no release can serve, 500 for a defect.
        code: a stable snake_case word for programs.
        message: one sentence for people: the cause and, where there is one, the next step.
        details: facts that JSON can hold, for example which letters are unknown; never much of the request itself.
        headers: more headers of the answer, such as `Allow`.
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


class ReleaseUnavailableError(ServingError):
    """No release can serve, or a new one cannot be used. The message says what is wrong with which object.

    Attributes:
        code: `no_bucket` (MODEL_BUCKET is not set), `no_release` (the channel has no release yet), `release_refused`
            (an object is missing, damaged or not of this format, or the model fails its golden examples), or
            `storage_unavailable` (S3 did not answer, or the cache cannot be written; a later try can succeed).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DeadlyReleaseError(ReleaseUnavailableError):
    """A release has ended this environment's process while it was loaded, and is not loaded again for now."""


class PieceError(ServingError):
    """What a model's `stream` gave is no piece. The message names its type."""
