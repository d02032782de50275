"""A refused token request: its error, and the parts of the response that are shown."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from simplestore_async.errors import InvalidClientError, TokenEndpointError
from tests.support.exchanges import SECRET, TOKEN, everything_of, exchange, refusal


class TestRefusal:
    @pytest.mark.parametrize("status", [200, 400, 401])
    @pytest.mark.parametrize("title", [None, "Unknown client"])
    @pytest.mark.parametrize("secret", [SECRET, "client", "_"], ids=ascii)
    def test_invalid_client(self, status: int, title: str | None, secret: str) -> None:
        """`invalid_client` is a terminal InvalidClientError with a hint, even if the secret is a part of that word."""
        payload = {"error": "invalid_client"} | ({"title": title} if title else {})
        error = refusal(status, payload, of=exchange(secret))

        assert (InvalidClientError, False) == (type(error), error.retryable)
        assert (status, "invalid_client") == (error.status, error.error)
        assert "Control Panel" in error.hint
        if secret == SECRET:
            said = f"invalid_client, {title}" if title else "invalid_client"
            assert f"token request failed: status {status} ({said})" == error.problem

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
        """A refusal is a TokenEndpointError with its status, for any body, which is not quoted."""
        error = refusal(status, body, headers)

        assert (TokenEndpointError, status) == (type(error), error.status)
        assert [None] * 4 == [error.error, error.error_description, error.title, error.retry_after]
        assert f"token request failed: status {status}" == error.problem
        assert "canary" not in everything_of(error)

    @pytest.mark.parametrize(
        ("statuses", "advice", "retryable"),
        [
            ((400, 402, 404, 405, 407, 409, 410, 421, 422, 425, 428, 430, 451, 499), "", False),
            ((408, 429, 500, 501, 502, 503, 504, 599), "", True),
            ((401, 403), "Control Panel", False),
            ((300, 301, 302, 303, 307, 308, 399), "SIMPLESTORE_TOKEN_URL", False),
        ],
        ids=["refused", "retried", "credentials", "redirect"],
    )
    def test_what_to_do(self, statuses: tuple[int, ...], advice: str, *, retryable: bool) -> None:
        """The status decides whether to retry, and the hint; some servers refuse credentials with an empty 403."""
        for status in statuses:
            error = refusal(status, b"", {"Location": "https://evil.example/canary"})

            assert f"token request failed: status {status}" == error.problem
            assert (retryable, bool(advice)) == (error.retryable, bool(error.hint))
            assert advice in error.hint

    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_error_with_status_of_success(self, status: int) -> None:
        """An `error` member makes a refusal of a success, even next to a token; the token is not shown."""
        error = refusal(status, {"error": "access_denied", "access_token": TOKEN})

        assert TokenEndpointError is type(error)
        assert (status, "access_denied") == (error.status, error.error)
        assert "canary" not in everything_of(error)

    def test_all_that_was_said(self) -> None:
        """Code, description and title are in the message, and each can be read."""
        error = refusal(400, {"error": "invalid_scope", "error_description": "No such scope", "title": "Wrong"})

        assert "token request failed: status 400 (invalid_scope, No such scope, Wrong)" == str(error)
        assert ("invalid_scope", "No such scope", "Wrong") == (error.error, error.error_description, error.title)

    @pytest.mark.parametrize("field", ["error", "error_description", "title"])
    @pytest.mark.parametrize("value", [None, 5, True, [], {"a": 1}], ids=str)
    def test_text_of_another_type(self, field: str, value: object) -> None:
        """A text of the wrong type explains nothing and spoils nothing."""
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
        ids=lambda value: ascii(value)[:20],
    )
    def test_text_is_fit_to_be_shown(self, text: str, expected: str) -> None:
        """A server's text becomes one line without control characters, of 300 characters at most."""
        error = refusal(400, {"error_description": text})

        assert expected == error.error_description
        assert f"token request failed: status 400{f' ({expected})' if expected else ''}" == str(error)

    @pytest.mark.parametrize(
        "code",
        ["invalid_request", "invalid_scope", "slow_down", "invalid_target", "E-401", "com.example:denied", "Forbidden"],
    )
    def test_code(self, code: str) -> None:
        """A registered code, and one that looks like a code, is shown."""
        assert code == refusal(400, {"error": code}).error

    @pytest.mark.parametrize(
        "code", ["Not Found", "", " ", "bad\ncode", "<b>", "x" * 65, "\u202ecode", SECRET, "canary-Secret"]
    )
    def test_no_code(self, code: str) -> None:
        """Text without the form of a code, or that may hold the secret, is no code."""
        error = refusal(400, {"error": code})

        assert error.error is None
        assert "token request failed: status 400" == str(error)

    @pytest.mark.parametrize("secret", ["invalid_scope", "invalid_", "scope"])
    def test_secret_that_is_part_of_a_registered_code(self, secret: str) -> None:
        """A registered code is shown with any secret."""
        assert "invalid_scope" == refusal(400, {"error": "invalid_scope"}, of=exchange(secret)).error

    @pytest.mark.parametrize("field", ["error_description", "title"])
    def test_echo(self, field: str) -> None:
        """A text that may hold the secret is withheld whole."""
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
    )
    def test_echo_of_other_secrets(self, arguments: dict[str, Any], echo: str) -> None:
        """Neither the Authorization header, nor a key among the headers, nor an assertion is shown."""
        attempt = exchange(**arguments)
        basic = attempt.secret_headers.get("Authorization", "").removeprefix("Basic ")
        description = echo.replace("{basic}", basic).replace("{basic.lower}", basic.lower())

        assert "[withheld]" == refusal(400, {"error_description": description}, of=attempt).error_description

    def test_public_parameters(self) -> None:
        """The value of a public parameter may stand in a text."""
        attempt = exchange(extra_parameters={"audience": "https://api.example.com"}, headers={"X-Tenant": "storefront"})
        description = "https://api.example.com is no audience of storefront"

        assert description == refusal(400, {"error_description": description}, of=attempt).error_description

    @pytest.mark.parametrize("field", ["access_token", "refresh_token", "id_token"])
    def test_echo_of_a_token(self, field: str) -> None:
        """A refusal that carries and quotes a token shows it nowhere."""
        error = refusal(400, {field: TOKEN, "title": "denied", "error_description": f"{TOKEN} is not for you"})

        assert ("[withheld]", "denied") == (error.error_description, error.title)
        assert TOKEN not in everything_of(error)

    @pytest.mark.parametrize("value", [b'"\\ud800"', b'""', b"5", b"[5]", b"true"])
    def test_token_that_is_no_text(self, value: bytes) -> None:
        """Invalid fields do not change the refusal."""
        assert "denied" == refusal(400, b'{"error": "denied", "access_token": %b}' % value).error
