"""Lambda functions: their layers, and running them.

moto's own way to run a function needs an image that speaks a protocol from before Lambda's emulator, and mounts code and layers
writable. Here the very image that SAM uses runs it, with what a deployed function has: code and layers read-only with their zip
files' dates, the memory limit, and the role's variables.
"""

import contextlib
import http.client
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from moto.awslambda import models

from lambda_torch.emulator.rie_environment import INVOKE_PATH, outcome_of
from lambda_torch.sam import docker, image_names

START_SECONDS = 120.0


def apply() -> None:
    """Keep the layers of functions that CloudFormation makes, and run functions in SAM's image."""
    # For the type checker: it objects, rightly, to what is done to them here.
    function_type: Any = models.LambdaFunction
    layer_type: Any = models.LayerVersion
    create = function_type.create_from_cloudformation_json.__func__
    update = function_type.update_from_cloudformation_json.__func__

    def with_layers(function: Any, definition: dict[str, Any]) -> Any:
        layers = definition["Properties"].get("Layers")
        if layers:
            arns = [layer if isinstance(layer, str) else layer.arn for layer in layers]
            function.update_configuration({"Layers": arns})
        return function

    # As moto calls them: the one by position, the other by name.
    def created(cls: Any, /, name: str, definition: dict[str, Any], *rest: Any, **more: Any) -> Any:
        return with_layers(create(cls, name, definition, *rest, **more), definition)

    def updated(cls: Any, /, **arguments: Any) -> Any:
        return with_layers(update(cls, **arguments), arguments["cloudformation_json"])

    function_type.create_from_cloudformation_json = classmethod(created)
    function_type.update_from_cloudformation_json = classmethod(updated)
    layer_type.physical_resource_id = property(lambda version: version.arn)
    function_type._invoke_lambda = _invoke


def _invoke(self: Any, event: str | None = None) -> tuple[str, bool, str]:
    """Run the function once, in a new container: its answer, whether it failed, its log."""
    from moto import settings

    self.logs_backend.ensure_log_group(self.logs_group_name)
    backend: Any = models.lambda_backends[self.account_id][self.region]
    gateway = docker.host()
    with tempfile.TemporaryDirectory(prefix="function-") as folder:
        code, opt = Path(folder, "task"), Path(folder, "opt")
        _unpack(self.code_bytes, code)
        opt.mkdir()
        for layer in self.layers:
            _unpack(backend.layers_versions_by_arn(layer["Arn"]).code_bytes, opt)
        variables = {
            "AWS_LAMBDA_FUNCTION_NAME": self.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": self.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_size),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self.timeout),
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": "role",
            "AWS_SECRET_ACCESS_KEY": "role",
            "AWS_SESSION_TOKEN": "role",
            # Where AWS's own endpoints are, for a function that runs here.
            "AWS_ENDPOINT_URL": f"http://{gateway.name}:{settings.moto_server_port()}",
            **self.environment_vars,
        }
        outcome, log = _run(self, code, opt, variables, json.dumps(event if event is not None else {}))
    self.save_logs(log)
    return outcome.payload.decode(), outcome.failed, log


def _unpack(content: bytes, folder: Path) -> None:
    """Unzip, with modes and dates, as Lambda does."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, folder))
            mode = member.external_attr >> 16 & 0o777
            if mode:
                path.chmod(mode)


def _run(function: Any, code: Path, opt: Path, variables: dict[str, str], event: str) -> Any:
    image = image_names.runtime(function.run_time.removeprefix("python"))
    options = ["--detach", "--publish", "127.0.0.1::8080", "--memory", f"{function.memory_size}m"]
    options += ["--volume", f"{code}:/var/task:ro", "--volume", f"{opt}:/opt:ro"]
    for name, value in variables.items():
        options += ["--env", f"{name}={value}"]
    container = docker.docker("run", *options, image, function.handler).strip()
    try:
        port = int(docker.docker("port", container, "8080").split(":")[1].split()[0])
        _wait(port)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=function.timeout + START_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", INVOKE_PATH, event, {"Content-Type": "application/json"})
            response = connection.getresponse()
            outcome = outcome_of(response.status, response.read())
        return outcome, docker.docker("logs", container)
    finally:
        docker.docker("rm", "--force", "--volumes", container)


def _wait(port: int) -> None:
    """Wait until the emulator in the container answers HTTP: Docker itself accepts connections before."""
    end = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/")
                connection.getresponse()
                return
            except (OSError, http.client.HTTPException):
                if time.monotonic() > end:
                    raise
        time.sleep(0.05)
