"""Client of models that lambda-torch serves.

    from lambda_torch_client import Client

    with Client("https://ID.execute-api.REGION.amazonaws.com/prod", key="...") as client:
        names = client.predict({"category": "Russian", "start_letters": "RUS"})

`AsyncClient` has the same methods for asyncio and trio. Every error is a `ModelServiceError`.
"""

from lambda_torch_client.answers import Answer, StreamEnd, UploadRef, data_url, from_data_url
from lambda_torch_client.auth import ApiKey, BearerToken, SigV4
from lambda_torch_client.errors import (
    AccessError,
    ApiError,
    DefectError,
    ModelServiceError,
    RequestError,
    StreamError,
    ThrottledError,
    UnavailableError,
    UnreachableError,
    UploadError,
)
from lambda_torch_client.retries import RetryRules
from lambda_torch_client.sync_client import Client, PieceReader
from lambda_torch_client.task_client import AsyncClient, AsyncPieceReader

__all__ = [
    "AccessError",
    "Answer",
    "ApiError",
    "ApiKey",
    "AsyncClient",
    "AsyncPieceReader",
    "BearerToken",
    "Client",
    "DefectError",
    "ModelServiceError",
    "PieceReader",
    "RequestError",
    "RetryRules",
    "SigV4",
    "StreamEnd",
    "StreamError",
    "ThrottledError",
    "UnavailableError",
    "UnreachableError",
    "UploadError",
    "UploadRef",
    "data_url",
    "from_data_url",
]
