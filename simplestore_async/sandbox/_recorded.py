"""Recorded requests. Rule: neither a secret nor a token is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl, urlencode

import attrs
from multidict import CIMultiDict, CIMultiDictProxy

from simplestore_async._core.redaction import MASK

from ._faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOST_BODY_BYTES", "RecordedRequest", "mask_form", "mask_headers"]

MOST_BODY_BYTES: Final = 65_536

_SECRET_HEADERS: Final = ("Authorization", "Proxy-Authorization")
_SECRET_FIELDS: Final = frozenset({"client_secret", "client_assertion"})


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """A request and the status of its response, without secret, token or query.

    It is recorded when its response is decided, before that is sent.

    Attributes:
        number: its number among all requests to either endpoint, from 1.
        endpoint: `"token"` or `"api"`.
        method: the HTTP method.
        path: the path, decoded, without the query.
        client_id: the client that the token request names, or the owner of the token; None if unknown.
        token_number: the number of the token that was issued, or that the API request carried, in order of issue from
            1, even if expired or revoked; None if there was none.
        status: the HTTP status of the response; None if the connection was reset.
        received_at: POSIX seconds of the sandbox's clock.
        fault: the scripted fault; a `Status` of 429 for the rate limit; None if there was none.
        headers: the request's headers, case-insensitive; of Authorization only the scheme.
        body: the first 64 KiB of the body. For a token request the form with its secret masked, or empty if it is not a
            form. For an API request empty if the sandbox did not read it: after a fault, a rejection, or for a handler.
    """

    number: int
    endpoint: Literal["token", "api"]
    method: str
    path: str
    client_id: str | None
    token_number: int | None
    status: int | None
    received_at: float
    fault: Fault | None
    headers: CIMultiDictProxy[str] = attrs.field(
        repr=False, eq=False, factory=lambda: CIMultiDictProxy(CIMultiDict[str]())
    )
    body: bytes = attrs.field(repr=False, eq=False, default=b"")


def mask_headers(headers: Mapping[str, str]) -> CIMultiDictProxy[str]:
    """Return the headers with credentials masked, except for their scheme."""
    masked = CIMultiDict(headers)
    for name in _SECRET_HEADERS:
        values = masked.popall(name, [])
        for value in values:
            scheme, blank, _ = value.partition(" ")
            masked.add(name, f"{scheme} {MASK}" if blank else MASK)
    return CIMultiDictProxy(masked)


def mask_form(body: bytes) -> bytes:
    """Return the form of a token request with its secrets masked; empty if it cannot be parsed."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        return b""
    return urlencode([(name, MASK if name in _SECRET_FIELDS else value) for name, value in pairs]).encode()
