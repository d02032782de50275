"""JSON of a batch. Rule: numbers keep the digits that they came with; a line of results is ASCII."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Final, Literal

try:
    import msgspec
except ImportError as _missing:
    raise ModuleNotFoundError(
        'simplestore_async.batch needs msgspec: pip install "simplestore-async[batch]"', name="msgspec"
    ) from _missing

if TYPE_CHECKING:
    from ._values import BatchResult

__all__ = ["read_body", "result_line"]

_encode: Final = msgspec.json.Encoder().encode
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


def read_body(body: bytes, content_type: str) -> tuple[str | None, Literal["json", "text", "base64"] | None]:
    """Return the text of a body, JSON on one line, and its format; *content_type* is the header's value."""
    if not body:
        return None, None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return msgspec.json.format(text, indent=-1), "json"
        except (msgspec.MsgspecError, RecursionError):
            pass  # it is not what it claims to be
    return text, "text"


def result_line(result: BatchResult) -> bytes:
    """Return a result as a line of JSON. ASCII, so that no terminal obeys it."""
    request, body = result.request, result.body_text
    fields = {
        "id": request.id,
        "line": request.line,
        "method": request.method,
        "path": request.path,
        "outcome": result.outcome,
        "status": result.status,
        "headers": result.headers,
        "body": msgspec.Raw(body.encode()) if body and result.body_format == "json" else body,
        "body_format": result.body_format,
        "error_type": result.error_type,
        "error_message": result.error_message,
        "attempts": result.attempts,
        "started_at": result.started_at,
        "duration_seconds": result.duration_seconds,
    }
    if request.key is not None:
        fields["key"] = request.key
    try:
        line = _encode(fields)
    except (UnicodeEncodeError, ValueError):  # lone surrogates, which messages of the system may hold
        line = json.dumps(fields | {"body": result.body}).encode()
    if not line.isascii():
        line = _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], line.decode()).encode()
    return line + b"\n"
