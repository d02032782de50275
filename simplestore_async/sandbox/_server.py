"""The sandbox's HTTP side, and the thread it may run in. Rule: loopback only."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import attrs
from aiohttp import web

from simplestore_async._core.clock import Clock
from simplestore_async.errors import ConfigurationError

from ._endpoint import SandboxApi, SandboxEndpoint
from ._faults import RejectedToken, number
from ._recorded import mask_form
from ._responses import (
    canned_response,
    deliver,
    echo_response,
    refusal_response,
    replacement_response,
    token_response,
    unauthorized_response,
)
from ._state import Clients, Counters, Tokens
from ._token_request import Refusal, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ._faults import Fault
    from ._sandbox import Sandbox

__all__ = ["API_PATH", "TOKEN_PATH", "Server", "ServerThread"]

TOKEN_PATH: Final = "/connect/token"  # noqa: S105 - not a secret
API_PATH: Final = "/api/"

_HOST: Final = "127.0.0.1"
# For handlers that are still busy when the sandbox closes; aiohttp takes zero for "no limit".
_SHUTDOWN_SECONDS: Final = 0.05


@attrs.define(kw_only=True, eq=False)
class Server:
    """Serve the token endpoint and the API on one event loop. Other threads may change them meanwhile.

    Attributes:
        root: the URL without a path while it runs, else None.
    """

    clock: Clock
    port: int = attrs.field(validator=number(at_least=0, at_most=65_535, is_whole=True))
    lifetime_seconds: int = attrs.field(validator=number(at_least=1, is_whole=True))
    latency_seconds: float = attrs.field(validator=number(at_least=0))
    ssl_context: ssl.SSLContext | None
    clients: Clients = attrs.field(init=False, factory=Clients)
    tokens: Tokens = attrs.field(init=False)
    token_endpoint: SandboxEndpoint = attrs.field(init=False)
    api: SandboxApi = attrs.field(init=False)
    root: str | None = attrs.field(init=False, default=None)
    _counts: Counter[str] = attrs.field(init=False, factory=Counter[str])
    _runner: web.AppRunner | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        numbers = count(1)
        self.tokens = Tokens(self.clock)
        self.token_endpoint = SandboxEndpoint(clock=self.clock, numbers=numbers)
        self.api = SandboxApi(clock=self.clock, numbers=numbers)

    @property
    def counters(self) -> Counters:
        """The counters as they are now."""
        return Counters(**self._counts)

    async def start(self) -> None:
        """Serve.

        Raises:
            RuntimeError: if it runs already.
            ConfigurationError: if the port cannot be opened.
        """
        if self._runner is not None:
            raise RuntimeError("the Sandbox is already running; make a second one, or leave the first context")
        app = web.Application(client_max_size=0)  # no limit
        app.router.add_route("*", TOKEN_PATH, self._handle_token_request)
        app.router.add_route("*", API_PATH + "{tail:.*}", self._handle_api_request)
        # A client that disconnects ends its handler, which might otherwise outlive the sandbox.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            # A batch job connects from thousands of tasks at once; a full backlog would delay each by a second.
            await web.TCPSite(runner, _HOST, self.port, backlog=1024, ssl_context=self.ssl_context).start()
        except BaseException as error:
            await runner.cleanup()
            if self.port and isinstance(error, OSError):
                raise ConfigurationError(
                    "port", f"{self.port} is in use or not permitted", hint="choose another, or 0 for any free port"
                ) from error
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.root = f"{'https' if self.ssl_context else 'http'}://{host}:{port}"

    async def stop(self) -> None:
        """Drop every connection and release the port."""
        if self._runner is not None:
            runner, self._runner, self.root = self._runner, None, None
            await runner.cleanup()

    async def _handle_token_request(self, request: web.Request) -> web.StreamResponse:
        self._counts["token_requests"] += 1
        body = await request.read()
        verdict = TokenRequest(
            method=request.method,
            query=request.query_string,
            content_type=request.content_type,
            authorization=request.headers.get("Authorization"),
            body=body,
        ).judge(self.clients)
        endpoint = self.token_endpoint
        fault = endpoint.draw_fault()
        response = replacement_response(fault)
        token = None
        if response is not None:
            self._counts["failures"] += 1
        elif isinstance(verdict, Refusal):
            self._counts["refusals"] += 1
            response = refusal_response(verdict)
        else:
            self._counts["tokens_issued"] += 1
            lifetime_seconds = self.lifetime_seconds
            value, token = self.tokens.issue(verdict.client_id, lifetime_seconds=lifetime_seconds)
            response = token_response(value, expires_in=lifetime_seconds)
        endpoint.record(request, response, fault, body=mask_form(body), client_id=verdict.client_id, token=token)
        await endpoint.wait_for_release()
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        return await deliver(response, request, fault)

    async def _handle_api_request(self, request: web.Request) -> web.StreamResponse:
        self._counts["api_requests"] += 1
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        token = self.tokens.find(value) if is_bearer else None
        is_valid = token is not None and self.tokens.is_valid(token)
        fault = self.api.draw_fault()
        response, body = await self._choose_api_response(request, fault, is_valid=is_valid, is_bearer=is_bearer)
        client_id = token.client_id if token else None
        self.api.record(request, response, fault, body=body, client_id=client_id, token=token)
        await self.api.wait_for_release()
        return response if fault is None else await deliver(response, request, fault)

    async def _choose_api_response(
        self, request: web.Request, fault: Fault | None, *, is_valid: bool, is_bearer: bool
    ) -> tuple[web.StreamResponse, bytes]:
        """Return the response, and the body if that was read."""
        replacement = replacement_response(fault)
        if replacement is not None:
            self._counts["api_failures"] += 1
            return replacement, b""
        route, is_public = self.api.find_route(request.method, request.match_info["tail"])
        if isinstance(fault, RejectedToken) or not (is_valid or is_public):
            self._counts["unauthorized"] += 1
            rejection = self.api.rejection
            return canned_response(rejection) if rejection else unauthorized_response(has_token=is_bearer), b""
        if callable(route):
            return await route(request), b""
        body = await request.read()
        return canned_response(route) if route else echo_response(request, body), body


class ServerThread:
    """Keep a sandbox entered, on an event loop in its own thread.

    A program under test may block its own thread, or run one event loop after another.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        # Not asyncio.run(), which nest_asyncio replaces.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A daemon: an interrupted test run does not wait for it.
        self._thread = threading.Thread(target=self._run, name="simplestore-sandbox", daemon=True)

    def start(self) -> None:
        """Return once the sandbox is entered; raise the error of entering."""
        self._thread.start()
        try:
            self._call(self._sandbox.__aenter__())
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Return once the sandbox is left and the thread has ended; raise the error of leaving."""
        try:
            self._call(self._sandbox.__aexit__(None, None, None))
        finally:
            self._end()

    def _call(self, coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._loop.run_forever()
