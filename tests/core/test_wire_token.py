"""The fields of a token response."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from simplestore_async import AccessToken
from simplestore_async.errors import TokenResponseError
from tests.support.exchanges import NOW, SECRET, TOKEN, everything_of, exchange, no_token, parse, token

NOT_VISIBLE = "access_token is empty or not visible ASCII"
EXPIRED = "is not above 0: the token has expired already"


class TestToken:
    def test_documented_response(self) -> None:
        """The documented response is parsed into a token whose lifetime starts at the request."""
        outcome = token({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

        assert AccessToken(TOKEN, issued_at=NOW, expires_at=NOW + 3600) == outcome
        assert TOKEN not in repr(outcome)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ('"expires_in": 3600', 3600.0),
            ('"expires_in": "3600"', 3600.0),
            ('"expires_in": 3599.5', 3599.5),
            ('"expires_in": "3599.5"', 3599.5),
            ('"expires_in": "007"', 7.0),
            ('"expires_in": 86400', 86_400.0),
            ('"expires_in": 86401', 86_400.0),
            ('"expires_in": 1000000000000', 86_400.0),
            (f'"expires_in": 1{"0" * 400}', 86_400.0),
            (f'"expires_in": "{"9" * 500}"', 86_400.0),
            ('"expires_in": " 3600 "', 3600.0),
            ('"expires_in": ""', 3600.0),
            ('"expires_in": 50, "expiries_in": ""', 50.0),
            ('"expires_in": null', 3600.0),
            ('"expires_in": null, "expiries_in": null', 3600.0),
            ('"other": 60', 3600.0),
            ('"expiries_in": 60', 60.0),
            ('"expiries_in": "60.5"', 60.5),
            ('"expires_in": null, "expiries_in": 60', 60.0),
            ('"expires_in": 50, "expiries_in": 60', 50.0),
            ('"expiries_in": 60, "expires_in": 50', 50.0),
            ('"expires_in": 50, "expiries_in": "soon"', 50.0),
            ('"expires_in": 50, "expiries_in": 0', 50.0),
        ],
    )
    def test_lifetime(self, fields: str, expected: float) -> None:
        """The lifetime is `expires_in`, else `expiries_in`, else 3600 s, and at most a day."""
        body = f'{{"access_token": "{TOKEN}", {fields}}}'.encode()

        assert expected == token(body, issued_at=0).expires_at

    @pytest.mark.parametrize("field", ["expires_in", "expiries_in"])
    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            *((value, EXPIRED) for value in ("0", "-1", "-0.5", "0.0", '"0"', '"0.00"', f"-1{'0' * 400}")),
            *((value, "is not a finite number of seconds") for value in ("NaN", "Infinity", "-Infinity", "1e999")),
            *((value, "is not a number of seconds") for value in ("true", "false", "[]", "[60]", "{}", '"soon"')),
            *((f'"{value}"', "is not a number of seconds") for value in ("6 0", "+60", "-60", "1e3", "60.", ".5")),
            *((f'"{value}"', "is not a number of seconds") for value in ("6_0", "\\u0666\\u0660", "NaN", "inf")),
        ],
    )
    def test_invalid_lifetime(self, field: str, value: str, problem: str) -> None:
        """Any other lifetime is an error, which is retryable only if the token has expired."""
        error = no_token(f'{{"access_token": "{TOKEN}", "{field}": {value}}}'.encode())

        assert f"token request failed: status 200, but {field} {problem}" == error.problem
        assert ("expired" in problem) == error.retryable

    @pytest.mark.parametrize(
        "token_type", ["Bearer", "BEARER", "bEaReR", " Bearer\t", "BearerToken", "bearertoken", "", " ", None]
    )
    def test_token_type(self, token_type: str | None) -> None:
        """`Bearer` and `BearerToken` are accepted in any case and with spaces around, and so are empty and null."""
        assert TOKEN == token({"access_token": TOKEN, "token_type": token_type}).value

    @pytest.mark.parametrize(
        "token_type",
        ["DPoP", "mac", "PoP", "N_A", "Bearer token", "Bearer,DPoP", "BearerTokens", 5, True, ["Bearer"], {}],
    )
    def test_other_token_type(self, token_type: object) -> None:
        """Any other token type is a terminal error."""
        error = no_token({"access_token": TOKEN, "token_type": token_type})

        assert error.problem.endswith("but token_type is not Bearer, the only supported type")
        assert not error.retryable

    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            *((payload, "access_token is missing") for payload in ({}, {"expires_in": 3600}, {"access_token": None})),
            *(({"access_token": value}, "access_token is not a string") for value in (5, True, [TOKEN], {"a": TOKEN})),
            *(({"access_token": value}, NOT_VISIBLE) for value in ("", f" {TOKEN}", f"{TOKEN} x", f"{TOKEN}\n")),
            *(({"access_token": f"{TOKEN}{character}"}, NOT_VISIBLE) for character in ("\0", "\u00e9", "\ud800")),
        ],
    )
    def test_no_token(self, payload: dict[str, Any], problem: str) -> None:
        """An invalid token is an error that does not show it, and only a missing token is retryable."""
        error = no_token(payload)

        assert problem in error.problem
        assert "SIMPLESTORE_TOKEN_URL" in error.hint
        assert "canary" not in everything_of(error)
        assert (payload.get("access_token") is None) == error.retryable

    def test_first_problem(self) -> None:
        """The first of several wrong fields is named, and no values are shown."""
        error = no_token({"access_token": "canary x", "token_type": "canary", "expires_in": "canary"})

        assert "but access_token is empty or not visible ASCII" in error.problem
        assert "canary" not in everything_of(error)

    @pytest.mark.parametrize(
        "extra",
        [
            {"refresh_token": "x", "id_token": 5, "x": None, "": []},
            {"error": None},
            {"error": ""},
            {"error_description": 5, "title": []},
        ],
    )
    def test_other_fields(self, extra: dict[str, Any]) -> None:
        """Unrelated fields and an empty `error` are ignored."""
        assert TOKEN == token({"access_token": TOKEN} | extra).value

    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            ({"scope": "read  write"}, ("read", "write")),
            ({"scope": "write read"}, ("write", "read")),
            ({"scope": ""}, ()),
            ({}, ("asked", "for")),
            ({"scope": None}, ("asked", "for")),
            ({"scope": ["read"]}, ("asked", "for")),
            ({"scope": 5}, ("asked", "for")),
        ],
    )
    def test_scope(self, payload: dict[str, Any], expected: tuple[str, ...]) -> None:
        """The scope is the granted one, or else the requested one (RFC 6749 §5.1)."""
        outcome = token({"access_token": TOKEN} | payload, of=exchange(scope=["asked", "for"]))

        assert expected == outcome.scope

    @pytest.mark.parametrize("scope", [SECRET, f"read {SECRET[:12]}", TOKEN, quote(SECRET)])
    def test_scope_that_echoes(self, scope: str) -> None:
        """A scope that may contain the secret or the token is ignored."""
        outcome = token({"access_token": TOKEN, "scope": scope}, of=exchange(scope="asked"))

        assert ("asked",) == outcome.scope

    def test_tiny_lifetime(self) -> None:
        """A lifetime below the clock's resolution counts as expired."""
        assert no_token({"access_token": TOKEN, "expires_in": 1e-300}).retryable

    @pytest.mark.parametrize("status", [200, 201, 206, 299])
    @pytest.mark.parametrize("value", [TOKEN, "Atza|IwEBIA", "00D5g!AQ.x", "a,b=c", "~"])
    def test_any_success(self, status: int, value: str) -> None:
        """Any visible ASCII token (RFC 6749 §A.12) is accepted with any status of success."""
        outcome = parse(status, {"access_token": value})

        assert isinstance(outcome, AccessToken)
        assert value == outcome.value

    @pytest.mark.parametrize("status", [100, 199, 201, 202, 204, 299])
    @pytest.mark.parametrize("body", [b"", b"<html>", b"{}"])
    def test_other_success(self, status: int, body: bytes) -> None:
        """A response below 300 other than 200 that contains no token is a terminal error."""
        error = parse(status, body)

        assert isinstance(error, TokenResponseError)
        assert f"token request failed: status {status}, but it" in error.problem or "missing" in error.problem
        assert not error.retryable
