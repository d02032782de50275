"""Errors of refused token requests, and which parts of the response they show."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from simplestore_async.errors import InvalidClientError, TokenEndpointError
from tests.support.exchanges import SECRET, TOKEN, everything_of, exchange, refusal


class TestRefusal:
    @pytest.mark.parametrize("status", [200, 400, 401])
    @pytest.mark.parametrize("title", [None, "Unknown client"])
    @pytest.mark.parametrize("secret", [SECRET, "client", "_"])
    def test_invalid_client(self, status: int, title: str | None, secret: str) -> None:
        """`invalid_client` is a terminal InvalidClientError with a hint, even if the secret is part of the code."""
        payload = {"error": "invalid_client"} | ({"title": title} if title else {})
        error = refusal(status, payload, of=exchange(secret))

        assert (InvalidClientError, False) == (type(error), error.retryable)
        assert (status, "invalid_client") == (error.status, error.error)
        assert "Control Panel" in error.hint
        if secret == SECRET:
            reason = f"invalid_client, {title}" if title else "invalid_client"
            assert f"token request failed: status {status} ({reason})" == error.problem

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
        "code",
        ["invalid_request", "invalid_scope", "slow_down", "invalid_target", "E-401", "com.example:denied", "Forbidden"],
    )
    def test_code(self, code: str) -> None:
        """A registered code, or text in the form of a code, is shown."""
        assert code == refusal(400, {"error": code}).error

    @pytest.mark.parametrize(
        "code", ["Not Found", "", " ", "bad\ncode", "<b>", "x" * 65, "\u202ecode", SECRET, "canary-Secret"]
    )
    def test_not_a_code(self, code: str) -> None:
        """Text that is not in the form of a code, or may contain the secret, is not shown as one."""
        error = refusal(400, {"error": code})

        assert error.error is None
        assert "token request failed: status 400" == str(error)

    @pytest.mark.parametrize("secret", ["invalid_scope", "invalid_", "scope"])
    def test_secret_that_is_part_of_a_registered_code(self, secret: str) -> None:
        """A registered code is shown even if the secret is part of it."""
        assert "invalid_scope" == refusal(400, {"error": "invalid_scope"}, of=exchange(secret)).error

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
