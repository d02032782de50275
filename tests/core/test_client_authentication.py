"""Client authentication without a shared secret: requests, rotation and redaction."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PublicFormat,
)
from joserfc import jwt
from pydantic import SecretStr

from simplestore_async import ClientCredentials, SecretFile, TokenEndpoint
from simplestore_async.client_authentication import ClientAssertion, ClientAuthentication, PrivateKeyJwt
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenError
from tests.support.keys import KINDS, pem_of, private_key, public_key
from tests.support.servers import TokenServer
from tests.support.tls import client_context, loopback_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ISSUER = "https://issuer.example"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


RSA = private_key("RS256")
RSA_PEM = pem_of(RSA)


def credentials(server: TokenServer, method: Any, **changes: Any) -> ClientCredentials:
    return ClientCredentials(client_id="app", token_url=server.token_url, auth_method=method, **changes)


async def authenticate(method: Any) -> tuple[dict[str, str], dict[str, str], str]:
    """Return form, headers and secret of one attempt."""
    added = await ClientCredentials(client_id="app", auth_method=method).authenticate()
    assert added is not None
    return added


async def request_form(server: TokenServer, method: Any) -> dict[str, str]:
    await TokenEndpoint(credentials(server, method)).request_token()
    return server.requests[-1].form


def refusal(description: str = "") -> web.Response:
    return web.json_response({"error": "invalid_client", "error_description": description}, status=400)


def decode(assertion: str, algorithm: str = "RS256") -> Any:
    return jwt.decode(assertion, public_key(algorithm), algorithms=["PS256", *KINDS])


class TestClientAssertion:
    async def test_form(self, token_server: TokenServer) -> None:
        """The form contains client id, assertion and assertion type, and no secret (RFC 7523 §2.2)."""
        form = await request_form(token_server, ClientAssertion(lambda: "canary.assertion"))
        expected = {"client_id": "app", "client_assertion": "canary.assertion", "client_assertion_type": JWT_BEARER}
        assert {"grant_type": "client_credentials", **expected} == form

    async def test_each_attempt(self, token_server: TokenServer, quick: Any) -> None:
        """The assertion is read again for each attempt, in a worker thread."""
        threads: list[int] = []

        def read() -> str:
            threads.append(threading.get_ident())
            return f"canary.{len(threads)}"

        token_server.replies += [503, 503]
        endpoint = TokenEndpoint(credentials(token_server, ClientAssertion(read)), policy=quick)
        await endpoint.request_token()

        sent = [request.form["client_assertion"] for request in token_server.requests]
        assert ["canary.1", "canary.2", "canary.3"] == sent
        assert threading.get_ident() not in threads
        assert endpoint.credentials.has_dynamic_secret

    async def test_failure(self) -> None:
        """If the function raises, the error names the exception's type."""

        def read() -> str:
            raise RuntimeError("canary")

        with pytest.raises(TokenError, match="RuntimeError") as caught:
            await authenticate(ClientAssertion(read))
        assert ("secret-unavailable", True) == (caught.value.code, caught.value.retryable)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "assertion",
        ["canary.jwt", b"canary", 3, None, dict, lambda one: one],
        ids=["JWT", "bytes", "number", "None", "class", "one argument"],
    )
    def test_misuse(self, assertion: Any) -> None:
        """Anything but a function is refused, even a JWT."""
        with pytest.raises(ConfigurationError) as caught:
            ClientAssertion(assertion)
        assert "assertion" == caught.value.field
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "async", "secret value", "bytes"])
@pytest.mark.parametrize("method", [ClientAssertion, partial(PrivateKeyJwt, audience=ISSUER)], ids=["assertion", "key"])
async def test_sources(tmp_path: Path, method: Callable[[Any], Any], kind: str) -> None:
    """Assertion and key may come from a file or a function, async or not; a key also from text, bytes or SecretStr."""
    text = "canary.assertion" if method is ClientAssertion else RSA_PEM
    (path := tmp_path / "secret").write_text(f"{text}\n")

    async def read() -> SecretStr:
        return SecretStr(text)

    sources: dict[str, Any] = {"file": SecretFile(path), "async": read}
    sources |= {"secret value": SecretStr(text), "bytes": text.encode()}
    if method is ClientAssertion:
        sources |= {"secret value": lambda: SecretStr(text), "bytes": lambda: text}
    form, _, _ = await authenticate(method(sources[kind]))
    assertion = form["client_assertion"]

    assert text == assertion if method is ClientAssertion else "app" == decode(assertion).claims["iss"]


