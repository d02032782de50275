"""Token responses parsed without a connection, as the endpoint parses them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from simplestore_async import AccessToken, ClientCredentials
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.wire import Exchange
from simplestore_async.errors import TokenEndpointError, TokenError, TokenResponseError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "canary-Secret+&=%: \"\u00e9<~!*(')/?x"
TOKEN = "canary-token"
NOW = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 §5.6.7."""


def exchange(secret: str = SECRET, *, headers: Mapping[str, str] | None = None, **changes: Any) -> Exchange:
    credentials = ClientCredentials(**{"client_id": "app", "client_secret": secret} | changes)
    return Exchange(credentials, RedactedStr(secret), headers=headers or {})


def parse(
    status: int,
    payload: Any,
    headers: Mapping[str, str] | None = None,
    *,
    issued_at: float = NOW,
    now: float = NOW,
    of: Exchange | None = None,
) -> AccessToken | TokenError:
    """Return the outcome of a response; *payload* is bytes or a JSON value."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return (of or exchange()).parse_response(status, CIMultiDict(headers or {}), body, issued_at=issued_at, now=now)


def token(payload: Any, headers: Mapping[str, str] | None = None, **options: Any) -> AccessToken:
    """Return the token in a response of status 200."""
    outcome = parse(200, payload, headers, **options)
    assert isinstance(outcome, AccessToken), outcome
    return outcome


def no_token(payload: Any, headers: Mapping[str, str] | None = None) -> TokenResponseError:
    """Return the error of a response of status 200 without a token."""
    outcome = parse(200, payload, headers)
    assert isinstance(outcome, TokenResponseError), outcome
    return outcome


def refusal(
    status: int, payload: Any = b"", headers: Mapping[str, str] | None = None, **options: Any
) -> TokenEndpointError:
    """Return the error of a refused request."""
    outcome = parse(status, payload, headers, **options)
    assert isinstance(outcome, TokenEndpointError), outcome
    return outcome


def everything_of(error: TokenError | AccessToken) -> str:
    """Return everything that an error shows, without its causes and contexts."""
    return f"{error}\n{error!r}\n{getattr(error, 'args', ())}\n{vars(error) if hasattr(error, '__dict__') else ''}"
