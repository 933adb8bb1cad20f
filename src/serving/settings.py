"""Every environment variable that the function reads, as a typed object.

No other module of the function reads `os.environ`.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from serving.errors import ServingError

# AWS Lambda gives one vCPU at this memory size, and a proportional share below and above it (Lambda developer guide,
# "Memory").
MEGABYTES_PER_CPU = 1769
# Lambda ends the init phase after 10 s, and the log does not say why (Lambda developer guide, "Lambda execution
# environment lifecycle"). API Gateway answers 504 after 29 s ("Amazon API Gateway quotas").
INIT_SECONDS = 10.0
GATEWAY_SECONDS = 29.0
# A request that waits for a release also has to read the channel and the manifest: each one may take this share.
DOCUMENT_SHARE = 0.8
# Functions with a long timeout are for large models, and a trial that hangs holds up the next release.
LONGEST_TRIAL_SECONDS = 60.0


def _comma_separated(value: object) -> object:
    """`"a, b"` becomes `("a", "b")`: environment variables hold lists in this form."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return value


# What a browser sends as `Origin` (RFC 6454, section 6.2): scheme, host in lower case, and a port.
_ORIGIN = re.compile(r"https?://[a-z0-9._\[\]:-]*[a-z0-9\]]")


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what no browser sends, because it would never match."""
    for origin in origins if origins != ("*",) else ():
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is not an origin as browsers send it, such as https://a.example or http://localhost:8080: "
                "no path, no slash at the end, no upper-case letters; `*` stands alone"
            )
    return origins


class SettingsError(ServingError):
    """An environment variable has a value that cannot be used.

    The message names the variable and the rule it breaks.
    """


class Settings(BaseModel):
    """The function's settings. Aliases are the names of the environment variables; each one has a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    bucket: Annotated[str | None, Field(alias="MODEL_BUCKET", min_length=1)] = None
    """The bucket that holds the releases. Without it the function starts, and answers 503 with the next step."""

    cors_origins: Annotated[
        tuple[str, ...],
        BeforeValidator(_comma_separated),
        AfterValidator(_origins),
        Field(alias="CORS_ORIGINS", min_length=1),
    ] = ("*",)
    """Origins that browsers may call from: `*`, or a list with commas: `https://a.example,https://b.example`."""

    max_body_bytes: Annotated[PositiveInt, Field(alias="MAX_BODY_BYTES")] = 4_194_304
    """Largest request body in bytes, after base64 decoding. Lambda itself takes 6 MB, which are 4.5 MB as base64."""

    max_batch_items: Annotated[PositiveInt, Field(alias="MAX_BATCH_ITEMS")] = 100
    """Most requests in one list.

    All of them together must fit into the function's timeout, and into API Gateway's 29 s.
    """

    max_upload_bytes: Annotated[PositiveInt, Field(alias="MAX_UPLOAD_BYTES")] = 33_554_432
    """Largest file in bytes that `POST /uploads` makes room for. The function reads it into memory as a whole."""

    upload_seconds: Annotated[PositiveInt, Field(alias="UPLOAD_SECONDS", le=43_200)] = 900
    """Seconds for which the address of an upload takes the file."""

    channel: Annotated[str, Field(alias="RELEASE_CHANNEL", pattern="^[a-z0-9][a-z0-9-]{0,62}$")] = "live"
    """The channel whose release serves."""

    refresh_seconds: Annotated[float, Field(alias="RELEASE_REFRESH_SECONDS", ge=0, allow_inf_nan=False)] = 15.0
    """Seconds between two looks at the channel's pointer, while requests arrive."""

    fetch_seconds: Annotated[float, Field(alias="RELEASE_FETCH_SECONDS", gt=0, allow_inf_nan=False)] = 60.0
    """How long fetching one release may take in all. No request waits that long: see `wait_seconds`."""

    lend_seconds: Annotated[float, Field(alias="RELEASE_LEND_SECONDS", ge=0, allow_inf_nan=False)] = 0.25
    """How long a request may stay for a fetch that Lambda froze between requests. 0 lends no time."""

    timeout_seconds: Annotated[float, Field(alias="FUNCTION_TIMEOUT", gt=0, allow_inf_nan=False)] = 30.0
    """The function's timeout in seconds. Waits for S3 are shorter, so that the client gets the reason."""

    retry_seconds: Annotated[float, Field(alias="RELEASE_RETRY_SECONDS", ge=0, allow_inf_nan=False)] = 5.0
    """Seconds between two looks at the channel while no release can serve, however many requests come."""

    cache: Annotated[Path, Field(alias="RELEASE_CACHE")] = Path(tempfile.gettempdir()) / "releases"
    """Where fetched releases are kept. On Lambda, programs can write only to /tmp."""

    storage_mb: Annotated[PositiveInt | None, Field(alias="EPHEMERAL_STORAGE")] = None
    """The size of /tmp in MB, which the template sets. Without it, what the disk has free decides."""

    memory_mb: Annotated[PositiveInt, Field(alias="AWS_LAMBDA_FUNCTION_MEMORY_SIZE")] = MEGABYTES_PER_CPU
    """The function's memory in MB, which decides its share of CPU. Set by Lambda."""

    function_name: Annotated[str, Field(alias="AWS_LAMBDA_FUNCTION_NAME", min_length=1)] = "local"
    """The function's name, a dimension of its metrics. Set by Lambda."""

    initialization: Annotated[str, Field(alias="AWS_LAMBDA_INITIALIZATION_TYPE")] = "on-demand"
    """How Lambda came to start this environment: `on-demand`, `provisioned-concurrency` or `snap-start`.

    Set by Lambda.
    """

    log_requests: Annotated[bool, Field(alias="LOG_REQUESTS")] = False
    """Whether the log also has requests and answers. They may be personal, so this is off by default."""

    log_seconds: Annotated[float, Field(alias="LOG_SECONDS", ge=0, allow_inf_nan=False)] = 0.0
    """The least seconds between two log lines of requests that went well. 0 writes the line of every request."""

    metrics: Annotated[Literal["full", "alarms"], Field(alias="METRICS")] = "full"
    """Which metrics CloudWatch makes of the lines: all, or those that alarms look at. It charges for each."""

    slow_ms: Annotated[float, Field(alias="SLOW_MILLISECONDS", gt=0)] = 5000.0
    """A request that takes longer always has its line in the log, in milliseconds."""

    allow_programs: Annotated[bool, Field(alias="ALLOW_PROGRAMS")] = False
    """Whether a release may hold programs, `torch.export` and TorchScript. Weights as safetensors need it not."""

    release_signers: Annotated[
        tuple[Annotated[str, Field(pattern="^ed25519:[A-Za-z0-9+/]{43}=$")], ...],
        BeforeValidator(_comma_separated),
        Field(alias="RELEASE_SIGNERS"),
    ] = ()
    """The public keys, one of which must have signed a release. Empty: releases need no signature."""

    response_streaming: Annotated[Literal["off", "api", "url", "both"], Field(alias="RESPONSE_STREAMING")] = "off"
    """Where answers reach the client in pieces: through the API, the function URL, or both. `off` sends them whole."""

    runtime_api: Annotated[str | None, Field(alias="AWS_LAMBDA_RUNTIME_API", min_length=1)] = None
    """The address of Lambda's Runtime API, which takes answers in pieces. Set by Lambda."""

    sam_local: Annotated[bool, Field(alias="AWS_SAM_LOCAL")] = False
    """Whether SAM's emulator runs the function. It cannot stream. Set by SAM."""

    checked_function: Annotated[str | None, Field(alias="CHECKED_FUNCTION", min_length=1)] = None
    """The ARN of the version that the check before a deploy invokes. Only the function of that check has it."""

    log_level: Annotated[str, Field(alias="LOG_LEVEL", pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")] = "INFO"
    """Level of the structured log. Lines below the level still count in the metrics."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. An empty variable counts as unset, since a template's empty parameter makes one.

        Raises:
            SettingsError: a variable's value breaks its rule.
        """
        try:
            return cls.model_validate({name: value for name, value in environment.items() if value != ""})
        except ValidationError as error:
            problems = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False))
            raise SettingsError(f"The function's environment cannot be used. {problems}") from None

    @property
    def streams(self) -> frozenset[str]:
        """Where answers reach the client in pieces: `api`, `url`, both, or nowhere."""
        chosen = {"off": (), "both": ("api", "url")}.get(self.response_streaming, (self.response_streaming,))
        return frozenset(chosen)

    @property
    def line_seconds(self) -> float:
        """The least seconds between two lines of requests. Who wants requests in the log wants all of them."""
        return 0.0 if self.log_requests else self.log_seconds

    @property
    def wait_seconds(self) -> float:
        """How long a start or a request waits for a release at most, in seconds; then reading goes on without it.

        Half of what the shortest limit gives, so that the other half is for torch and the model. It is 5 s, or less
        where the function's timeout is less than 10 s.
        """
        return min(INIT_SECONDS, GATEWAY_SECONDS, self.timeout_seconds) / 2

    @property
    def document_seconds(self) -> float:
        """How long reading a pointer or a manifest may take in all, so that a request still gets the reason."""
        return self.wait_seconds * DOCUMENT_SHARE

    @property
    def trial_seconds(self) -> float:
        """How long the trial of a release with programs may take, while the process runs. No request waits for it.

        A model that needs longer than the function's timeout to be loaded and to answer could not serve.
        """
        return min(LONGEST_TRIAL_SECONDS, self.timeout_seconds)

    @property
    def threads(self) -> int:
        """Threads for torch: one for each whole vCPU of this memory size (two are visible from 128 to 3,008 MB)."""
        return max(1, self.memory_mb // MEGABYTES_PER_CPU)


# Each of these asks for something that only boto3 can do.
SPECIAL = (
    *("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("AWS_PROFILE", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
)


@dataclass(frozen=True)
class AwsEnvironment:
    """Where S3 is and what signs requests to it, by the variables that Lambda and the AWS SDKs use.

    Attributes:
        region: the region of the function and its bucket.
        endpoint: the address of another S3 than AWS's; empty for AWS's.
        key, secret, token: the function's credentials; empty with SnapStart.
        container_url, container_token: with SnapStart, where the credentials can be read.
        special: the variables of SPECIAL that are set.
    """

    region: str
    endpoint: str = ""
    key: str = ""
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    container_url: str = ""
    container_token: str = field(default="", repr=False)
    special: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables as they are now: credentials may have changed since the process began."""

        def first(*names: str) -> str:
            return next((environment[name] for name in names if environment.get(name)), "")

        return cls(
            region=first("AWS_REGION", "AWS_DEFAULT_REGION"),
            endpoint=first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            key=first("AWS_ACCESS_KEY_ID"),
            secret=first("AWS_SECRET_ACCESS_KEY"),
            token=first("AWS_SESSION_TOKEN"),
            container_url=first("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            container_token=first("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
            special=tuple(name for name in SPECIAL if environment.get(name, "").lower() not in ("", "false")),
        )


# What a process that tries a release gets of the environment: where programs and libraries are, and no credentials.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR")
PASSED_ON_PREFIXES = ("OMP_", "MKL_", "TORCH_LAYER", "PYTORCH_")


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables for a process that tries a release: those that torch and the interpreter need."""
    passed = {
        name: value for name, value in environment.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    # One arena of the allocator: each reserves 64 MB of addresses, which the limit on memory counts.
    return {**passed, "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "1"}


def limit_threads(threads: int) -> None:
    """Set the thread count of OpenMP and MKL, which they read when torch is imported.

    A variable that is set already stays.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
