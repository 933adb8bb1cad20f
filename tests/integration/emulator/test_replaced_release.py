"""The real function under the real emulator, started again after its release was replaced in S3."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from integration.emulator.conftest import said
from lambda_torch import project
from lambda_torch.emulator import run, software
from lambda_torch.emulator.function import Function
from lambda_torch.emulator.payloads import GatewayRequest, http_event
from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.rie_environment import RieEnvironment
from lambda_torch.emulator.storage import Storage
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

PREDICT = b'{"category": "Russian", "start_letters": "RUS"}'


def test_a_restart_serves_the_replaced_release_and_refuses_a_damaged_one(
    processes: Processes, release: Path, tmp_path: Path
) -> None:
    """Each start of the function serves what is current then; one with a flipped byte is a 503 with the reason."""
    storage = Storage(processes, tmp_path, "models")
    variables = {"MODEL_BUCKET": "models", "AWS_ENDPOINT_URL_S3": storage.url}
    function = Function(project.SRC, run.HANDLER, software.stock(), variables=variables)
    health = json.dumps(http_event(GatewayRequest("GET", "/health"))).encode()

    def start_anew() -> tuple[dict[str, Any], dict[str, Any]]:
        """What a new environment answers to /health and to a prediction."""
        environment = RieEnvironment(function, processes, tmp_path, "the function")
        try:
            return said(environment.initialise(health)), said(environment.invoke(PREDICT))
        finally:
            environment.stop()

    with contextlib.closing(storage.client()) as client:
        bucket = Bucket(client, "models")
        first = publish(release, bucket).version
        answer, predicted = start_anew()
        assert json.loads(answer["body"])["release"] == predicted["headers"]["X-Model-Version"] == first

        other = shutil.copytree(release, tmp_path / "other")
        (other / "model.json").write_text(json.dumps(json.loads((other / "model.json").read_text()), indent=7))
        second = publish(other, bucket).version
        assert second != first
        answer, predicted = start_anew()
        assert json.loads(answer["body"])["release"] == predicted["headers"]["X-Model-Version"] == second
        assert [name[0] for name in json.loads(predicted["body"])] == ["R", "U", "S"]

        weights = next(
            item["Key"]
            for item in client.list_objects_v2(Bucket="models", Prefix=f"releases/{second}/")["Contents"]
            if item["Key"].endswith("weights.safetensors")
        )
        content = bytearray(client.get_object(Bucket="models", Key=weights)["Body"].read())
        content[-1] ^= 1
        client.put_object(Bucket="models", Key=weights, Body=bytes(content))
        answer, predicted = start_anew()
        assert (answer["statusCode"], predicted["statusCode"]) == (503, 503)
        assert "weights.safetensors" in json.loads(predicted["body"])["error"]["message"]
