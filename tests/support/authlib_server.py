"""Authlib's authorization server on Flask, on loopback, with one registered client."""

from __future__ import annotations

from contextlib import contextmanager
from hmac import compare_digest
from threading import Thread
from typing import TYPE_CHECKING, Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_ID = "app"
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
        query_client=lambda client_id: client if client_id == CLIENT_ID else None,
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
