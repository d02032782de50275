"""`simplestore_async._core.wire`: the form that is sent, and what each reply means."""

from __future__ import annotations

import base64
import codecs
import gzip
import html
import json
import re
import sys
import tracemalloc
import zlib
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from simplestore_async import ClientCredentials
from simplestore_async._core.redaction import RedactedStr
from simplestore_async._core.token import is_visible_ascii
from simplestore_async._core.wire import MAX_REPLY_BYTES, Exchange, Grant
from simplestore_async.errors import InvalidClientError, TokenEndpointError, TokenError, TokenResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECRET = "canary-Secret+&=%: \"\u00e9<~!*(')/?x"
TOKEN = "canary-token"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 5.6.7
MIB = 1 << 20

COPY_AGAIN = ". Client id or secret are not accepted: copy both again from the Control Panel"
GO_DIRECTLY = " (a redirect, which would carry the secret elsewhere): set SIMPLESTORE_TOKEN_URL to the address itself"

QUICK = settings(derandomize=True, max_examples=150, deadline=None)


def exchange(secret: str = SECRET, **changes: Any) -> Exchange:
    credentials = ClientCredentials(**{"client_id": "app", "client_secret": secret} | changes)
    return Exchange(credentials, RedactedStr(secret))


def parse(
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    now: float = NOW,
    of: Exchange | None = None,
) -> Grant | TokenError:
    return (of or exchange()).parse_reply(status, CIMultiDict(headers or {}), body, now=now)


def grant(payload: dict[str, Any] | bytes, headers: Mapping[str, str] | None = None, **options: Any) -> Grant:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    outcome = parse(200, body, headers, **options)
    assert isinstance(outcome, Grant), outcome
    return outcome


def no_grant(payload: dict[str, Any] | bytes, headers: Mapping[str, str] | None = None) -> TokenResponseError:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    outcome = parse(200, body, headers)
    assert type(outcome) is TokenResponseError, outcome
    return outcome


def refusal(status: int, payload: Any = b"", headers: Mapping[str, str] | None = None, **options: Any) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    outcome = parse(status, body, headers, **options)
    assert isinstance(outcome, TokenEndpointError), outcome
    return outcome


def everything_of(error: TokenError) -> str:
    return f"{error}\n{error!r}\n{error.args}\n{vars(error)}"


class TestRequest:
    # case 21
    def test_documented_form(self) -> None:
        """The form is the three documented fields and nothing else."""
        body = exchange("s3cret").build_body()

        assert b"grant_type=client_credentials&client_id=app&client_secret=s3cret" == body

    def test_headers(self) -> None:
        """The form is announced as such, JSON is asked for, uncompressed, on a connection of its own."""
        assert {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/x-www-form-urlencoded",
        } == exchange().build_headers()

    def test_scope_and_extra_parameters(self) -> None:
        """Scope and extra parameters follow the documented fields, in the order given."""
        fields = exchange(
            "s3cret", scope=["write", "read"], extra_parameters={"resource": "x y", "audience": "\u00e9"}
        ).build_body()

        assert (
            b"grant_type=client_credentials&client_id=app&client_secret=s3cret"
            b"&scope=write+read&resource=x+y&audience=%C3%A9"
        ) == fields

    # case 32
    @pytest.mark.parametrize("text", [SECRET, '+&=%: "\u00e9', "%41", "a\U0001f511b", "a b", "~"])
    def test_form_round_trip(self, text: str) -> None:
        """Id and secret arrive intact in the form, whatever they hold."""
        body = exchange(text, client_id=text).build_body()

        assert [("grant_type", "client_credentials"), ("client_id", text), ("client_secret", text)] == parse_qsl(
            body.decode("ascii"), strict_parsing=True
        )

    # case 32
    def test_basic(self) -> None:
        """With client_secret_basic id and secret are in the header, form-encoded before base64, and not in the form."""
        basic = exchange('a+b %:"\u00e9~', client_id="my app:x", auth_method="client_secret_basic")
        scheme, _, encoded = basic.build_headers()["Authorization"].partition(" ")

        assert "Basic" == scheme
        assert b"my%20app%3Ax:a%2Bb%20%25%3A%22%C3%A9~" == base64.b64decode(encoded, validate=True)
        assert b"grant_type=client_credentials" == basic.build_body()
        assert exchange().build_headers() == {
            name: value for name, value in basic.build_headers().items() if name != "Authorization"
        }

    # case 32
    @pytest.mark.parametrize("text", [SECRET, '+&=%: "\u00e9', "%41", "a\U0001f511b", ":", "/"])
    def test_basic_round_trip(self, text: str) -> None:
        """A server that decodes as RFC 6749 2.3.1 says, with or without a meaning for +, gets both intact."""
        header = exchange(text, client_id=text, auth_method="client_secret_basic").build_headers()["Authorization"]
        pair = base64.b64decode(header.removeprefix("Basic ")).decode("ascii")

        assert [text, text] == [unquote(part) for part in pair.split(":")]
        assert "+" not in pair

    def test_basic_is_redacted(self) -> None:
        """The Authorization header shows neither the secret nor its encoded form."""
        headers = exchange(auth_method="client_secret_basic").build_headers()

        assert "'Authorization': '***'" in repr(headers)
        assert headers["Authorization"].removeprefix("Basic ") not in repr(headers)

    def test_secret_is_not_shown(self) -> None:
        """The repr of an exchange leaves the secret out, even one that is an ordinary string."""
        credentials = exchange().credentials

        assert f"Exchange(credentials={credentials!r})" == repr(Exchange(credentials, SECRET))


