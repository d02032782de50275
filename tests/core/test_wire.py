"""`Exchange`: the token request, and the errors of refused ones."""

from __future__ import annotations

import base64
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from simplestore_async._core.redaction import conceal
from simplestore_async.errors import InvalidClientError, TokenEndpointError
from tests.support.exchanges import NOW, SECRET, TOKEN, everything_of, exchange, refusal


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
        assert encoded not in repr(basic.secret_headers)

    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    def test_nothing_is_shown(self, auth_method: str) -> None:
        """No attribute of an exchange shows the secret, a custom header or an assertion."""
        attempt = exchange(
            auth_method=auth_method, headers={"X-API-Key": conceal("canary")}, extra_parameters={"assertion": "canary"}
        )

        assert "canary" not in repr(vars(attempt))


class TestRefusal:
    @pytest.mark.parametrize("status", [200, 400, 401])
    def test_invalid_client(self, status: int) -> None:
        """`invalid_client` is a terminal InvalidClientError with a hint."""
        error = refusal(status, {"error": "invalid_client", "title": "Unknown client"})

        assert (InvalidClientError, False) == (type(error), error.retryable)
        assert (status, "invalid_client") == (error.status, error.error)
        assert "Control Panel" in error.hint
        assert f"token request failed: status {status} (invalid_client, Unknown client)" == error.problem

    @pytest.mark.parametrize("status", [400, 503])
    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", {}),
            (b"<html>canary</html>", {}),
            (b'"canary"', {}),
            (b'{"error": ["canary"]}', {}),
            (b'{"error": "invalid_client"}'.ljust(2 << 20), {}),
            (b"canary", {"Content-Encoding": "br"}),
        ],
        ids=["empty", "html", "string", "odd", "long JSON", "br"],
    )
    def test_any_body(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Any body of a refusal causes a TokenEndpointError with the status that does not quote the body."""
        error = refusal(status, body, headers)

        assert (TokenEndpointError, status) == (type(error), error.status)
        assert [None] * 4 == [error.error, error.error_description, error.title, error.retry_after]
        assert f"token request failed: status {status}" == error.problem
        assert "canary" not in everything_of(error)

    @pytest.mark.parametrize(
        ("statuses", "advice", "retryable"),
        [
            ((400, 402, 407, 409, 421, 422, 425, 428, 430, 451, 499), "", False),
            ((408, 429, 500, 501, 502, 503, 504, 599), "", True),
            ((401, 403), "Control Panel", False),
            ((404, 405, 410), "token endpoint", False),
            ((300, 301, 302, 303, 307, 308, 399), "SIMPLESTORE_TOKEN_URL", False),
        ],
        ids=["refused", "retried", "credentials", "absent", "redirect"],
    )
    def test_status(self, statuses: tuple[int, ...], advice: str, *, retryable: bool) -> None:
        """The status decides whether the error is retryable and which hint it has."""
        for status in statuses:
            error = refusal(status, b"", {"Location": "https://evil.example/canary"})

            assert f"token request failed: status {status}" == error.problem
            assert (retryable, bool(advice)) == (error.retryable, bool(error.hint))
            assert advice in error.hint

    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_error_with_success_status(self, status: int) -> None:
        """A success with an `error` member is a refusal, even with a token, which is not shown."""
        error = refusal(status, {"error": "access_denied", "access_token": TOKEN})

        assert TokenEndpointError is type(error)
        assert (status, "access_denied") == (error.status, error.error)
        assert "canary" not in everything_of(error)

    def test_message(self) -> None:
        """Code, description and title are in the message and are attributes of the error."""
        error = refusal(400, {"error": "invalid_scope", "error_description": "No such scope", "title": "Wrong"})

        assert "token request failed: status 400 (invalid_scope, No such scope, Wrong)" == str(error)
        assert ("invalid_scope", "No such scope", "Wrong") == (error.error, error.error_description, error.title)

    @pytest.mark.parametrize("field", ["error", "error_description", "title"])
    @pytest.mark.parametrize("value", [None, 5, True, [], {"a": 1}])
    def test_text_of_another_type(self, field: str, value: object) -> None:
        """A text of the wrong type is ignored."""
        error = refusal(400, {"error": "invalid_scope", field: value})

        assert getattr(error, field) is None
        assert TokenEndpointError is type(error)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("two\r\nlines\tand\0more", "two  lines and more"),
            ("\x1b[31mred", " [31mred"),
            ("lone \ud800 half", "lone   half"),
            ("line\u2028separator \u202eesrever", "line separator  esrever"),
            ("\u00e9\u4e2d\U0001f511", "\u00e9\u4e2d\U0001f511"),
            ("x" * 300, "x" * 300),
            ("x" * 301, "x" * 300 + "\u2026"),
            ("x" * 100_000, "x" * 300 + "\u2026"),
            ("", ""),
        ],
    )
    def test_text_is_cleaned(self, text: str, expected: str) -> None:
        """A server's text becomes one line of at most 300 characters, without control characters."""
        error = refusal(400, {"error_description": text})

        assert expected == error.error_description
        assert f"token request failed: status 400{f' ({expected})' if expected else ''}" == str(error)

    @pytest.mark.parametrize(
        ("code", "secret", "is_shown"),
        [
            *((code, SECRET, True) for code in ("invalid_request", "invalid_scope", "slow_down", "invalid_target")),
            *((code, SECRET, True) for code in ("E-401", "com.example:denied", "Forbidden")),
            *(("invalid_scope", secret, True) for secret in ("invalid_scope", "invalid_", "scope", "_")),
            *((code, SECRET, False) for code in ("Not Found", "", " ", "bad\ncode", "<b>", "x" * 65, "\u202ecode")),
            *((code, SECRET, False) for code in (SECRET, "canary-Secret")),
        ],
    )
    def test_code(self, code: str, secret: str, is_shown: bool) -> None:
        """A registered code is shown, and so is text in the form of a code that cannot contain the secret."""
        error = refusal(400, {"error": code}, of=exchange(secret))

        assert (code if is_shown else None) == error.error
        assert f"token request failed: status 400{f' ({code})' if is_shown else ''}" == str(error)

    @pytest.mark.parametrize("field", ["error_description", "title"])
    def test_echo(self, field: str) -> None:
        """A text that may contain the secret is withheld as a whole."""
        error = refusal(400, {"error": "invalid_request", field: f"bad secret {quote(SECRET)} (app)"})

        assert "[withheld]" == getattr(error, field)
        assert "token request failed: status 400 (invalid_request, [withheld])" == str(error)

    @pytest.mark.parametrize(
        ("arguments", "echo"),
        [
            ({"auth_method": "client_secret_basic"}, "Basic {basic}"),
            ({"auth_method": "client_secret_basic"}, "basic {basic.lower}"),
            ({"headers": {"X-API-Key": "0123456789abcdef"}}, "key 0123456789abcdef is not valid"),
            ({"extra_parameters": {"client_assertion": "eyJ.0123456789.abc"}}, "got eyJ.0123456789.abc"),
        ],
        ids=["Basic", "basic in lower case", "header", "assertion"],
    )
    def test_echo_of_other_secrets(self, arguments: dict[str, Any], echo: str) -> None:
        """A text that contains the Authorization header, a custom header or an assertion is withheld."""
        attempt = exchange(**arguments)
        basic = attempt.secret_headers.get("Authorization", "").removeprefix("Basic ")
        description = echo.replace("{basic}", basic).replace("{basic.lower}", basic.lower())

        assert "[withheld]" == refusal(400, {"error_description": description}, of=attempt).error_description

    def test_public_parameters(self) -> None:
        """A text that contains a public parameter or header is shown."""
        attempt = exchange(extra_parameters={"audience": "https://api.example.com"}, headers={"X-Tenant": "storefront"})
        description = "https://api.example.com is no audience of storefront"

        assert description == refusal(400, {"error_description": description}, of=attempt).error_description

    @pytest.mark.parametrize("field", ["access_token", "refresh_token", "id_token"])
    def test_echo_of_a_token(self, field: str) -> None:
        """A refusal that contains and quotes a token does not show it."""
        error = refusal(400, {field: TOKEN, "title": "denied", "error_description": f"{TOKEN} is not for you"})

        assert ("[withheld]", "denied") == (error.error_description, error.title)
        assert TOKEN not in everything_of(error)

    @pytest.mark.parametrize("value", [b'"\\ud800"', b'""', b"5", b"[5]", b"true"])
    def test_invalid_token(self, value: bytes) -> None:
        """An invalid token in a refusal does not change the error."""
        assert "denied" == refusal(400, b'{"error": "denied", "access_token": %b}' % value).error


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            *(("0", 0.0), ("1", 1.0), ("120", 120.0), (" 120 ", 120.0), ("1.5", 1.5), ("3600", 3600.0)),
            *((value, 31_536_000.0) for value in ("31536000", "31536001", "9" * 400)),
            *((date, 30.0) for date in (formatdate(NOW + 30, usegmt=True), "Sunday, 06-Nov-94 08:50:07 GMT")),
            *((date, 30.0) for date in ("Sun Nov  6 08:50:07 1994", "Sun, 06 Nov 1994 08:50:07 -0000")),
            ("Sun, 06 Nov 1994 09:50:07 +0100", 30.0),
            *((formatdate(NOW + seconds, usegmt=True), 0.0) for seconds in (0, -30)),
            (formatdate(NOW + 10**9, usegmt=True), 31_536_000.0),
            *((value, None) for value in ("", " ", "soon", "-1", "+5", "1e3", "1.", "0\x1f", "\u0663", "NaN", "inf")),
            *((f"Sun, {time} GMT", None) for time in ("99 Nov 1994 08:49:37", "06 Nov 1994 25:49:37")),
            *((f"Sun, 06 Nov {rest}", None) for rest in ("99999 08:49:37 GMT", f"{'9' * 5_000} 08:49:37 GMT")),
            *((f"Sun, 06 Nov 1994 08:49:37 +{zone}", None) for zone in ("9999", "9" * 30)),
        ],
    )
    def test_value(self, value: str, expected: float | None) -> None:
        """Retry-After is seconds or a date in any form of HTTP, and a past date is 0 s; anything else is ignored."""
        assert expected == refusal(503, b"", {"Retry-After": value}).retry_after

    @pytest.mark.parametrize(
        ("date", "expected"),
        [
            (formatdate(NOW - 3600, usegmt=True), 3630.0),
            (formatdate(NOW + 3600, usegmt=True), 0.0),
            (formatdate(NOW + 10, usegmt=True), 20.0),
            ("yesterday", 30.0),
            ("", 30.0),
        ],
    )
    def test_clock_of_the_server(self, date: str, expected: float) -> None:
        """A date is compared with the response's Date header, so a wrong clock on either side has no effect."""
        headers = {"Retry-After": formatdate(NOW + 30, usegmt=True), "Date": date}

        assert expected == refusal(503, b"", headers).retry_after
