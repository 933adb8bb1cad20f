"""How a client says who it is: one class for each door of the stack (docs/access.md)."""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx2

from lambda_torch_client.errors import ModelServiceError

if TYPE_CHECKING:
    from botocore.credentials import Credentials


class ApiKey(httpx2.Auth):
    """Sends an API key (`ApiAccess=key`)."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the header."""
        request.headers["x-api-key"] = self._key
        yield request


class BearerToken(httpx2.Auth):
    """Sends a token, for an API with a JWT authorizer.

    Args:
        token: the token, or a function that gives it. The function is called for each request, so it may renew it.
    """

    def __init__(self, token: str | Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the header."""
        token = self._token if isinstance(self._token, str) else self._token()
        request.headers["authorization"] = f"Bearer {token}"
        yield request


class SigV4(httpx2.Auth):
    """Signs requests with AWS credentials (`ApiAccess=iam`, and function URLs). Needs `lambda-torch-client[aws]`.

    The credentials are found as AWS's tools find them: variables, profiles, roles. They are renewed by themselves.

    Args:
        region: of the API; default: the one in its address, or the profile's.
        service: `execute-api` or `lambda`; default: by the address.
        profile: of AWS's configuration.
    """

    requires_request_body = True

    def __init__(self, region: str | None = None, service: str | None = None, profile: str | None = None) -> None:
        try:
            from botocore.session import Session
        except ModuleNotFoundError as error:
            raise ModelServiceError(
                "SigV4 needs the package botocore, which is not installed.", "pip install 'lambda-torch-client[aws]'"
            ) from error
        self._session = Session(profile=profile)
        self._region = region
        self._service = service

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Sign the request."""
        request.read()
        self._sign(request, self._credentials())
        yield request

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Sign the request. A thread looks for the credentials, since that may ask the network."""
        await request.aread()
        self._sign(request, await anyio.to_thread.run_sync(self._credentials))
        yield request

    def _credentials(self) -> "Credentials":
        found: Credentials | None = self._session.get_credentials()
        if found is None:
            raise ModelServiceError("There are no AWS credentials to sign with.", "aws configure, or name a profile")
        return found

    def _sign(self, request: httpx2.Request, credentials: "Credentials") -> None:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        service, region = scope(request.url.host)
        region = self._region or region or self._session.get_config_variable("region")
        if region is None:
            raise ModelServiceError(f"The address {request.url.host} names no region.", "SigV4(region=...)")
        # A proxy on the way may change the other headers.
        signed: Any = AWSRequest(request.method, str(request.url), {"host": request.headers["host"]}, request.content)
        SigV4Auth(credentials.get_frozen_credentials(), self._service or service, region).add_auth(signed)
        for name in ("authorization", "x-amz-date", "x-amz-security-token"):
            if name in signed.headers:
                request.headers[name] = signed.headers[name]


def scope(host: str) -> tuple[str, str | None]:
    """The service and the region to sign for, by an address: `ID.execute-api.REGION...` or `ID.lambda-url.REGION...`.

    A domain of one's own is API Gateway's, and names no region.
    """
    parts = host.split(".")
    for name, service in (("execute-api", "execute-api"), ("lambda-url", "lambda")):
        if name in parts[1:-1]:
            return service, parts[parts.index(name) + 1]
    return "execute-api", None
