"""A client for S3 that sees only the keys below a prefix, as if they were a bucket of their own."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client


# What the models of a bucket have in common: the regions that follow it.
SHARED_KEYS = frozenset({"regions.json"})


def confine(client: "S3Client", prefix: str) -> None:
    """Put a prefix before every key that a client sends from now on, and take it from every key that it receives.

    The keys in `SHARED_KEYS` stay what they are.

    Args:
        client: the client. It stays so.
        prefix: such as `models/names/`.
    """

    def sent(params: dict[str, Any], model: "OperationModel", **_: Any) -> None:
        if "Key" in params and params["Key"] not in SHARED_KEYS:
            params["Key"] = prefix + params["Key"]
        if "Delete" in params:
            objects = [{**each, "Key": prefix + each["Key"]} for each in params["Delete"]["Objects"]]
            params["Delete"] = {**params["Delete"], "Objects": objects}
        if model.name == "ListObjectsV2":
            params["Prefix"] = prefix + params.get("Prefix", "")

    def received(parsed: dict[str, Any], **_: Any) -> None:
        for section in ("Contents", "Deleted", "Errors"):
            for each in parsed.get(section, []):
                if isinstance(each.get("Key"), str):
                    each["Key"] = each["Key"].removeprefix(prefix)

    events = client.meta.events
    events.register("before-parameter-build.s3.*", sent)
    events.register("after-call.s3.*", received)