class TestGrant:
    def test_documented_reply(self) -> None:
        """The documented 200 reply grants the token for its lifetime."""
        outcome = grant({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

        assert Grant(value=TOKEN, lifetime_seconds=3600.0, scope=()) == outcome
        assert "Grant(value='***', lifetime_seconds=3600.0, scope=())" == repr(outcome)

    # case 22
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ('"expires_in": 3600', 3600.0),
            ('"expires_in": "3600"', 3600.0),
            ('"expires_in": 3599.5', 3599.5),
            ('"expires_in": "3599.5"', 3599.5),
            ('"expires_in": 0.5', 0.5),
            ('"expires_in": "0.5"', 0.5),
            ('"expires_in": 1', 1.0),
            ('"expires_in": "007"', 7.0),
            ('"expires_in": 86399', 86_399.0),
            ('"expires_in": 86400', 86_400.0),
            ('"expires_in": 86401', 86_400.0),
            ('"expires_in": 86400.5', 86_400.0),
            ('"expires_in": 1000000000000', 86_400.0),
            ('"expires_in": 1e300', 86_400.0),
            (f'"expires_in": 1{"0" * 400}', 86_400.0),
            (f'"expires_in": "{"9" * 500}"', 86_400.0),
            ('"expires_in": null', 3600.0),
            ('"expires_in": null, "expiries_in": null', 3600.0),
            ('"other": 60', 3600.0),
            ('"expiries_in": 60', 60.0),
            ('"expiries_in": "60.5"', 60.5),
            ('"expiries_in": 1000000000000', 86_400.0),
            ('"expires_in": null, "expiries_in": 60', 60.0),
            ('"expires_in": 50, "expiries_in": 60', 50.0),
            ('"expiries_in": 60, "expires_in": 50', 50.0),
            ('"expires_in": 50, "expiries_in": null', 50.0),
            ('"expires_in": 50, "expiries_in": "soon"', 50.0),
            ('"expires_in": 50, "expiries_in": 0', 50.0),
        ],
        ids=lambda value: str(value)[:50],
    )
    def test_lifetime(self, fields: str, expected: float) -> None:
        """`expires_in` is read first, `expiries_in` where it is absent, 3600 s where both are; a day is the most."""
        lifetime = grant(f'{{"access_token": "{TOKEN}", {fields}}}'.encode()).lifetime_seconds

        assert expected == lifetime
        assert float is type(lifetime)

    # case 22
    @pytest.mark.parametrize("field", ["expires_in", "expiries_in"])
    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            *((value, "is not above 0: the token has expired already") for value in ("0", "-1", "-0.5", "0.0", '"0"')),
            (f"-1{'0' * 400}", "is not above 0: the token has expired already"),
            ('"0.00"', "is not above 0: the token has expired already"),
            *((value, "is not a finite number of seconds") for value in ("NaN", "Infinity", "-Infinity", "1e999")),
            *(
                (value, "is not a number of seconds")
                for value in (
                    "true",
                    "false",
                    '"soon"',
                    '""',
                    '" 60"',
                    '"60 "',
                    '"60\\n"',
                    '"+60"',
                    '"-60"',
                    '"1e3"',
                    '"60."',
                    '".5"',
                    '"6_0"',
                    '"\\u0666\\u0660"',
                    '"NaN"',
                    '"inf"',
                    "[]",
                    "[60]",
                    "{}",
                )
            ),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_no_lifetime(self, field: str, value: str, problem: str) -> None:
        """Anything else is no lifetime: the reply is no token, and may be one next time."""
        error = no_grant(f'{{"access_token": "{TOKEN}", "{field}": {value}}}'.encode())

        assert f"the token endpoint answered 200, but {field} {problem}." in str(error)
        assert error.retryable

    # case 23
    @pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR", None])
    def test_token_type(self, token_type: str | None) -> None:
        """`Bearer` is read whatever its case; null is as good as missing."""
        assert TOKEN == grant({"access_token": TOKEN, "token_type": token_type}).value

    # case 23
    def test_token_type_missing(self) -> None:
        """A reply without `token_type` is taken for a bearer token."""
        assert TOKEN == grant({"access_token": TOKEN}).value

    # case 23
    @pytest.mark.parametrize("token_type", ["DPoP", "mac", "", "Bearer ", "Bearer token", 5, True, ["Bearer"], {}])
    def test_other_token_type(self, token_type: object) -> None:
        """A token of another kind cannot be sent, so it is none."""
        error = no_grant({"access_token": TOKEN, "token_type": token_type})

        assert "but token_type is not Bearer, the only kind that this package sends." in str(error)
        assert error.retryable

    # case 24
    @pytest.mark.parametrize(
        ("payload", "problem"),
        [
            ({}, "access_token is missing"),
            ({"expires_in": 3600}, "access_token is missing"),
            *(
                ({"access_token": value}, "access_token is not a string")
                for value in (None, 5, 5.5, True, [TOKEN], {"value": TOKEN})
            ),
            *(
                ({"access_token": value}, "access_token is empty or holds characters that no bearer token has")
                for value in (
                    "",
                    f"{TOKEN}\r\nX-Evil: 1",
                    f"{TOKEN}\n",
                    f"{TOKEN} x",
                    f" {TOKEN}",
                    f"{TOKEN}\0",
                    f"{TOKEN}\u00e9",
                    f"{TOKEN}\ud800",
                )
            ),
        ],
        ids=lambda value: ascii(value)[:60],
    )
    def test_no_token(self, payload: dict[str, Any], problem: str) -> None:
        """What is no bearer token is an error that says so, without its text, and may be one next time."""
        error = no_grant(payload)

        assert f"answered 200, but {problem}" in str(error)
        assert "Is SIMPLESTORE_TOKEN_URL the token endpoint?" in str(error)
        assert "canary" not in everything_of(error)
        assert error.retryable

    def test_first_problem_is_told(self) -> None:
        """Of several wrong fields the first is named, and the values of none."""
        error = no_grant({"access_token": "canary x", "token_type": "canary", "expires_in": "canary"})

        assert "but access_token is empty or holds" in str(error)
        assert "canary" not in everything_of(error)

    # case 25
    @pytest.mark.parametrize(
        "extra",
        [
            {"refresh_token": "x", "id_token": 5, "x": None, "": []},
            {"error": None},
            {"error": ""},
            {"error_description": 5, "title": []},
        ],
        ids=str,
    )
    def test_other_fields(self, extra: dict[str, Any]) -> None:
        """Fields that say nothing about the token are ignored, an empty `error` among them."""
        assert TOKEN == grant({"access_token": TOKEN} | extra).value

    # case 25
    @pytest.mark.parametrize(
        "prefix_and_encoding",
        [(b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (b"", "utf-16"), (b"", "utf-32"), (b" \r\n", "utf-8")],
        ids=str,
    )
    def test_encodings_of_json(self, prefix_and_encoding: tuple[bytes, str]) -> None:
        """A byte order mark and UTF-16 are read, whatever the content type says."""
        prefix, encoding = prefix_and_encoding
        body = prefix + json.dumps({"access_token": TOKEN}).encode(encoding)

        assert TOKEN == grant(body, {"Content-Type": "text/plain; charset=latin-1"}).value

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
        ids=str,
    )
    def test_scope(self, payload: dict[str, Any], expected: tuple[str, ...]) -> None:
        """What was granted is what the reply says, else what was asked for (RFC 6749 5.1)."""
        outcome = grant({"access_token": TOKEN} | payload, of=exchange(scope=["asked", "for"]))

        assert expected == outcome.scope

    # case 28
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "it is not JSON"),
            (b"<html>canary</html>", "it is not JSON"),
            (b'{"access_token": "canary', "it is not JSON"),
            (b'{"access_token": "canary"', "it is not JSON"),
            (b"\xff\xfe\xff", "it is not JSON"),
            (b"\0\0\0", "it is not JSON"),
            (b"[" * 200_000, "it is not JSON"),
            (b'{"a":' * 200_000, "it is not JSON"),
            (b'{"expires_in": ' + b"9" * 5_000 + b"}", "it is not JSON"),
            (b"[]", "it is not a JSON object"),
            (b'["canary"]', "it is not a JSON object"),
            (b'"canary"', "it is not a JSON object"),
            (b"null", "it is not a JSON object"),
            (b"5", "it is not a JSON object"),
            (b" " * MIB + b" ", "it is longer than 1 MiB"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_no_json_object(self, body: bytes, problem: str) -> None:
        """A 200 that is no JSON object says what it is, not what it holds, and may be a token next time."""
        error = no_grant(body)

        assert f"No token: the token endpoint answered 200, but {problem}." in str(error)
        assert "canary" not in everything_of(error)
        assert error.retryable

    def test_longest_reply(self) -> None:
        """A reply of exactly 1 MiB is read."""
        body = json.dumps({"access_token": TOKEN}).encode().ljust(MIB)

        assert MIB == MAX_REPLY_BYTES
        assert TOKEN == grant(body).value

    @pytest.mark.parametrize("status", [100, 199, 201, 202, 204, 206, 299])
    def test_other_success(self, status: int) -> None:
        """Any other status below 300 is neither a token nor a refusal, and stays so, whatever the body."""
        for payload in ({"access_token": TOKEN}, {"error": "invalid_client"}):
            error = parse(status, json.dumps(payload).encode())

            assert TokenResponseError is type(error)
            assert isinstance(error, TokenResponseError)
            assert f"answered {status}, which is neither a token (200) nor a refusal" in str(error)
            assert "Is SIMPLESTORE_TOKEN_URL the token endpoint?" in str(error)
            assert not error.retryable


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


class TestContentEncoding:
    # case 32
    @pytest.mark.parametrize(
        ("name", "compress"),
        [
            ("identity", bytes),
            ("", bytes),
            ("gzip", gzip.compress),
            ("GZIP", gzip.compress),
            (" gzip ", gzip.compress),
            ("x-gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("deflate", _raw_deflate),
            ("Deflate", _raw_deflate),
        ],
    )
    def test_read(self, name: str, compress: Callable[[bytes], bytes]) -> None:
        """Servers compress though they were asked not to: gzip, zlib and raw deflate are read."""
        body = compress(json.dumps({"access_token": TOKEN}).encode())

        assert TOKEN == grant(body, {"Content-Encoding": name}).value

    @pytest.mark.parametrize(
        ("name", "body"),
        [
            ("br", b"\x0b\x02"),
            ("zstd", b"(\xb5/\xfd"),
            ("gzip, gzip", b"{}"),
            ("compress", b"{}"),
            ("gzip", b'{"access_token": "canary"}'),
            ("deflate", b"\xff\xff\xff"),
        ],
    )
    def test_unreadable(self, name: str, body: bytes) -> None:
        """An encoding that cannot be read says so, and a later reply may come without it."""
        error = no_grant(body, {"Content-Encoding": name})

        assert "but its Content-Encoding cannot be read." in str(error)
        assert error.retryable

    def test_cut_short(self) -> None:
        """A compressed reply that was cut is not JSON."""
        body = gzip.compress(json.dumps({"access_token": TOKEN * 1_000}).encode())

        assert "it is not JSON" in str(no_grant(body[: len(body) // 2], {"Content-Encoding": "gzip"}))

    @pytest.mark.parametrize(("length", "is_read"), [(MIB, True), (MIB + 1, False)])
    def test_longest_once_open(self, length: int, is_read: bool) -> None:
        """The limit of 1 MiB holds for what comes out."""
        body = gzip.compress(json.dumps({"access_token": TOKEN}).encode().ljust(length))
        outcome = parse(200, body, {"Content-Encoding": "gzip"})

        assert is_read == isinstance(outcome, Grant)
        assert is_read != ("it is longer than 1 MiB" in str(outcome))

    # case 27
    @pytest.mark.parametrize("status", [200, 400])
    @pytest.mark.parametrize(("name", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    def test_bomb(self, status: int, name: str, compress: Callable[[bytes], bytes]) -> None:
        """A reply that opens to a thousand times its size costs little more than the limit."""
        body = compress(bytes(16 * MIB))
        tracemalloc.start()
        try:
            outcome = parse(status, body, {"Content-Encoding": name})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert isinstance(outcome, TokenError)
        assert peak < 8 * MIB


class TestRefusal:
    # case 26
    @pytest.mark.parametrize("status", [400, 401])
    @pytest.mark.parametrize("title", [None, "Unknown client"])
    def test_invalid_client(self, status: int, title: str | None) -> None:
        """`invalid_client` is an InvalidClientError, terminal, with a readable title, and says where to copy from."""
        error = refusal(status, {"error": "invalid_client"} | ({"title": title} if title else {}))

        assert InvalidClientError is type(error)
        assert (status, "invalid_client", title) == (error.status, error.error, error.title)
        said = f"invalid_client, {title}" if title else "invalid_client"
        assert f"No token: the token endpoint answered {status} ({said}){COPY_AGAIN}" == str(error)
        assert not error.retryable

    @pytest.mark.parametrize("secret", ["client", "invalid_client", "i", "_"])
    def test_secret_that_is_part_of_the_code(self, secret: str) -> None:
        """`invalid_client` is an InvalidClientError even if the secret is a part of that word."""
        assert InvalidClientError is type(refusal(400, {"error": "invalid_client"}, of=exchange(secret)))

    # case 27
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 422, 429, 499, 500, 503, 599])
    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", {}),
            (b"<html>canary</html>", {}),
            (b'["canary"]', {}),
            (b'"canary"', {}),
            (b'{"error": ["canary"]}', {}),
            (b"\xff\xfe canary", {}),
            (b"canary" * 400_000, {}),
            (b'{"error": "invalid_client"}'.ljust(2 * MIB), {}),
            (b"[" * 200_000, {}),
            (b"canary", {"Content-Encoding": "br"}),
            (b"canary", {"Content-Encoding": "gzip"}),
        ],
        ids=["empty", "html", "list", "string", "odd", "binary", "long", "long JSON", "deep", "br", "no gzip"],
    )
    def test_any_body(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """A refusal is a TokenEndpointError with its status, whatever the body; the body is not repeated."""
        error = refusal(status, body, headers)

        assert TokenEndpointError is type(error)
        assert (status, None, None, None, None) == (
            error.status,
            error.error,
            error.error_description,
            error.title,
            error.retry_after,
        )
        assert str(error).startswith(f"No token: the token endpoint answered {status}")
        assert len(str(error)) < 200
        assert "canary" not in everything_of(error)

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            *((status, "") for status in (400, 402, 404, 408, 429, 500, 503)),
            *((status, COPY_AGAIN) for status in (401, 403)),
            # case 31
            *((status, GO_DIRECTLY) for status in (300, 301, 302, 303, 307, 308, 399)),
        ],
    )
    def test_what_to_do(self, status: int, advice: str) -> None:
        """The message says what to do: copy the credentials again (some servers send an empty 403), or set the URL."""
        error = refusal(status, b"", {"Location": "https://evil.example/canary"})

        assert f"No token: the token endpoint answered {status}{advice}" == str(error)
        assert status == error.status

    # case 31
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_redirect_is_terminal(self, status: int) -> None:
        """A redirect would be the same next time."""
        assert not refusal(status).retryable

    # case 25
    def test_error_with_status_200(self) -> None:
        """A 200 with an `error` member is a refusal, even with a token beside it; the token is not shown."""
        error = refusal(200, {"error": "access_denied", "access_token": TOKEN})

        assert TokenEndpointError is type(error)
        assert (200, "access_denied") == (error.status, error.error)
        assert "No token: the token endpoint answered 200 (access_denied)" == str(error)
        assert "canary" not in everything_of(error)

    def test_invalid_client_with_status_200(self) -> None:
        """`invalid_client` is what it is, whatever the status."""
        assert InvalidClientError is type(refusal(200, {"error": "invalid_client"}))

    def test_all_that_was_said(self) -> None:
        """Code, description and title are in the message, and each can be read."""
        error = refusal(400, {"error": "invalid_scope", "error_description": "No such scope", "title": "Wrong"})

        assert "No token: the token endpoint answered 400 (invalid_scope, No such scope, Wrong)" == str(error)
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
    @pytest.mark.parametrize("field", ["error", "error_description", "title"])
    def test_text_is_fit_to_be_shown(self, field: str, text: str, expected: str) -> None:
        """A server's text becomes one line without control characters, of 300 characters at most."""
        error = refusal(400, {field: text})

        assert expected == getattr(error, field)
        assert f"answered 400 ({expected})" in str(error) if expected else "(" not in str(error)


def _lower_hex(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), text)


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _percent(text: str) -> str:
    return quote(text, safe="")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SPELLINGS: dict[str, str] = {
    "plain": SECRET,
    "percent": quote(SECRET, safe=""),
    "percent, path": quote(SECRET),
    "percent, lower case": _lower_hex(quote(SECRET, safe="")),
    "percent, JavaScript": quote(SECRET, safe="!'()*~"),
    "percent, Latin-1": quote(SECRET, safe="", encoding="latin-1"),
    "form": quote_plus(SECRET),
    "form, lower case": _lower_hex(quote_plus(SECRET)),
    "form, browsers": quote_plus(SECRET, safe="*").replace("~", "%7E"),
    "JSON": _json(SECRET),
    "JSON, upper case": _json(SECRET).replace("\\u00e9", "\\u00E9"),
    "JSON, UTF-8": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "JSON, PHP": _json(SECRET).replace("/", "\\/"),
    "JSON, Go": json.dumps(SECRET, ensure_ascii=False)[1:-1].replace("&", "\\u0026").replace("<", "\\u003c"),
    "JSON, .NET": re.sub(r"[^\w\-:/=%~!*()? .]", lambda match: f"\\u{ord(match.group()):04X}", SECRET, flags=re.ASCII),
    "HTML": html.escape(SECRET),
    "HTML, no quotes": html.escape(SECRET, quote=False),
    "HTML, decimal": html.escape(SECRET).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    "HTML, PHP": html.escape(SECRET).replace("&#x27;", "&#039;"),
    "HTML, names": html.escape(SECRET).replace("&#x27;", "&apos;").replace("\u00e9", "&eacute;"),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64, no padding": base64.b64encode(SECRET.encode()).decode().rstrip("="),
    "base64, URL": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "Python": repr(SECRET)[1:-1],
    "read as Latin-1": SECRET.encode().decode("latin-1"),
}


class TestEcho:
    # case 56
    @pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
    def test_secret(self, spelling: str) -> None:
        """An endpoint that echoes the secret, in whatever spelling, does not get it into our error."""
        error = refusal(400, {"error": spelling, "error_description": f"bad {spelling} (app)", "title": f"{spelling}!"})

        assert ("***", "bad *** (app)", "***!") == (error.error, error.error_description, error.title)
        assert "No token: the token endpoint answered 400 (***, bad *** (app), ***!)" == str(error)

    # case 56
    @pytest.mark.parametrize("field", ["error", "error_description", "title"])
    def test_basic(self, field: str) -> None:
        """An endpoint that echoes the Authorization header does not get that into our error either."""
        basic = exchange(auth_method="client_secret_basic")
        header = str(basic.build_headers()["Authorization"])

        assert "got Basic *** here" == getattr(refusal(401, {field: f"got {header} here"}, of=basic), field)

    # case 56
    def test_repeated(self) -> None:
        """Every echo is taken out, before the text is cut to its length."""
        error = refusal(400, {"error_description": f"{SECRET} " * 20 + "x" * 400})

        assert ("*** " * 20 + "x" * 220 + "\u2026") == error.error_description

    # case 56
    def test_cut_in_two(self) -> None:
        """Cutting a long text leaves no beginning of the secret at its end."""
        error = refusal(400, {"error_description": "x" * 295 + SECRET})

        assert "x" * 295 + "***" == error.error_description

    # case 56
    def test_token(self) -> None:
        """A refusal that carries a token and speaks of it shows the token nowhere."""
        payload = {"error": "denied", "access_token": TOKEN, "error_description": f"{TOKEN} is not for you"}

        assert "canary" not in everything_of(refusal(200, payload))

    # case 56
    @pytest.mark.parametrize(
        "spell", [str, _percent, quote_plus, _json, html.escape, _base64], ids=lambda f: f.__name__
    )
    @pytest.mark.parametrize(
        "secret",
        ["a%25b%2541%", "a+b+ c", "&amp;&lt;&#38;", "\\\\u0041\\x41\\", "***", ".*|(a)", "\u20ac\U0001f511", "=="],
    )
    def test_secret_that_looks_encoded(self, secret: str, spell: Callable[[str], str]) -> None:
        """A secret that looks encoded itself is found all the same."""
        error = refusal(400, {"error_description": f"[{spell(secret)}]"}, of=exchange(secret))

        assert "[***]" == error.error_description

    @pytest.mark.parametrize(
        "payload",
        [
            {"error_description": f"{ALPHABET[:25]}\u2026 is wrong, so it is cut short"},
            {"error_description": f"{ALPHABET[:25]} " * 3},
            {"error_description": ALPHABET[:10] * 10_000},
            {"error": "x", "access_token": "ab+/" * 50_000},
            {"error": "x" * 300_000, "error_description": "0" * 300_000, "title": "%30" * 100_000},
        ],
        ids=["beginning", "beginnings", "short beginnings", "token", "long"],
    )
    def test_costs_little(self, payload: dict[str, str]) -> None:
        """No reply, however it is made, holds up the event loop: the search for the secret takes few steps."""
        steps = 0

        def count(*_: object) -> None:
            nonlocal steps
            steps += 1

        of = exchange(ALPHABET[:26])
        sys.setprofile(count)
        try:
            refusal(400, payload, of=of)
        finally:
            sys.setprofile(None)

        assert steps < 100_000

    @pytest.mark.parametrize("value", [b'"\\ud800"', b'""', b"5", b"[5]", b"true"])
    def test_token_that_is_no_text(self, value: bytes) -> None:
        """Where a token might be, what cannot be one is no reason to fail otherwise than the reply says."""
        assert "denied" == refusal(400, b'{"error": "denied", "access_token": %b}' % value).error


class TestRetryAfter:
    # case 29
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("0", 0.0),
            ("1", 1.0),
            ("120", 120.0),
            (" 120 ", 120.0),
            ("1.5", 1.5),
            ("3600", 3600.0),
            ("31536000", 31_536_000.0),
            ("31536001", 31_536_000.0),
            ("9" * 400, 31_536_000.0),
            (formatdate(NOW + 30, usegmt=True), 30.0),
            ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
            ("Sun Nov  6 08:50:07 1994", 30.0),
            ("Sun, 06 Nov 1994 08:50:07 -0000", 30.0),
            ("Sun, 06 Nov 1994 09:50:07 +0100", 30.0),
            (formatdate(NOW, usegmt=True), 0.0),
            (formatdate(NOW - 30, usegmt=True), 0.0),
            (formatdate(NOW + 10**9, usegmt=True), 31_536_000.0),
        ],
    )
    def test_read(self, value: str, expected: float) -> None:
        """Retry-After is seconds or a date in any of HTTP's three forms; a past date is now (RFC 9110 10.2.3)."""
        assert expected == refusal(503, b"", {"Retry-After": value}).retry_after

    # case 29
    @pytest.mark.parametrize(
        "value",
        [
            "",
            " ",
            "soon",
            "-1",
            "+5",
            "1e3",
            "1.",
            "0\x1f",
            "\u0663",
            "NaN",
            "inf",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +9999",
            f"Sun, 06 Nov 1994 08:49:37 +{'9' * 30}",
            f"Sun, 06 Nov {'9' * 5_000} 08:49:37 GMT",
        ],
        ids=lambda value: ascii(value)[:40],
    )
    def test_unreadable(self, value: str) -> None:
        """What is neither is ignored."""
        assert refusal(503, b"", {"Retry-After": value}).retry_after is None

    def test_absent(self) -> None:
        """Without the header nothing was asked for."""
        assert refusal(503, b"", {"Date": formatdate(NOW, usegmt=True)}).retry_after is None

    # case 29
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
    def test_date_by_the_clock_of_the_server(self, date: str, expected: float) -> None:
        """A date is compared with the reply's own Date, so that a wrong clock on either side does not matter."""
        headers = {"Retry-After": formatdate(NOW + 30, usegmt=True), "Date": date}

        assert expected == refusal(503, b"", headers).retry_after

    def test_seconds_ignore_the_date(self) -> None:
        """Seconds count from now, whatever Date says."""
        headers = {"Retry-After": "30", "Date": formatdate(NOW - 3600, usegmt=True)}

        assert 30.0 == refusal(503, b"", headers).retry_after

    @pytest.mark.parametrize("status", [302, 400, 401, 408, 429, 500, 503])
    def test_any_refusal(self, status: int) -> None:
        """Every refusal may ask for a pause."""
        assert 7.0 == refusal(status, {"error": "invalid_client"}, {"Retry-After": "7"}).retry_after

    def test_refusal_with_status_200(self) -> None:
        """A refusal with status 200 may ask for a pause, too."""
        assert 7.0 == refusal(200, {"error": "slow_down"}, {"retry-after": "7"}).retry_after


JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([SECRET, f"{SECRET} again", "invalid_client", "Bearer", TOKEN, 3600, "3600", "\ud800"])
)
JSON_VALUES = JSON_SCALARS | st.lists(JSON_SCALARS, max_size=2) | st.dictionaries(st.just("a"), JSON_SCALARS)
FIELD_NAMES = st.sampled_from(
    ["access_token", "token_type", "expires_in", "expiries_in", "scope", "error", "error_description", "title", "x"]
)
PAYLOADS = st.dictionaries(FIELD_NAMES, JSON_VALUES, max_size=6).map(lambda payload: json.dumps(payload).encode())
TOKENS = st.fixed_dictionaries(
    {"access_token": st.just(TOKEN)},
    optional={
        "token_type": st.sampled_from(["bearer", None, "mac"]),
        "expires_in": JSON_SCALARS,
        "scope": JSON_SCALARS,
    },
).map(lambda payload: json.dumps(payload).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Encoding", "Retry-After", "Date", "Location"]),
    st.sampled_from(["gzip", "deflate", "br", "5", SECRET, "Sun, 06 Nov 1994 08:49:37 GMT"]) | st.text(max_size=12),
)


class TestAnyReply:
    @QUICK
    @given(
        status=st.sampled_from([200, 200, 200, 400, 401, 500]) | st.integers(0, 999),
        headers=HEADERS,
        body=PAYLOADS | TOKENS | st.binary(max_size=40) | PAYLOADS.map(zlib.compress),
        auth_method=st.sampled_from(["client_secret_post", "client_secret_basic"]),
    )
    def test_grant_or_error(self, status: int, headers: dict[str, str], body: bytes, auth_method: str) -> None:
        """Any reply is a usable grant or a TokenError without the secret in it; never an exception."""
        outcome = parse(status, body, headers, of=exchange(auth_method=auth_method))

        if isinstance(outcome, Grant):
            assert 200 == status
            assert is_visible_ascii(outcome.value)
            assert 0 < outcome.lifetime_seconds <= 86_400
        else:
            assert isinstance(outcome, TokenError)
            assert "canary-Secret" not in everything_of(outcome)

    @QUICK
    @given(value=JSON_SCALARS | st.text("0123456789. -+eE", max_size=6))
    def test_lifetime(self, value: object) -> None:
        """Any `expires_in` gives a life above 0 s and up to a day, or no token."""
        body = json.dumps({"access_token": TOKEN, "expires_in": value}).encode()
        outcome = parse(200, body)

        if isinstance(outcome, Grant):
            assert 0 < outcome.lifetime_seconds <= 86_400
        else:
            assert TokenResponseError is type(outcome)

    @QUICK
    @given(
        value=st.text("0123456789 ,:+-.SunNovGMT", max_size=32) | st.text(max_size=8),
        date=st.none() | st.text("0123456789 ,:+-.SunNovGMT", max_size=32),
        now=st.floats(0, 1e11),
    )
    def test_retry_after(self, value: str, date: str | None, now: float) -> None:
        """Any Retry-After beside any Date is ignored, or is a pause between none and a year."""
        headers = {"Retry-After": value} | ({} if date is None else {"Date": date})
        retry_after = refusal(503, b"", headers, now=now).retry_after

        assert retry_after is None or 0 <= retry_after <= 31_536_000
