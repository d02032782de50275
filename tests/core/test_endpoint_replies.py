"""`TokenEndpoint`: what each reply and each failure of aiohttp becomes, as tables. No socket is opened.

`aioresponses` replaces `ClientSession._request`: what the wire itself does is in `test_endpoint.py`.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import zlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import aiohttp
import attrs
import pytest
from aioresponses import aioresponses
from yarl import URL

from simplestore_async import AccessToken, ClientCredentials, RenewalPolicy, TokenEndpoint
from simplestore_async.errors import (
    InvalidClientError,
    TokenEndpointError,
    TokenError,
    TokenResponseError,
    TokenTimeoutError,
    TokenTransportError,
)
from tests.support.servers import SECRET
from tests.support.virtual_wire import Reply, VirtualEndpoint
from tests.support.wire_faults import everything_shown, shows_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.clocks import FakeClock

TOKEN_URL = "https://auth.simplestore.io/connect/token"
"""The documented address, which is the default."""
VALUE = "canary-token"
HINT = ". Client id or secret are not accepted: copy both again from the Control Panel"
IS_IT_THE_ENDPOINT = "Is SIMPLESTORE_TOKEN_URL the token endpoint?"


@pytest.fixture
def network(aioresponses_of_any_version: None) -> Iterator[aioresponses]:
    with aioresponses() as network:
        yield network


@pytest.fixture
def endpoint(clock: FakeClock) -> TokenEndpoint:
    credentials = ClientCredentials(client_id="app", client_secret=SECRET)
    return TokenEndpoint(credentials, policy=RenewalPolicy(retry_seconds=0.001), clock=clock)


def posts(network: aioresponses) -> int:
    return len(network.requests[("POST", URL(TOKEN_URL))])


async def failure(endpoint: TokenEndpoint) -> TokenError:
    with pytest.raises(TokenError) as caught:
        await endpoint.request_token()
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
    assert not shows_secret(everything_shown(caught.value))
    assert VALUE not in everything_shown(caught.value)
    return caught.value


def grant(**changes: Any) -> bytes:
    """Return the documented reply with changes; ABSENT takes a member out."""
    members = {"access_token": VALUE, "expires_in": 3600, "token_type": "Bearer"} | changes
    return json.dumps({name: value for name, value in members.items() if value is not ABSENT}).encode()


ABSENT = object()
DOCUMENTED = grant()


class TestGranted:
    # case 21
    async def test_documented_reply(self, network: aioresponses, endpoint: TokenEndpoint) -> None:
        """The documented reply becomes a token that lives from the moment it was asked for."""
        network.post(TOKEN_URL, body=DOCUMENTED)
        token = await endpoint.request_token()

        assert AccessToken(VALUE, issued_at=1_700_000_000, expires_at=1_700_003_600) == token
        assert f"Bearer {VALUE}" == token.authorization
        assert 1 == posts(network)

    # case 22
    @pytest.mark.parametrize(
        ("members", "lifetime"),
        [
            ({"expires_in": 3600}, 3600),
            ({"expires_in": "3600"}, 3600),
            ({"expires_in": 3599.5}, 3599.5),
            ({"expires_in": "3599.5"}, 3599.5),
            ({"expires_in": 1}, 1),
            ({"expires_in": 0.5}, 0.5),
            ({"expires_in": ABSENT}, 3600),
            ({"expires_in": None}, 3600),
            ({"expires_in": ABSENT, "expiries_in": 60}, 60),
            ({"expires_in": None, "expiries_in": "60"}, 60),
            ({"expires_in": 120, "expiries_in": 60}, 120),
            ({"expires_in": 120, "expiries_in": None}, 120),
            ({"expires_in": None, "expiries_in": None}, 3600),
            ({"expires_in": 86_400}, 86_400),
            ({"expires_in": 86_401}, 86_400),
            ({"expires_in": 10**12}, 86_400),
            ({"expires_in": 10**400}, 86_400),
            ({"expires_in": "9" * 400}, 86_400),
        ],
    )
    async def test_lifetime(
        self, network: aioresponses, endpoint: TokenEndpoint, members: dict[str, Any], lifetime: float
    ) -> None:
        """A lifetime is `expires_in`, else `expiries_in`, else an hour, and at most a day."""
        network.post(TOKEN_URL, body=grant(**members))
        token = await endpoint.request_token()

        assert lifetime == token.expires_at - token.issued_at

    # case 23, case 25
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(grant(token_type="bearer"), id="lower case"),
            pytest.param(grant(token_type="BEARER"), id="upper case"),
            pytest.param(grant(token_type=ABSENT), id="no token_type"),
            pytest.param(grant(token_type=None), id="null token_type"),
            pytest.param(grant(scope=5), id="scope is no text"),
            pytest.param(grant(refresh_token="x", id_token=[1], nested={"a": {}}), id="unknown members"),
            pytest.param(grant(error=None), id="null error"),
            pytest.param(grant(error=""), id="empty error"),
            pytest.param(b"\xef\xbb\xbf" + DOCUMENTED, id="BOM"),
            pytest.param(DOCUMENTED.decode().encode("utf-16"), id="UTF-16"),
            pytest.param(b" \r\n" + DOCUMENTED + b"\n", id="white space"),
        ],
    )
    async def test_harmless_oddity(self, network: aioresponses, endpoint: TokenEndpoint, body: bytes) -> None:
        """What does not change the meaning of a reply is no error."""
        network.post(TOKEN_URL, body=body)

        assert AccessToken(VALUE, issued_at=1_700_000_000, expires_at=1_700_003_600) == await endpoint.request_token()

    @pytest.mark.parametrize(
        "content_type", ["text/html", "text/plain; charset=latin-1", "application/octet-stream", ""]
    )
    async def test_content_type(self, network: aioresponses, endpoint: TokenEndpoint, content_type: str) -> None:
        """The content type does not matter."""
        network.post(TOKEN_URL, body=DOCUMENTED, content_type=content_type)

        assert VALUE == (await endpoint.request_token()).value

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            pytest.param("gzip", gzip.compress(DOCUMENTED, mtime=0), id="gzip"),
            pytest.param("x-gzip", gzip.compress(DOCUMENTED, mtime=0), id="x-gzip"),
            pytest.param(" GZIP ", gzip.compress(DOCUMENTED, mtime=0), id="upper case"),
            pytest.param("deflate", zlib.compress(DOCUMENTED), id="deflate"),
            pytest.param("deflate", zlib.compress(DOCUMENTED, wbits=-15), id="raw deflate"),
            pytest.param("identity", DOCUMENTED, id="identity"),
            pytest.param("", DOCUMENTED, id="empty"),
        ],
    )
    async def test_encoding(self, network: aioresponses, endpoint: TokenEndpoint, encoding: str, body: bytes) -> None:
        """A reply that is compressed unasked is opened."""
        network.post(TOKEN_URL, body=body, headers={"Content-Encoding": encoding})

        assert VALUE == (await endpoint.request_token()).value


NO_TOKEN68 = "access_token is empty or holds characters that no bearer token has (RFC 6750 2.1)"
NO_NUMBER = "expires_in is not a number of seconds"
NOT_FINITE = "expires_in is not a finite number of seconds"
NOT_ABOVE_0 = "expires_in is not above 0: the token has expired already"
NO_BEARER = "token_type is not Bearer, the only kind that this package sends"

NO_TOKEN: list[Any] = [
    # case 24
    (grant(access_token=ABSENT), "access_token is missing"),
    (grant(access_token=None), "access_token is not a string"),
    (grant(access_token=5), "access_token is not a string"),
    (grant(access_token=[VALUE]), "access_token is not a string"),
    (grant(access_token=""), NO_TOKEN68),
    (grant(access_token=f"{VALUE}\r\nX: y"), NO_TOKEN68),
    (grant(access_token=f"{VALUE} x"), NO_TOKEN68),
    (grant(access_token=f"{VALUE}\n"), NO_TOKEN68),
    (grant(access_token=f"{VALUE}é"), NO_TOKEN68),
    # case 22
    (grant(expires_in=0), NOT_ABOVE_0),
    (grant(expires_in=-1), NOT_ABOVE_0),
    (grant(expires_in=0.0), NOT_ABOVE_0),
    (grant(expires_in="0"), NOT_ABOVE_0),
    (grant(expires_in="-1"), NO_NUMBER),
    (grant(expires_in="1e3"), NO_NUMBER),
    (grant(expires_in="١٢"), NO_NUMBER),
    (grant(expires_in="soon"), NO_NUMBER),
    (grant(expires_in=""), NO_NUMBER),
    (grant(expires_in=True), NO_NUMBER),
    (grant(expires_in=[3600]), NO_NUMBER),
    (grant(expires_in=float("nan")), NOT_FINITE),
    (grant(expires_in=float("inf")), NOT_FINITE),
    (grant(expires_in=ABSENT, expiries_in=0), f"expiries_in{NOT_ABOVE_0.removeprefix('expires_in')}"),
    # case 23
    (grant(token_type="DPoP"), NO_BEARER),
    (grant(token_type="mac"), NO_BEARER),
    (grant(token_type=5), NO_BEARER),
    (grant(token_type=""), NO_BEARER),
    # case 28
    (b"", "it is not JSON"),
    (b"<html>welcome</html>", "it is not JSON"),
    (DOCUMENTED[:-1], "it is not JSON"),
    (b"\xff\xfe\xfd", "it is not JSON"),
    (b'{"expires_in": %s}' % (b"9" * 5000), "it is not JSON"),
    (b'{"a":' * 20_000, "it is not JSON"),
    (b"[]", "it is not a JSON object"),
    (b"null", "it is not a JSON object"),
    (b'"canary-token"', "it is not a JSON object"),
    # Longer ones are in test_endpoint.py: aioresponses cannot reply with more than 128 KiB.
]


@attrs.frozen
class LongReply(Reply):
    """A reply that goes on for one byte after its body."""

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.body
        yield b" "


class TestNoToken:
    @pytest.mark.parametrize(("body", "problem"), NO_TOKEN)
    async def test_unusable(self, network: aioresponses, endpoint: TokenEndpoint, body: bytes, problem: str) -> None:
        """A 200 that is no token is tried three times, then a TokenResponseError that says what is wrong with it."""
        network.post(TOKEN_URL, body=body, repeat=True)
        error = await failure(endpoint)

        assert TokenResponseError is type(error)
        assert error.retryable
        assert f"No token: the token endpoint answered 200, but {problem}. {IS_IT_THE_ENDPOINT}" == str(error)
        assert 3 == posts(network)

    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
    async def test_unknown_encoding(self, network: aioresponses, endpoint: TokenEndpoint, encoding: str) -> None:
        """A reply in an encoding that nobody asked for is a TokenResponseError."""
        network.post(TOKEN_URL, body=DOCUMENTED, headers={"Content-Encoding": encoding}, repeat=True)

        assert f"answered 200, but its Content-Encoding cannot be read. {IS_IT_THE_ENDPOINT}" in str(
            await failure(endpoint)
        )

    @pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 299])
    async def test_other_success(self, network: aioresponses, endpoint: TokenEndpoint, status: int) -> None:
        """Any other 2xx is a TokenResponseError at once, even with a token inside."""
        network.post(TOKEN_URL, status=status, body=DOCUMENTED, repeat=True)
        error = await failure(endpoint)

        assert TokenResponseError is type(error)
        assert not error.retryable
        assert (
            f"No token: the token endpoint answered {status}, which is neither a token (200) nor a refusal. "
            f"{IS_IT_THE_ENDPOINT}" == str(error)
        )
        assert 1 == posts(network)

    # case 28
    async def test_one_byte_too_long(self, endpoint: TokenEndpoint) -> None:
        """The first byte beyond 1 MiB is too much, also if it comes alone."""

        async def answer() -> Reply:
            return LongReply(200, DOCUMENTED.ljust(1 << 20))

        error = await failure(VirtualEndpoint(endpoint.credentials, policy=endpoint.policy, answer=answer))

        assert f"answered 200, but it is longer than 1 MiB. {IS_IT_THE_ENDPOINT}" in str(error)

    async def test_one_good_reply(self, network: aioresponses, endpoint: TokenEndpoint) -> None:
        """Two replies that are no token and one that is: a token."""
        for body in (b"", b"<html>", DOCUMENTED):
            network.post(TOKEN_URL, body=body)

        assert VALUE == (await endpoint.request_token()).value
        assert 3 == posts(network)


@attrs.frozen
class Refusal:
    """A reply, and what is expected of it."""

    status: int
    body: Any
    message: str
    error: str | None = None
    error_description: str | None = None
    title: str | None = None
    kind: type[TokenEndpointError] = TokenEndpointError
    posts: int = 1
    headers: Mapping[str, str] = attrs.field(factory=dict)
    retry_after: float | None = None


INVALID = "invalid_client"

REFUSALS: list[Any] = [
    # case 26
    Refusal(400, {"error": INVALID}, f"400 ({INVALID}){HINT}", error=INVALID, kind=InvalidClientError),
    Refusal(
        400,
        {"error": INVALID, "title": "Unknown client"},
        f"400 ({INVALID}, Unknown client){HINT}",
        error=INVALID,
        title="Unknown client",
        kind=InvalidClientError,
    ),
    Refusal(
        401,
        {"error": INVALID, "error_description": "No such secret"},
        f"401 ({INVALID}, No such secret){HINT}",
        error=INVALID,
        error_description="No such secret",
        kind=InvalidClientError,
        headers={"WWW-Authenticate": "Basic"},
    ),
    # It stays terminal with a status that is passing otherwise.
    Refusal(500, {"error": INVALID}, f"500 ({INVALID}){HINT}", error=INVALID, kind=InvalidClientError),
    # case 25
    Refusal(200, {"error": INVALID}, f"200 ({INVALID}){HINT}", error=INVALID, kind=InvalidClientError),
    Refusal(200, {"error": "slow_down", "access_token": VALUE}, "200 (slow_down)", error="slow_down"),
    Refusal(200, {"error": 5}, "200"),
    Refusal(200, {"error": {"code": 5}, "title": "Sorry"}, "200 (Sorry)", title="Sorry"),
    Refusal(
        400,
        {"error": "invalid_scope", "error_description": "a", "title": "b", "error_uri": "c"},
        "400 (invalid_scope, a, b)",
        error="invalid_scope",
        error_description="a",
        title="b",
    ),
    Refusal(400, {"error": "unauthorized_client"}, "400 (unauthorized_client)", error="unauthorized_client"),
    Refusal(400, {"error": ["a"], "title": 5, "error_description": None}, "400"),
    # case 27
    Refusal(400, b"<html>no</html>", "400"),
    Refusal(400, b"", "400"),
    Refusal(400, b'["invalid_client"]', "400"),
    Refusal(400, b'{"a":' * 20_000, "400"),
    Refusal(400, zlib.compress(bytes(16 << 20)), "400", headers={"Content-Encoding": "deflate"}),
    Refusal(401, b"", f"401{HINT}"),
    Refusal(401, b"<html>no</html>", f"401{HINT}", headers={"WWW-Authenticate": "Bearer"}),
    Refusal(403, b"", f"403{HINT}"),
    Refusal(403, {"error": "access_denied"}, f"403 (access_denied){HINT}", error="access_denied"),
    Refusal(404, b"<html>not here</html>", "404"),
    Refusal(422, {"error": "invalid_request"}, "422 (invalid_request)", error="invalid_request"),
    Refusal(429, b"", "429", posts=3),
    Refusal(408, b"", "408", posts=3),
    Refusal(500, {"error": "server_error"}, "500 (server_error)", error="server_error", posts=3),
    Refusal(503, b"<html>busy</html>", "503", posts=3),
    Refusal(599, DOCUMENTED, "599", posts=3),
    # case 29
    Refusal(503, b"", "503", headers={"Retry-After": "3600"}, retry_after=3600),
    Refusal(429, b"", "429", headers={"Retry-After": " 31.5 "}, retry_after=31.5),
    Refusal(400, b"", "400", headers={"Retry-After": "7"}, retry_after=7),
    Refusal(503, b"", "503", headers={"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT"}, retry_after=60),
    Refusal(
        503,
        b"",
        "503",
        headers={"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT", "Date": "Tue, 14 Nov 2023 22:13:40 GMT"},
        retry_after=40,
    ),
    Refusal(
        503,
        b"",
        "503",
        headers={"Retry-After": "Tue, 14 Nov 2023 22:14:20 GMT", "Date": "today"},
        retry_after=60,
    ),
    Refusal(503, b"", "503", headers={"Retry-After": "Tue, 14 Nov 2023 22:13:19 GMT"}, retry_after=0, posts=3),
    Refusal(503, b"", "503", headers={"Retry-After": "9" * 400}, retry_after=31_536_000),
    Refusal(503, b"", "503", headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, retry_after=31_536_000),
    Refusal(503, b"", "503", headers={"Retry-After": "soon"}, posts=3),
    Refusal(503, b"", "503", headers={"Retry-After": "-1"}, posts=3),
    Refusal(503, b"", "503", headers={"Retry-After": ""}, posts=3),
    # case 56
    Refusal(
        400,
        {"error": f"bad {SECRET}", "error_description": f"secret={SECRET}\r\n", "title": SECRET * 2},
        "400 (bad ***, secret=***  , ******)",
        error="bad ***",
        error_description="secret=***  ",
        title="******",
    ),
    Refusal(
        400,
        {"error_description": "x" * 300, "title": "y" * 301},
        f"400 ({'x' * 300}, {'y' * 300}…)",
        error_description="x" * 300,
        title="y" * 300 + "…",
    ),
]


class TestRefused:
    @pytest.mark.parametrize("reply", REFUSALS)
    async def test_refusal(self, network: aioresponses, endpoint: TokenEndpoint, reply: Refusal) -> None:
        """A refusal becomes an error with the facts of the reply, after as many POSTs as its kind deserves."""
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        network.post(TOKEN_URL, status=reply.status, body=body, headers=dict(reply.headers), repeat=True)
        error = await failure(endpoint)

        assert reply.kind is type(error)
        facts = {field: getattr(error, field) for field in FACTS}
        assert {field: getattr(reply, field) for field in FACTS} == facts
        assert f"No token: the token endpoint answered {reply.message}" == str(error)
        is_passing = reply.status in {408, 429} or reply.status >= 500
        assert (is_passing and reply.kind is not InvalidClientError) == error.retryable
        assert reply.posts == posts(network)

    # case 31
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
    async def test_redirect(self, network: aioresponses, endpoint: TokenEndpoint, status: int) -> None:
        """A redirect is refused at once; a token inside it is none."""
        network.post(TOKEN_URL, status=status, body=DOCUMENTED, headers={"Location": f"{TOKEN_URL}/"}, repeat=True)
        error = await failure(endpoint)

        assert TokenEndpointError is type(error)
        assert isinstance(error, TokenEndpointError)
        assert (status, False) == (error.status, error.retryable)
        assert str(error).endswith("set SIMPLESTORE_TOKEN_URL to the address itself")
        assert 1 == posts(network)
        assert False is network.requests[("POST", URL(TOKEN_URL))][0].kwargs["allow_redirects"]


FACTS = ("status", "error", "error_description", "title", "retry_after")

INFO = aiohttp.RequestInfo(URL(TOKEN_URL), "POST", ANY, URL(TOKEN_URL))
KEY: Any = SimpleNamespace(host="token.example", port=443, ssl=True)  # of aiohttp's ConnectionKey, what it shows
CLOSED = "the connection was closed before the answer was complete"
EXPIRED = ssl.SSLCertVerificationError(1, "certificate verify failed")
EXPIRED.verify_message = "certificate has expired"


def broken_off(error: OSError) -> aiohttp.ClientOSError:
    """Return aiohttp's error for a request that could not be written to its end; its text holds the URL."""
    broken = aiohttp.ClientOSError(error.errno, f"Can not write request body for https://{SECRET}")
    broken.__cause__ = error
    return broken


