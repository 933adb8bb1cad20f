"""S3 for one run."""

from pathlib import Path

import pytest

from lambda_torch.emulator.processes import Processes
from lambda_torch.emulator.storage import Storage


def test_storage_keeps_objects_whatever_the_developers_own_configuration(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects come back as they were put, also where AWS_PROFILE names a profile that is not there."""
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    storage = Storage(processes, tmp_path, "models")
    client = storage.client()
    client.put_object(Bucket="models", Key="a/b", Body=b"content")
    assert client.get_object(Bucket="models", Key="a/b")["Body"].read() == b"content"
    assert storage.alive
    client.close()
