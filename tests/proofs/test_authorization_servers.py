"""Client authentication against other projects' servers: oidc-provider on Node.js and Authlib."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from contextlib import asynccontextmanager, contextmanager
from hmac import compare_digest
from pathlib import Path
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
from tests.support.tls import authority, client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

SERVER = Path(__file__).parents[1] / "support" / "oidc_provider.mjs"
PROVIDER = "oidc-provider@9.13.3"
SECRET = "canary-secret-of-more-than-thirty-two-characters"
ANY_CHARACTERS = f"{PUNCTUATION}%2B"  # without encoding its end would be decoded to "+"
ALGORITHMS = ["RS256", "ES256", "Ed25519"]


def pem(algorithm: str) -> str:
    return pem_of(private_key(algorithm))


def public_jwk(algorithm: str) -> dict[str, Any]:
    return {**public_key(algorithm).as_dict(), "kid": "k1", "alg": algorithm}


@pytest.fixture(scope="session")
def oidc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with oidc-provider; the only place where these tests are skipped."""
    if (npm := shutil.which("npm")) is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    directory = tmp_path_factory.mktemp("oidc-provider")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", PROVIDER]
    installed = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode:
        pytest.skip(f"npm cannot install {PROVIDER}")
    shutil.copy(SERVER, directory)
    return directory


@asynccontextmanager
async def oidc_provider(
    directory: Path, client: dict[str, Any], tls: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """Run oidc-provider with one client; yield its issuer."""
    settings = json.dumps({"client": {"client_id": "app", **client}, "tls": tls})
    process = await asyncio.create_subprocess_exec(
        "node", SERVER.name, settings, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield json.loads(line)["issuer"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process.stdout.feed_eof()


async def request_token(issuer: str, ssl_context: ssl.SSLContext | None = None, **arguments: Any) -> str:
    credentials = ClientCredentials(client_id="app", token_url=f"{issuer}/token", **arguments)
    token = await TokenEndpoint(credentials, ssl=ssl_context).request_token()
    assert token.value
    return token.value


@pytest.mark.slow
class TestOidcProvider:
    @pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
    async def test_secret(self, oidc_folder: Path, method: Any) -> None:
        """The secret is accepted in the form and in the header, and another one is refused."""
        client = {"client_secret": SECRET, "token_endpoint_auth_method": method}
        async with oidc_provider(oidc_folder, client) as issuer:
            await request_token(issuer, client_secret=SECRET, auth_method=method)
            with pytest.raises(InvalidClientError):
                await request_token(issuer, client_secret="other", auth_method=method)

    @pytest.mark.parametrize("name", ALGORITHMS)
    async def test_private_key(self, oidc_folder: Path, name: str) -> None:
        """Repeated PrivateKeyJwt requests are accepted with each kind of key; a wrong key or audience is refused."""
        client = {
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": name,
            "jwks": {"keys": [public_jwk(name)]},
        }
        key = pem(name)
        async with oidc_provider(oidc_folder, client) as issuer:
            method = PrivateKeyJwt(key, audience=issuer, key_id="k1")
            for _ in range(3):
                await request_token(issuer, auth_method=method)
            # RFC 7523 §3 also permits the URL of the endpoint.
            old = PrivateKeyJwt(key, audience=f"{issuer}/token", type="JWT")
            await request_token(issuer, auth_method=old)

            other = "RS256" if name != "RS256" else "ES256"
            for wrong in (
                PrivateKeyJwt(pem(other), audience=issuer),
                PrivateKeyJwt(key, audience="https://other.example"),
            ):
                with pytest.raises(InvalidClientError):
                    await request_token(issuer, auth_method=wrong)

    async def test_certificate(self, oidc_folder: Path, tmp_path: Path) -> None:
        """The certificate of the SSL context is accepted (RFC 8705 §2.1), and one with another name is refused."""
        server = authority().issue_cert("127.0.0.1")
        server.private_key_pem.write_to_path(tmp_path / "key.pem")
        server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        authority().cert_pem.write_to_path(tmp_path / "ca.pem")
        tls = {name: str(tmp_path / f"{name}.pem") for name in ("key", "cert", "ca")}
        client = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "app.example"}
        async with oidc_provider(oidc_folder, client, tls) as issuer:
            await request_token(issuer, client_context("app.example"), auth_method="none")
            with pytest.raises(InvalidClientError):
                await request_token(issuer, client_context("other.example"), auth_method="none")


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


kinds = pytest.mark.parametrize("name", ["ES256", pytest.param("RS256", marks=pytest.mark.slow)])


class TestAuthlib:
    @pytest.mark.parametrize(
        ("method", "other"),
        [("client_secret_post", "client_secret_basic"), ("client_secret_basic", "client_secret_post")],
    )
    async def test_secret(self, method: Any, other: Any) -> None:
        """A secret of any characters is accepted in the form and in the header; another secret or place is refused."""
        with authlib_server(Client(method, secret=ANY_CHARACTERS)) as (issuer, issued):
            token = await request_token(issuer, client_secret=ANY_CHARACTERS, auth_method=method)
            assert [token] == issued
            for secret, way in ((f"{ANY_CHARACTERS}x", method), (ANY_CHARACTERS, other)):
                with pytest.raises(InvalidClientError):
                    await request_token(issuer, client_secret=secret, auth_method=way)
            assert [token] == issued

    @kinds
    async def test_private_key(self, name: str) -> None:
        """Repeated PrivateKeyJwt requests are accepted for either audience; a wrong key or audience is refused."""
        with authlib_server(Client(ASSERTION, key=public_key(name))) as (issuer, issued):
            for audience in (issuer, issuer, f"{issuer}/token"):
                method = PrivateKeyJwt(pem(name), audience=audience)
                assert await request_token(issuer, auth_method=method) == issued[-1]
            assert 3 == len(set(issued))

            other_key = pem_of(private_key.__wrapped__(name))  # of the same kind, and new
            for wrong in (
                PrivateKeyJwt(other_key, audience=issuer),
                PrivateKeyJwt(pem(name), audience="https://other.example"),
            ):
                with pytest.raises(InvalidClientError):
                    await request_token(issuer, auth_method=wrong)
            assert 3 == len(issued)

    @kinds
    async def test_assertion(self, name: str) -> None:
        """A ClientAssertion made by another party is accepted once."""
        with authlib_server(Client(ASSERTION, key=public_key(name))) as (issuer, issued):
            method = ClientAssertion(make(name, issuer))
            token = await request_token(issuer, auth_method=method)
            with pytest.raises(InvalidClientError):
                await request_token(issuer, auth_method=method)
            assert [token] == issued


def make(name: str, issuer: str) -> Any:
    """Return a function that signs an assertion, as the platform of a workload does."""

    def sign() -> str:
        claims = {"iss": "app", "sub": "app", "aud": issuer, "exp": 4_000_000_000, "jti": "from-elsewhere"}
        key = import_key(pem(name), KINDS[name])  # type: ignore[call-overload]
        return jwt.encode({"alg": name}, claims, key, algorithms=[name])

    return sign
