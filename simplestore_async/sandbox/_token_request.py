"""Validation of token requests. Rule: no I/O; only the documented request is accepted.

A POST with a form body and an empty query, `grant_type=client_credentials`, and a client that authenticates in the form
or by Basic (RFC 6749 §2.3.1, §4.4).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_plus

import attrs

if TYPE_CHECKING:
    from ._state import Clients

__all__ = ["Admission", "Refusal", "TokenRequest"]

_FORM_CONTENT_TYPE: Final = "application/x-www-form-urlencoded"


@attrs.frozen
class Admission:
    """The client that gets a token."""

    client_id: str


@attrs.frozen(kw_only=True)
class Refusal:
    """An error response (RFC 6749 §5.2) with the `title` that SimpleStore documents.

    Attributes:
        client_id: the client, if it exists. An unknown id is not recorded: it may be a misplaced secret.
    """

    error: str
    title: str
    status: int = 400
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    client_id: str | None = None


@attrs.frozen(kw_only=True)
class TokenRequest:
    """A token request as received."""

    method: str
    query: str
    content_type: str
    authorization: str | None = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    def judge(self, clients: Clients) -> Admission | Refusal:
        """Return the client that gets a token, or the refusal."""
        if self.method != "POST":
            return Refusal(error="invalid_request", title="Only POST is allowed", status=405, headers={"Allow": "POST"})
        try:
            fields = self._read_form()
            client_id, client_secret = self._read_client(fields)
        except _MalformedRequestError as error:
            return Refusal(error="invalid_request", title=str(error))
        known_id = client_id if client_id in clients else None
        if fields["grant_type"] != "client_credentials":
            title = "grant_type must be client_credentials"
            return Refusal(error="unsupported_grant_type", title=title, client_id=known_id)
        if not clients.accepts(client_id, client_secret):
            return self._refuse_client(known_id)
        return Admission(client_id)

    def _read_form(self) -> Mapping[str, str]:
        if self.query:
            raise _MalformedRequestError("The query must be empty: send everything in the form")
        if self.content_type != _FORM_CONTENT_TYPE:
            raise _MalformedRequestError(f"The body must be a form: Content-Type {_FORM_CONTENT_TYPE}")
        try:
            # RFC 6749 §3.2: a field without a value counts as omitted (parse_qsl drops it); repetition is an error.
            pairs = parse_qsl(self.body.decode("ascii"), errors="strict", max_num_fields=100)
        except ValueError:
            raise _MalformedRequestError("The form cannot be read: it must be percent-encoded UTF-8") from None
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise _MalformedRequestError("A field is repeated")
        if "grant_type" not in fields:
            raise _MalformedRequestError("grant_type is missing")
        return fields

    def _read_client(self, fields: Mapping[str, str]) -> tuple[str, str]:
        if self.authorization is not None:
            if "client_secret" in fields:
                raise _MalformedRequestError(
                    "The client must authenticate once: in the form or in the Authorization header."
                )
            return _parse_basic(self.authorization)
        if "client_id" not in fields or "client_secret" not in fields:
            raise _MalformedRequestError("client_id and client_secret must both be in the form")
        return fields["client_id"], fields["client_secret"]

    def _refuse_client(self, client_id: str | None) -> Refusal:
        # RFC 6749 §5.2: a client that used the Authorization header gets 401 and a challenge.
        is_basic = self.authorization is not None
        return Refusal(
            error="invalid_client",
            title="The client id or the client secret is wrong",
            status=401 if is_basic else 400,
            headers={"WWW-Authenticate": 'Basic realm="simplestore"'} if is_basic else {},
            client_id=client_id,
        )


class _MalformedRequestError(Exception):
    """A request that breaks a rule of the endpoint; its text is the title of the refusal."""


def _parse_basic(authorization: str) -> tuple[str, str]:
    """Return id and secret, form-decoded after base64 (RFC 6749 §2.3.1), or two empty strings."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, client_secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
        return unquote_plus(client_id, errors="strict"), unquote_plus(client_secret, errors="strict")
    except ValueError:
        return "", ""
