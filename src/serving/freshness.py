"""Is the pointer still the one that is known? The look that nearly always finds nothing new, at a fraction of a full read's cost.

botocore takes some milliseconds of CPU for a GET, and while it computes, a request of the same environment waits for the
interpreter. A signed URL is good for many looks, each of which is then a plain HTTP request. Only a 304 counts: whatever else
comes, an expired signature as much as a new pointer, is for the full read to find out.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import urllib3
    from mypy_boto3_s3 import S3Client

# A signature outlives the looks that use it by so much that slow clocks do not matter.
SIGN_EVERY_SECONDS = 300.0
VALID_SECONDS = 900
# An environment where plain HTTP does not get through (a proxy, a certificate of one's own) is left to botocore, which knows
# them.
FAILURES_BEFORE_GIVING_UP = 3


class Freshness:
    """Looks at one object, again and again.

    Args:
        client: an S3 client, for its signature.
        bucket, key: the object.
        connect_seconds, read_seconds: how long a look may wait.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        key: str,
        connect_seconds: float,
        read_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": key}
        self._waits = connect_seconds, read_seconds
        self._clock = clock
        self._pool: urllib3.PoolManager | None = None
        self._url = ""
        self._signed_at = float("-inf")
        self._failures = 0

    def unchanged(self, etag: str) -> bool:
        """Whether S3 says so; False whenever it does not, for whatever reason: a fault of the network or of S3 is not raised."""
        if self._failures >= FAILURES_BEFORE_GIVING_UP:
            return False
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        try:
            # Another status than 304 is drained too, so that the connection is good for the next look; pointers are small.
            status = self._opened().request("GET", self._signed(), headers={"If-None-Match": etag}).status
        except (BotoCoreError, HTTPError, OSError):
            self._failures += 1
            return False
        if status == 304:
            self._failures = 0
            return True
        self._signed_at = float("-inf")
        return False

    def _opened(self) -> "urllib3.PoolManager":
        if self._pool is None:
            import urllib3
            from botocore.httpsession import get_cert_path

            connect, read = self._waits
            self._pool = urllib3.PoolManager(
                maxsize=1,
                retries=False,
                timeout=urllib3.Timeout(connect=connect, read=read),
                ca_certs=get_cert_path(True),
            )
        return self._pool

    def _signed(self) -> str:
        now = self._clock()
        if now - self._signed_at > SIGN_EVERY_SECONDS:
            self._url = self._client.generate_presigned_url("get_object", Params=self._object, ExpiresIn=VALID_SECONDS)
            self._signed_at = now
        return self._url
