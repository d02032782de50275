"""The token request: its form and headers."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl, unquote

import pytest

from simplestore_async._core.redaction import conceal
from tests.support.exchanges import SECRET, exchange


class TestRequest:
    def test_documented_form(self) -> None:
        """The form is the three documented fields and nothing else."""
        body = exchange("s3cret").body

        assert b"grant_type=client_credentials&client_id=app&client_secret=s3cret" == body

    def test_headers(self) -> None:
        """The form is announced as such, JSON is asked for, uncompressed, on a connection of its own."""
        assert {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
        } == exchange().headers

    def test_scope_and_extra_parameters(self) -> None:
        """Scope and extra parameters follow the documented fields, in the order given."""
        fields = exchange(
            "s3cret", scope=["write", "read"], extra_parameters={"resource": "x y", "audience": "\u00e9"}
        ).body

        assert (
            b"grant_type=client_credentials&client_id=app&client_secret=s3cret"
            b"&scope=write+read&resource=x+y&audience=%C3%A9"
        ) == fields

    def test_several_values(self) -> None:
        """A parameter with several values is sent once for each (RFC 8707 2)."""
        body = exchange("s3cret", extra_parameters={"resource": ["https://a", "https://b"]}).body

        assert body.endswith(b"&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb")

    @pytest.mark.parametrize("text", [SECRET, '+&=%: "\u00e9', "%41", "a\U0001f511b", "a b", "~"])
    def test_form_round_trip(self, text: str) -> None:
        """Id and secret arrive intact in the form, with any characters."""
        body = exchange(text, client_id=text).body

        assert [("grant_type", "client_credentials"), ("client_id", text), ("client_secret", text)] == parse_qsl(
            body.decode("ascii"), strict_parsing=True
        )

    def test_basic(self) -> None:
        """With client_secret_basic id and secret are in the header, form-encoded before base64, and not in the form."""
        basic = exchange('a+b %:"\u00e9~', client_id="my app:x", auth_method="client_secret_basic")
        scheme, _, encoded = basic.secret_headers["Authorization"].partition(" ")

        assert "Basic" == scheme
        assert b"my%20app%3Ax:a%2Bb%20%25%3A%22%C3%A9~" == base64.b64decode(encoded, validate=True)
        assert b"grant_type=client_credentials" == basic.body
        assert exchange().headers == basic.headers

    @pytest.mark.parametrize("text", [SECRET, '+&=%: "\u00e9', "%41", "a\U0001f511b", ":", "/"])
    def test_basic_round_trip(self, text: str) -> None:
        """A server that decodes by RFC 6749 2.3.1, with or without a meaning for +, gets both intact."""
        header = exchange(text, client_id=text, auth_method="client_secret_basic").secret_headers["Authorization"]
        pair = base64.b64decode(header.removeprefix("Basic ")).decode("ascii")

        assert [text, text] == [unquote(part) for part in pair.split(":")]
        assert "+" not in pair

    def test_basic_is_redacted(self) -> None:
        """The Authorization header shows neither the secret nor its encoded form."""
        headers = exchange(auth_method="client_secret_basic").secret_headers

        assert "{'Authorization': '***'}" == repr(headers)

    def test_further_headers(self) -> None:
        """Headers that a user adds stand next to Authorization, apart from the public ones."""
        attempt = exchange(headers={"X-API-Key": "key"}, auth_method="client_secret_basic")

        assert ["X-API-Key", "Authorization"] == list(attempt.secret_headers)
        assert exchange().headers == attempt.headers

    def test_body_is_redacted(self) -> None:
        """The form is redacted, and every part of it."""
        body = exchange().body

        assert ["b'***'"] * 3 == [repr(body), repr(body[:40]), repr(body[5:])]
        assert isinstance(body, bytes)

    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    def test_nothing_is_shown(self, auth_method: str) -> None:
        """No attribute of an exchange shows the secret, a key or an assertion."""
        attempt = exchange(
            auth_method=auth_method, headers={"X-API-Key": conceal("canary")}, extra_parameters={"assertion": "canary"}
        )

        assert "canary" not in repr(vars(attempt))