class TestPrivateKeyJwt:
    @pytest.mark.parametrize("name", KINDS)
    async def test_claims(self, name: str) -> None:
        """The JWT has the header and claims that the successor of RFC 7523 requires, and expires after 60 s."""
        form, _, _ = await authenticate(PrivateKeyJwt(pem_of(private_key(name)), audience=ISSUER, key_id="k1"))
        token = decode(form["client_assertion"], name)

        assert {"alg": name, "typ": "client-authentication+jwt", "kid": "k1"} == token.header
        claims = token.claims
        assert ("app", "app", ISSUER) == (claims["iss"], claims["sub"], claims["aud"])
        assert 60 == claims["exp"] - claims["iat"]
        assert JWT_BEARER == form["client_assertion_type"]

    async def test_rfc_7523(self) -> None:
        """Audience, type and algorithm can be chosen for RFC 7523 servers, and without `key_id` no kid is sent."""
        method = PrivateKeyJwt(RSA_PEM, audience="https://issuer.example/token", type="JWT", algorithm="PS256")
        form, _, _ = await authenticate(method)
        token = decode(form["client_assertion"])
        assert {"alg": "PS256", "typ": "JWT"} == token.header
        assert "https://issuer.example/token" == token.claims["aud"]

    async def test_each_attempt(self) -> None:
        """Each attempt has a new jti and the same secret, which changes with the key if that is read each time."""
        texts = iter([RSA_PEM, RSA_PEM, pem_of(private_key("ES256"))])
        dynamic, literal = PrivateKeyJwt(lambda: next(texts), audience=ISSUER), PrivateKeyJwt(RSA_PEM, audience=ISSUER)
        first, second, third = [await authenticate(dynamic) for _ in range(3)]

        tokens = [decode(first[0]["client_assertion"]), decode(second[0]["client_assertion"])]
        assert 2 == len({token.claims["jti"] for token in tokens})
        decode(third[0]["client_assertion"], "ES256")
        assert first[2] == second[2] != third[2]
        assert (True, False) == (dynamic.is_dynamic, literal.is_dynamic)

    @pytest.mark.parametrize(
        ("arguments", "field", "words"),
        [
            ({"key": ""}, "key", "is not a private key"),
            ({"key": 3}, "key", "must be PEM text"),
            ({"key": RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)}, "key", "is not a private key"),
            ({"key": pem_of(RSA, BestAvailableEncryption(b"canary"))}, "key", "encrypted"),
            ({"key": RSA_PEM[:200]}, "key", "cannot be used"),
            ({"key": pem_of(ec.generate_private_key(ec.SECP256K1()))}, "key", "must be RSA"),
            ({"key": pem_of(ed448.Ed448PrivateKey.generate())}, "key", "must be RSA"),
            ({"algorithm": "ES256"}, "key", "does not suit"),
            ({"algorithm": "none"}, "algorithm", "must be one of"),
            ({"algorithm": "HS256"}, "algorithm", "must be one of"),
            ({"algorithm": 5}, "algorithm", "got int"),
            ({"audience": ""}, "audience", "is empty"),
            ({"audience": ["a"]}, "audience", "got list"),
            ({"lifetime_seconds": 0}, "lifetime_seconds", "above 0"),
            ({"lifetime_seconds": 90_000}, "lifetime_seconds", "at most"),
            ({"key_id": 1}, "key_id", "got int"),
        ],
        ids=[
            *("empty key", "key of type int", "public key", "encrypted key", "cut key", "other curve", "Ed448"),
            *("key of another algorithm", "algorithm none", "HS256", "algorithm of type int"),
            *("empty audience", "audience of type list", "no lifetime", "long lifetime", "key id of type int"),
        ],
    )
    def test_misuse(self, arguments: dict[str, Any], field: str, words: str) -> None:
        """The constructor refuses a wrong argument without showing the key."""
        arguments = {"key": RSA_PEM, "audience": ISSUER} | arguments
        with pytest.raises(ConfigurationError, match=words) as caught:
            PrivateKeyJwt(arguments.pop("key"), **arguments)
        assert field == caught.value.field
        assert RSA_PEM[100:140] not in repr(caught.value)

    async def test_bad_key_later(self) -> None:
        """A key that turns out to be unusable when it is read raises a TokenError."""
        with pytest.raises(TokenError, match="cannot be used") as caught:
            await authenticate(PrivateKeyJwt(lambda: "-----BEGIN PRIVATE KEY-----", audience=ISSUER))
        assert "secret-unavailable" == caught.value.code

    def test_without_joserfc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If joserfc is not installed, the error names the extra that installs it."""
        monkeypatch.setitem(sys.modules, "joserfc", None)
        with pytest.raises(ImportError, match=r"simplestore-async\[jwt\]"):
            PrivateKeyJwt(RSA_PEM, audience=ISSUER)


class Custom:
    """A user-defined client authentication."""

    cache_key = "custom"
    is_dynamic = False

    def __init__(self, add: Callable[[dict[str, str], dict[str, str]], object]) -> None:
        self.add = add

    async def authenticate(self, *, client_id: str, token_url: str, form: Any, headers: Any) -> Any:
        return self.add(form, headers)


def raise_cancelled(_form: object, _headers: object) -> str:
    raise asyncio.CancelledError


class TestCustomAuthentication:
    async def test_form_and_headers(self, token_server: TokenServer) -> None:
        """A user-defined object can change the form and add headers."""

        def add(form: dict[str, str], headers: dict[str, str]) -> str:
            form["client_id"] = "other"
            headers["X-Signature"] = "canary-signature"
            return "canary-signature"

        assert isinstance(Custom(add), ClientAuthentication)
        form = await request_form(token_server, Custom(add))
        assert "other" == form["client_id"]
        assert "canary-signature" == token_server.requests[0].headers["X-Signature"]

    @pytest.mark.parametrize(
        ("add", "words"),
        [
            (lambda form, headers: form.update(grant_type="password") or "x", "must not set grant_type"),
            (lambda form, headers: None, "must return the secret"),
            (lambda form, headers: 1 / 0, "ZeroDivisionError"),
            (raise_cancelled, "CancelledError"),
        ],
        ids=["replaces a field", "no secret", "raises", "cancelled"],
    )
    async def test_failure(self, token_server: TokenServer, add: Any, words: str) -> None:
        """If the object raises, returns no secret or replaces a protocol field, nothing is sent."""
        with pytest.raises(TokenError, match=words):
            await request_form(token_server, Custom(add))
        assert not token_server.requests

    async def test_budget(self, token_server: TokenServer) -> None:
        """An authentication that never returns times out at the deadline."""

        async def never() -> str:
            await asyncio.Event().wait()
            return ""

        endpoint = TokenEndpoint(credentials(token_server, ClientAssertion(never)))
        with pytest.raises(TokenError, match="within the renewal's budget"):
            await endpoint.fetch(deadline=asyncio.get_running_loop().time() + 0.05, may_retry=lambda: True)

    def test_cache_key(self, token_server: TokenServer) -> None:
        """Each authentication method has its own cache key."""
        methods = ["none", ClientAssertion(lambda: ""), PrivateKeyJwt(RSA_PEM, audience=ISSUER), Custom(print)]
        keys = {credentials(token_server, method).cache_key for method in methods}
        keys |= {
            token_server.credentials(auth_method=name).cache_key
            for name in ("client_secret_post", "client_secret_basic")
        }
        assert 6 == len(keys)

    @pytest.mark.parametrize(
        "method", [ClientAssertion(lambda: "canary"), PrivateKeyJwt(RSA_PEM, audience=ISSUER)], ids=["assertion", "key"]
    )
    def test_shows_nothing(self, token_server: TokenServer, method: Any) -> None:
        """Methods show no secret, copy to themselves and cannot be pickled."""
        whole = credentials(token_server, method)
        shown = repr(method) + repr(whole) + repr(vars(method))
        assert "canary" not in shown
        assert RSA_PEM[100:140] not in shown
        assert method is copy.copy(method) is copy.deepcopy(method)
        for value in (method, whole):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(value)

    async def test_readable_refusal(self, token_server: TokenServer) -> None:
        """A large key does not suppress the server's description, and the hint does not mention a client secret."""
        token_server.replies += [refusal("unknown key id")]
        with pytest.raises(InvalidClientError, match="unknown key id") as caught:
            await request_form(token_server, PrivateKeyJwt(RSA_PEM, audience=ISSUER))
        assert "key, assertion or certificate" in caught.value.hint
        assert "secret" not in caught.value.hint


class TestMutualTls:
    async def test_certificate(self) -> None:
        """With "none" the form has only the client id, and the connection presents the certificate (RFC 8705 §2)."""
        async with TokenServer(ssl_context=loopback_context(needs_certificate=True)) as token_server:
            client = client_context("client.example")
            await TokenEndpoint(credentials(token_server, "none"), ssl=client).request_token()
            assert {"grant_type": "client_credentials", "client_id": "app"} == token_server.requests[0].form

            with pytest.raises(TokenError):
                await TokenEndpoint(credentials(token_server, "none"), ssl=client_context()).request_token()
            assert 1 == len(token_server.requests)

    def test_without_context(self) -> None:
        """`auth_method="none"` is refused without an `ssl` context."""
        with pytest.raises(ConfigurationError, match="load_cert_chain") as caught:
            TokenEndpoint(ClientCredentials(client_id="app", auth_method="none"))
        assert "ssl" == caught.value.field
