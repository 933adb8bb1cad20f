"""How an answer in pieces leaves the handler: as a stream, or collected for a caller that takes answers whole."""

import base64
from collections.abc import Mapping
from typing import Any

from serving.http import responses
from serving.http.responses import BodyPieces, HttpResponse
from serving.http.service import Reader
from serving.runtime.answer import OnePiece, StreamedAnswer
from serving.telemetry.receipts import Phase, Receipt


def deliver(
    response: HttpResponse, pieces: BodyPieces, headers: Mapping[str, str], reader: Reader
) -> dict[str, Any] | StreamedAnswer:
    """An answer in pieces, in the form that the caller takes. Collecting it reads it to its end.

    Args:
        headers: those of every answer, beside the response's own.
    """
    own = {**responses.headers_of(response), **headers}
    if reader.streams:
        return StreamedAnswer.of(response.status, own, pieces, reader.seconds_left)
    body = b"".join(pieces).decode()
    return {"statusCode": response.status, "headers": own, "body": body, "isBase64Encoded": False}


def as_stream(answer: dict[str, Any], reader: Reader) -> StreamedAnswer:
    """A whole answer, given in the proxy form, for a caller that takes every answer as a stream."""
    text = answer["body"]
    body = OnePiece(base64.b64decode(text) if answer["isBase64Encoded"] else text.encode(errors="replace"))
    return StreamedAnswer.of(answer["statusCode"], answer["headers"], body, reader.seconds_left)


def account(receipt: Receipt, pieces: BodyPieces) -> dict[str, Any]:
    """Add to a request's phases what came after its first piece. Returns what its line in the log has more."""
    counted = sum(phase.took for phase in receipt.phases if phase.name == "total")
    receipt.phases += [
        Phase("predict", 0, pieces.counts.later_ns, 0),
        Phase("total", 0, int(receipt.so_far() * 1e6) - counted, 0),
    ]
    return {**pieces.counts.summary(), "ended": pieces.ended}
