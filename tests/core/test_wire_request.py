"""The form and headers of a token request."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl

import pytest

from simplestore_async._core.redaction import conceal
from tests.support.exchanges import SECRET, exchange


class TestRequest:
    def test_scope_and_extra_parameters(self) -> None:
        """Scope and extra parameters, even with several values (RFC 8707 §2), follow the documented fields in order."""
        fields = exchange(
            "s3cret", scope=["write", "read"], extra_parameters={"resource": ["x y", "z"], "audience": "\u00e9"}
        ).body

        assert (
            b"grant_type=client_credentials&client_id=app&client_secret=s3cret"
            b"&scope=write+read&resource=x+y&resource=z&audience=%C3%A9"
        ) == fields

    @pytest.mark.parametrize("text", [SECRET, '+&=%: "\u00e9', "%41", "a\U0001f511b", "a b", "~"])
    def test_form_round_trip(self, text: str) -> None:
        """Id and secret of any characters survive the encoding of the form."""
        body = exchange(text, client_id=text).body

        assert [("grant_type", "client_credentials"), ("client_id", text), ("client_secret", text)] == parse_qsl(
            body.decode("ascii"), strict_parsing=True
        )

    def test_basic(self) -> None:
        """With client_secret_basic id and secret are sent in the header, encoded for forms, and not in the form."""
        basic = exchange(
            'a+b %:"\u00e9~', client_id="my app:x", auth_method="client_secret_basic", headers={"X-API-Key": "key"}
        )
        scheme, _, encoded = basic.secret_headers["Authorization"].partition(" ")

        assert (["X-API-Key", "Authorization"], "Basic") == (list(basic.secret_headers), scheme)
        assert b"my%20app%3Ax:a%2Bb%20%25%3A%22%C3%A9~" == base64.b64decode(encoded, validate=True)
        assert b"grant_type=client_credentials" == basic.body
        assert exchange().headers == basic.headers

    def test_body_is_redacted(self) -> None:
        """The form and every slice of it are redacted."""
        body = exchange().body

        assert ["b'***'"] * 3 == [repr(body), repr(body[:40]), repr(body[5:])]
        assert isinstance(body, bytes)

    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    def test_nothing_is_shown(self, auth_method: str) -> None:
        """No attribute of an exchange shows the secret, a custom header or an assertion."""
        attempt = exchange(
            auth_method=auth_method, headers={"X-API-Key": conceal("canary")}, extra_parameters={"assertion": "canary"}
        )

        assert "canary" not in repr(vars(attempt))
