"""Releases that are made in milliseconds: real ones with random weights, and small ones of which only the documents matter."""

import hashlib
import json
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lambda_torch.releases.bucket import Bucket
from model.config import Architecture, Config
from model.network import RNN
from serving.releases.format import (
    SCHEMA_VERSION,
    FileEntry,
    GoldenExample,
    Manifest,
    ReleaseRef,
    dump,
    file_key,
    version_of,
)

CATEGORIES = ["Russian", "Greek", "Dutch"]
LETTERS = string.ascii_letters + " .,;'-"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def folder_of(folder: Path, seed: int, **training: Any) -> Path:
    """Write a release folder of the sample model; another seed gives other weights, and so other answers."""
    config = Config(
        architecture=Architecture(hidden_size=16), categories=CATEGORIES, letters=LETTERS, training=training
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rnn = RNN(len(CATEGORIES), len(LETTERS) + 1, config.architecture.hidden_size)
    folder.mkdir(parents=True)
    save_file(rnn.state_dict(), folder / "weights.safetensors")
    (folder / "model.json").write_text(config.model_dump_json())
    return folder


def put_release(bucket: Bucket, number: int, **more: Any) -> ReleaseRef:
    """Put a release of one small file into a bucket, the higher the number the younger; no model could load it."""
    content = f"release {number}".encode()
    files = {"data.txt": FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())}
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": version_of(files),
        "created": CREATED + timedelta(hours=number),
        "files": files,
        "metrics": {"loss": number / 4},
        "golden": [GoldenExample(request={"x": 1}, response=[number])],
        **more,
    }
    manifest = Manifest(**values)
    bucket.client.put_object(Bucket=bucket.name, Key=file_key(manifest.version, "data.txt"), Body=content)
    body = dump(manifest)
    bucket.client.put_object(Bucket=bucket.name, Key=file_key(manifest.version, "manifest.json"), Body=body)
    return ReleaseRef(version=manifest.version, manifest_sha256=hashlib.sha256(body).hexdigest())


def contents(bucket: Bucket) -> dict[str, str]:
    """Every object of a bucket: key to ETag."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}


def named(bucket: Bucket, channel: str = "live") -> tuple[str | None, str | None, str | None]:
    """The versions that a channel names: current, previous, canary."""
    body = bucket.client.get_object(Bucket=bucket.name, Key=f"channels/{channel}.json")["Body"].read()
    document = json.loads(body)
    current, previous, canary = (
        document[role] and document[role]["version"] for role in ("current", "previous", "canary")
    )
    return current, previous, canary
