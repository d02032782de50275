"""The sandbox's HTTP side. Rule: loopback only, and a request costs no more than its reply."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, Final

import attrs
from aiohttp import web

from simplestore_async._core.clock import Clock
from simplestore_async.errors import ConfigurationError

from ._checks import check_seconds, check_whole
from ._clients import Clients
from ._delivery import deliver
from ._faults import RejectedToken, Reset
from ._ledger import Ledger
from ._replies import echo_reply, refusal_reply, substitute_reply, token_reply, unauthorized_reply
from ._token_request import Refusal, TokenRequest
from ._traffic import Traffic

__all__ = ["API_PATH", "TOKEN_PATH", "Server"]

TOKEN_PATH: Final = "/connect/token"  # noqa: S105 - the documented path, no secret
API_PATH: Final = "/api/"

_HOST: Final = "127.0.0.1"

# What a handler that is still busy gets when the sandbox closes; zero would mean to wait for ever.
_SHUTDOWN_SECONDS: Final = 0.05


def _check_port(_server: object, _field: object, value: Any) -> None:
    check_whole("port", value, least=0, most=65_535, advice="set a TCP port, or 0 for any that is free")


def _check_lifetime(_server: object, _field: object, value: Any) -> None:
    advice = "set a whole number, 1 or more, because it is sent as expires_in"
    check_whole("lifetime_seconds", value, advice=advice)


def _check_latency(_server: object, _field: object, value: Any) -> None:
    check_seconds("latency_seconds", value, advice="set a number of seconds, 0 or more", is_zero_allowed=True)


@attrs.define(kw_only=True, eq=False)
class Server:
    """Serve the token endpoint and the API; what they saw, and what they are to do, is in the parts.

    It runs on one event loop, which may be in a thread of its own. The parts may be used from any thread meanwhile.

    Attributes:
        root: where it serves, or None.
    """

    clock: Clock
    port: int = attrs.field(validator=_check_port)
    lifetime_seconds: int = attrs.field(validator=_check_lifetime)
    latency_seconds: float = attrs.field(validator=_check_latency)
    clients: Clients = attrs.field(init=False, factory=Clients)
    ledger: Ledger = attrs.field(init=False)
    token_traffic: Traffic = attrs.field(init=False)
    api_traffic: Traffic = attrs.field(init=False)
    root: str | None = attrs.field(init=False, default=None)
    _runner: web.AppRunner | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        numbers = count(1)
        self.ledger = Ledger(self.clock)
        self.token_traffic = Traffic(name="token", clock=self.clock, numbers=numbers)
        self.api_traffic = Traffic(name="api", clock=self.clock, numbers=numbers)

    async def start(self) -> None:
        """Serve.

        Raises:
            RuntimeError: if it does so already.
            ConfigurationError: if its port cannot be opened.
        """
        if self._runner is not None:
            raise RuntimeError("The Sandbox is already running: make a second one, or leave the first context.")
        # No limit to a body: a test sends what it likes.
        app = web.Application(client_max_size=0)
        app.router.add_route("*", TOKEN_PATH, self._answer_token_request)
        app.router.add_route("*", API_PATH + "{tail:.*}", self._answer_api_request)
        # A client that leaves ends its handler, which else might wait beyond the sandbox's own end.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            # A batch job connects from thousands of tasks at once; a full backlog would cost each a second.
            await web.TCPSite(runner, _HOST, self.port, backlog=1024).start()
        except BaseException as error:
            await runner.cleanup()
            if self.port and isinstance(error, OSError):
                raise ConfigurationError(
                    f"port {self.port} is taken, or not yours to open: set another, or 0 for any that is free"
                ) from error
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.root = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Drop every connection and leave nothing behind."""
        if self._runner is not None:
            runner, self._runner, self.root = self._runner, None, None
            await runner.cleanup()

    async def _answer_token_request(self, request: web.Request) -> web.StreamResponse:
        self.ledger.count("token_requests")
        verdict = TokenRequest(
            method=request.method,
            query=request.query_string,
            content_type=request.content_type,
            authorization=request.headers.get("Authorization"),
            body=await request.read(),
        ).judge(self.clients)
        fault = self.token_traffic.draw_fault()
        reply = substitute_reply(fault)
        token_number = None
        if reply is not None:
            self.ledger.count("failures")
        elif isinstance(verdict, Refusal):
            self.ledger.count("refusals")
            reply = refusal_reply(verdict)
        else:
            self.ledger.count("tokens_issued")
            lifetime_seconds = self.lifetime_seconds
            value, token = self.ledger.issue_token(verdict.client_id, lifetime_seconds=lifetime_seconds)
            token_number = token.number
            reply = token_reply(value, expires_in=lifetime_seconds)
        self.token_traffic.record(
            method=request.method,
            path=request.path,
            client_id=verdict.client_id,
            token_number=token_number,
            status=None if isinstance(fault, Reset) else reply.status,
            fault=fault,
        )
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        return await deliver(reply, request, fault)

    async def _answer_api_request(self, request: web.Request) -> web.StreamResponse:
        self.ledger.count("api_requests")
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        token = self.ledger.find_token(value) if is_bearer else None
        fault = self.api_traffic.draw_fault()
        reply = substitute_reply(fault)
        if reply is not None:
            self.ledger.count("api_failures")
        elif token is None or not self.ledger.is_valid(token) or isinstance(fault, RejectedToken):
            self.ledger.count("unauthorized")
            reply = unauthorized_reply(has_token=is_bearer)
        self.api_traffic.record(
            method=request.method,
            path=request.path,
            client_id=token.client_id if token else None,
            token_number=token.number if token else None,
            status=None if isinstance(fault, Reset) else 200 if reply is None else reply.status,
            fault=fault,
        )
        if reply is None:
            reply = await echo_reply(request)
        return reply if fault is None else await deliver(reply, request, fault)