class TestNoReply:
    @pytest.mark.parametrize(
        ("raised", "problem"),
        [
            (aiohttp.ServerDisconnectedError(SECRET), CLOSED),
            (aiohttp.ClientPayloadError(SECRET), CLOSED),
            (aiohttp.ClientResponseError(INFO, (), status=400, message=SECRET), "the answer is not HTTP"),
            (aiohttp.ClientHttpProxyError(INFO, (), status=407, message=SECRET), "the proxy answered 407"),
            (aiohttp.ClientOSError(104, "Connection reset by peer"), "Connection reset by peer"),
            (broken_off(ConnectionResetError(104, "Connection reset by peer")), "Connection reset by peer"),
            (broken_off(ConnectionResetError("Cannot write to closing transport")), CLOSED),
            (
                aiohttp.ClientConnectorError(KEY, OSError(111, "Connection refused")),
                "cannot connect to token.example:443 (Connection refused)",
            ),
            (
                aiohttp.ClientConnectorError(KEY, OSError(1, "Connect call failed ('203.0.113.1', 443)")),
                "cannot connect to token.example:443 (Operation not permitted)",
            ),
            (
                aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name or service not known")),
                "cannot connect to token.example:443 (Name or service not known)",
            ),
            (
                # macOS's number for it, which is ENOEXEC's too
                aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(8, "nodename nor servname provided")),
                "cannot connect to token.example:443 (nodename nor servname provided)",
            ),
            (
                aiohttp.ClientProxyConnectionError(KEY, OSError(113, "No route to host")),
                "cannot connect to the proxy token.example:443 (No route to host)",
            ),
            (
                aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError()),
                "cannot connect to token.example:443 (ClientConnectorSSLError)",
            ),
            (
                aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number")),
                "cannot connect to token.example:443 (wrong version number)",
            ),
            (OSError(28, "No space left on device"), "No space left on device"),
            (aiohttp.ClientConnectionError(SECRET), "unexpected ClientConnectionError"),
            (aiohttp.InvalidURL(f"https://{SECRET}"), "unexpected InvalidURL"),
            (ValueError(SECRET), "unexpected ValueError"),
            (RuntimeError(SECRET), "unexpected RuntimeError"),
        ],
    )
    async def test_passing(
        self, network: aioresponses, endpoint: TokenEndpoint, raised: Exception, problem: str
    ) -> None:
        """What aiohttp raises is tried again, then a TokenTransportError in words that no server wrote."""
        network.post(TOKEN_URL, exception=raised, repeat=True)
        error = await failure(endpoint)

        assert TokenTransportError is type(error)
        assert error.retryable
        assert f"No token: POST {TOKEN_URL} failed: {problem}" == str(error)
        assert 3 == posts(network)

    @pytest.mark.parametrize("kind", [TimeoutError, aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError])
    async def test_timeout(self, network: aioresponses, endpoint: TokenEndpoint, kind: type[Exception]) -> None:
        """A timeout of aiohttp's own is tried again, then a TokenTimeoutError, which is a TimeoutError."""
        network.post(TOKEN_URL, exception=kind(SECRET), repeat=True)
        error = await failure(endpoint)

        assert TokenTimeoutError is type(error)
        assert isinstance(error, TimeoutError)
        assert error.retryable
        assert 3 == posts(network)

    # case 30
    @pytest.mark.parametrize(
        ("raised", "reason"),
        [
            (EXPIRED, "certificate has expired"),
            (aiohttp.ClientConnectorCertificateError(KEY, EXPIRED), "certificate has expired"),
            (ssl.SSLCertVerificationError(SECRET), "SSLCertVerificationError"),
            (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError(SECRET)), "SSLCertVerificationError"),
            (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 443), "ServerFingerprintMismatch"),
        ],
    )
    async def test_certificate(
        self, network: aioresponses, endpoint: TokenEndpoint, raised: Exception, reason: str
    ) -> None:
        """A certificate that is not trusted is final, and the error says what to pass."""
        network.post(TOKEN_URL, exception=raised, repeat=True)
        error = await failure(endpoint)

        assert TokenTransportError is type(error)
        assert not error.retryable
        assert (
            f"No token: POST {TOKEN_URL} failed: its certificate is not trusted ({reason}). "
            "For a private CA pass ssl=ssl.create_default_context(cafile=…)" == str(error)
        )
        assert 1 == posts(network)
