"""Client authentication against the server of another project, Authlib."""

from __future__ import annotations

from contextlib import contextmanager
from hmac import compare_digest
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask
from joserfc import jwt
from joserfc.jwk import import_key
from werkzeug.serving import make_server

from simplestore_async import ClientCredentials, TokenEndpoint
from simplestore_async.client_authentication import ClientAssertion, PrivateKeyJwt
from simplestore_async.errors import InvalidClientError
from tests.support.keys import KINDS, pem_of, private_key, public_key
from tests.support.servers import SECRET as PUNCTUATION

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_CHARACTERS = f"{PUNCTUATION}%2B"  # without encoding its end would be decoded to "+"
ES256 = pem_of(private_key("ES256"))


async def request_token(issuer: str, **arguments: Any) -> str:
    credentials = ClientCredentials(client_id="app", token_url=f"{issuer}/token", **arguments)
    return str((await TokenEndpoint(credentials).request_token()).value)


ASSERTION: str = JWTBearerClientAssertion.CLIENT_AUTH_METHOD


class Client(ClientMixin):  # type: ignore[misc]  # untyped
    """A client that may authenticate by one method."""

    def __init__(self, method: str, *, secret: str = "", key: Any = None) -> None:
        self.method = method
        self.secret = secret
        self.key = key

    def check_client_secret(self, client_secret: str) -> bool:
        return compare_digest(self.secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method, endpoint) == (self.method, "token")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""


class Grant(ClientCredentialsGrant):  # type: ignore[misc]  # untyped
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", ASSERTION)


class Assertion(JWTBearerClientAssertion):  # type: ignore[misc]  # untyped
    """Client assertions for the issuer or its token endpoint, each accepted once."""

    def __init__(self, issuer: str) -> None:
        super().__init__()
        self.issuer = issuer
        self.seen: set[str] = set()

    def get_audiences(self) -> list[str]:
        return [self.issuer, f"{self.issuer}/token"]

    def validate_jti(self, claims: Any, jti: str) -> bool:
        is_new = jti not in self.seen
        self.seen.add(jti)
        return is_new

    def resolve_client_public_key(self, client: Client) -> Any:
        return client.key


@contextmanager
def authlib_server(client: Client) -> Iterator[tuple[str, list[str]]]:
    """Run the server with *client*; yield its issuer and the list of issued tokens."""
    issued: list[str] = []
    app = Flask(__name__)
    server = AuthorizationServer(
        app,
        query_client=lambda client_id: client if client_id == "app" else None,
        save_token=lambda token, request: issued.append(token["access_token"]),
    )
    server.register_grant(Grant)
    app.post("/token")(server.create_token_response)

    listener = make_server("127.0.0.1", 0, app)
    issuer = f"http://127.0.0.1:{listener.port}"
    server.register_client_auth_method(ASSERTION, Assertion(issuer))
    thread = Thread(target=listener.serve_forever, args=(0.01,), name="authlib-server")
    thread.start()
    try:
        yield issuer, issued
    finally:
        listener.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("method", "other"),
    [("client_secret_post", "client_secret_basic"), ("client_secret_basic", "client_secret_post")],
)
async def test_secret(method: Any, other: Any) -> None:
    """A secret of any characters is accepted in the form and in the header; another secret or place is refused."""
    with authlib_server(Client(method, secret=ANY_CHARACTERS)) as (issuer, issued):
        token = await request_token(issuer, client_secret=ANY_CHARACTERS, auth_method=method)
        for secret, way in ((f"{ANY_CHARACTERS}x", method), (ANY_CHARACTERS, other)):
            with pytest.raises(InvalidClientError):
                await request_token(issuer, client_secret=secret, auth_method=way)
        assert [token] == issued


async def test_private_key() -> None:
    """Repeated PrivateKeyJwt requests are accepted for either audience; a wrong key or audience is refused."""
    with authlib_server(Client(ASSERTION, key=public_key("ES256"))) as (issuer, issued):
        for audience in (issuer, issuer, f"{issuer}/token"):
            method = PrivateKeyJwt(ES256, audience=audience)
            assert await request_token(issuer, auth_method=method) == issued[-1]
        other_key = pem_of(private_key.__wrapped__("ES256"))  # of the same kind, and new
        for key, audience in ((other_key, issuer), (ES256, "https://other.example")):
            with pytest.raises(InvalidClientError):
                await request_token(issuer, auth_method=PrivateKeyJwt(key, audience=audience))
        assert 3 == len(set(issued)) == len(issued)


async def test_assertion() -> None:
    """A ClientAssertion made by another party, such as the platform of a workload, is accepted once."""

    def sign() -> str:
        claims = {"iss": "app", "sub": "app", "aud": issuer, "exp": 4_000_000_000, "jti": "from-elsewhere"}
        key = import_key(ES256, KINDS["ES256"])  # type: ignore[call-overload]
        return str(jwt.encode({"alg": "ES256"}, claims, key, algorithms=["ES256"]))

    with authlib_server(Client(ASSERTION, key=public_key("ES256"))) as (issuer, issued):
        token = await request_token(issuer, auth_method=ClientAssertion(sign))
        with pytest.raises(InvalidClientError):
            await request_token(issuer, auth_method=ClientAssertion(sign))
        assert [token] == issued
