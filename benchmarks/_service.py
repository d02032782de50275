"""Token endpoint and API of the benchmarks. Rule: the same response to every client.

Every peer has its own path, grant and authentication method, so any POST returns a token.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

import attrs
import trustme
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ._server import Server

_HOST = "127.0.0.1"
_API_REPLY = b'{"id": 42, "state": "shipped"}'


@attrs.define
class _Service:
    latency_seconds: float
    lifetime_seconds: int
    api_latency_seconds: float
    _tokens: int = attrs.field(init=False, default=0)
    _expiries: dict[str, float] = attrs.field(init=False, factory=dict)
    _released: asyncio.Semaphore = attrs.field(init=False, factory=lambda: asyncio.Semaphore(0))

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/count", self._count_tokens)
        app.router.add_get("/release", self._release)
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._discover)
        app.router.add_get("/.well-known/oauth-protected-resource/{path:.*}", self._describe_resource)
        app.router.add_get("/.well-known/oauth-authorization-server", self._describe_server)
        app.router.add_route("*", "/api/{path:.*}", self._serve_api_request)
        app.router.add_post("/{path:.*}", self._issue_token)
        return app

    async def _issue_token(self, _: web.Request) -> web.Response:
        self._tokens += 1
        if self.latency_seconds == math.inf:
            await self._released.acquire()
        else:
            await asyncio.sleep(self.latency_seconds)
        token = secrets.token_urlsafe(32)
        self._expiries[token] = time.monotonic() + self.lifetime_seconds
        reply = {"access_token": token, "expires_in": self.lifetime_seconds, "token_type": "Bearer"}
        return web.json_response(reply, headers={"Cache-Control": "no-store"})

    async def _serve_api_request(self, request: web.Request) -> web.Response:
        if self.api_latency_seconds:
            await asyncio.sleep(self.api_latency_seconds)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and time.monotonic() < self._expiries.get(token, 0):
            return web.Response(body=_API_REPLY, content_type="application/json")
        return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})

    async def _discover(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}/{request.match_info['tenant']}"
        # OpenID Connect Discovery 3: the fields that httpx-oauth2-flows reads.
        endpoints = {f"{name}_endpoint": f"{root}/oauth2/v2.0/{name}" for name in ("authorization", "token")}
        methods = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
        return web.json_response({"issuer": f"{root}/v2.0", **endpoints, **methods})

    async def _describe_resource(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}"  # RFC 9728, for mcp
        resource = f"{root}/{request.match_info['path']}"
        return web.json_response({"resource": resource, "authorization_servers": [f"{root}/"]})

    async def _describe_server(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}"  # RFC 8414, for mcp
        endpoints = {f"{name}_endpoint": f"{root}/connect/{name}" for name in ("authorization", "token")}
        types = {"response_types_supported": ["code"], "grant_types_supported": ["client_credentials"]}
        return web.json_response({"issuer": f"{root}/", **endpoints, **types})

    async def _release(self, _: web.Request) -> web.Response:
        self._released.release()
        return web.Response()

    async def _count_tokens(self, _: web.Request) -> web.Response:
        return web.Response(text=str(self._tokens))


def _write_service_account(path: Path, *, token_uri: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "benchmark",
        "private_key_id": "benchmark",
        "private_key": encoded.decode(),
        "client_email": "benchmark@benchmark.invalid",
        "client_id": "benchmark",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account), encoding="utf-8")


async def _listen(runner: web.AppRunner, context: ssl.SSLContext | None = None) -> str:
    # Thousands of tasks connect at once; a full backlog would delay each by a second.
    listener = socket.create_server((_HOST, 0), backlog=1024)
    await web.SockSite(runner, listener, ssl_context=context, backlog=1024).start()
    return f"{'https' if context else 'http'}://{_HOST}:{listener.getsockname()[1]}"


async def _serve(service: _Service) -> None:
    with tempfile.TemporaryDirectory() as directory:
        authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(_HOST).configure_cert(context)
        ca_file, service_account_file = Path(directory, "ca.pem"), Path(directory, "service-account.json")
        authority.cert_pem.write_to_path(str(ca_file))
        runner = web.AppRunner(service.build(), access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        root, https_root = await _listen(runner), await _listen(runner, context)
        _write_service_account(service_account_file, token_uri=f"{root}/token")
        server = Server(root, https_root, str(ca_file), str(service_account_file))
        sys.stdout.write(f"{json.dumps(attrs.asdict(server))}\n")
        sys.stdout.flush()
        # The end of the pipe means that the client has closed it, or ended.
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})  # the client's core is the last
    asyncio.run(_serve(_Service(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
