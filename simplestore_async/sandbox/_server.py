"""The sandbox's HTTP side. Rule: loopback only, an ephemeral port, and a request costs no more than its reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import attrs
from aiohttp import web

from simplestore_async._clock import SYSTEM_CLOCK, Clock
from simplestore_async._credentials import ClientCredentials
from simplestore_async._redaction import RedactedStr
from simplestore_async.errors import ConfigurationError

from ._ledger import Counters, Failure, Ledger, is_seconds, is_whole
from ._replies import echo_reply, failure_reply, refusal_reply, token_reply, unauthorized_reply
from ._token_request import TokenRequest

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Sandbox"]

_HOST: Final = "127.0.0.1"
_TOKEN_PATH: Final = "/connect/token"  # noqa: S105 - the documented path, no secret
_API_PATH: Final = "/api/"

# What a handler that is still busy gets when the sandbox closes; zero would mean to wait for ever.
_SHUTDOWN_SECONDS: Final = 0.05


def _check_lifetime(_sandbox: object, _field: object, value: int) -> None:
    if not is_whole(value) or value < 1:
        raise ConfigurationError(
            f"lifetime_seconds is {value!r}: set a whole number, 1 or more, because it is sent as expires_in"
        )


def _check_latency(_sandbox: object, _field: object, value: float) -> None:
    if not is_seconds(value) or value < 0:
        raise ConfigurationError(f"latency_seconds is {value!r}: set a number of seconds, 0 or more")


def _to_secret(value: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError("client_secret must be a string: the sandbox compares it with what clients send")
    return RedactedStr(value)


def _to_clock(value: Clock | None) -> Clock:
    return SYSTEM_CLOCK if value is None else value


@attrs.define(kw_only=True, eq=False, repr=False)
class Sandbox:
    """Run a local SimpleStore: the token endpoint exactly as documented, and an API that echoes authorised requests.

    An async context manager. It listens on 127.0.0.1, on a port of its own, so any number may run at once; leaving the
    context drops open connections and leaves nothing behind. A sandbox may be entered again: its counters go on, its
    port changes. Call its methods on the loop that runs it.

    The API answers every method below `base_url`: 200 and JSON with `method`, `path`, `query` and `headers` (a repeated
    name of the query gives a list), the token masked, `body` (text, or base64 if it is not UTF-8) and `is_base64`;
    without a valid token 401 with the challenge of RFC 6750 §3. The token endpoint also accepts `client_secret_basic`.

    Args:
        client_id: the client that may get tokens.
        client_secret: its secret.
        lifetime_seconds: how long a token lives, sent as `expires_in`; a whole number, because that is. May be changed
            at any time, for the tokens that follow.
        latency_seconds: how late the token endpoint's replies are sent, in real time. What they say is decided when the
            request arrives, so a slow token may be revoked before it is delivered. May be changed at any time.
        clock: decides when tokens expire and outages end; the machine's clock if None.

    Raises:
        ConfigurationError: names the argument, what was wrong and what to set.
    """

    _client_id: str = "sandbox-client"
    _client_secret: str = attrs.field(default="sandbox-secret", converter=_to_secret)
    lifetime_seconds: int = attrs.field(default=3600, validator=_check_lifetime)
    latency_seconds: float = attrs.field(default=0.0, validator=_check_latency)
    _clock: Clock = attrs.field(default=None, converter=_to_clock)
    _ledger: Ledger = attrs.field(init=False)
    _runner: web.AppRunner | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        # The same rules as a client's, and the same words.
        ClientCredentials(client_id=self._client_id, client_secret=self._client_secret)
        self._ledger = Ledger(self._clock)

    def __repr__(self) -> str:
        return f"<Sandbox {self._root if self._runner else 'not running'}, client_id={self._client_id!r}>"

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("The Sandbox is already running: make a second one, or leave the first `async with`.")
        # No limit to a body: a test sends what it likes.
        app = web.Application(client_max_size=0)
        app.router.add_route("*", _TOKEN_PATH, self._answer_token_request)
        app.router.add_route("*", _API_PATH + "{tail:.*}", self._answer_api_request)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            # A batch job connects from thousands of tasks at once; a full backlog would cost each a second.
            await web.TCPSite(runner, _HOST, 0, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @property
    def _root(self) -> str:
        if self._runner is None:
            raise RuntimeError("The Sandbox is not running: use it inside `async with Sandbox() as sandbox:`.")
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def token_url(self) -> str:
        """The token endpoint. Raises `RuntimeError` unless the sandbox runs, as all of the addresses do."""
        return self._root + _TOKEN_PATH

    @property
    def base_url(self) -> str:
        """The root of the API, with a slash at its end."""
        return self._root + _API_PATH

    @property
    def credentials(self) -> ClientCredentials:
        """The credentials that the sandbox accepts, for its token endpoint."""
        return ClientCredentials(client_id=self._client_id, client_secret=self._client_secret, token_url=self.token_url)

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, and the base URL: what `from_env()` and `open_session()` read."""
        return {
            "SIMPLESTORE_CLIENT_ID": self._client_id,
            "SIMPLESTORE_CLIENT_SECRET": self._client_secret,
            "SIMPLESTORE_TOKEN_URL": self.token_url,
            "SIMPLESTORE_BASE_URL": self.base_url,
        }

    @property
    def counters(self) -> Counters:
        """What the server saw so far, as a value of its own."""
        return self._ledger.counters

    def revoke_all(self) -> None:
        """Revoke every token issued so far; the API answers 401 to them from now on."""
        self._ledger.revoke_all()

    def fail_next(self, requests: int, *, status: int = 503, retry_after: float | str | None = None) -> None:
        """Let the next token requests fail. Scripted failures queue up: each starts when the one before it is over.

        Args:
            requests: how many, 1 or more.
            status: the HTTP status, 400 to 599; the body is `{"error": "temporarily_unavailable"}`.
            retry_after: seconds, or any value of the Retry-After header, such as an HTTP-date.

        Raises:
            ConfigurationError: names the argument, what was wrong and what to set.
        """
        if not is_whole(requests) or requests < 1:
            raise ConfigurationError(f"requests is {requests!r}: set how many token requests fail, 1 or more")
        self._ledger.script_requests(Failure(status=status, retry_after=retry_after), requests=requests)

    def fail_for(self, seconds: float, *, status: int = 503, retry_after: float | str | None = None) -> None:
        """Let every token request fail for a while, which starts with the next one. Queues up like `fail_next()`.

        Args:
            seconds: how long from that request on, by the sandbox's clock; above 0.
            status: as for `fail_next()`.
            retry_after: as for `fail_next()`.

        Raises:
            ConfigurationError: names the argument, what was wrong and what to set.
        """
        if not is_seconds(seconds) or seconds <= 0:
            raise ConfigurationError(f"seconds is {seconds!r}: set how long the token endpoint fails, above 0")
        self._ledger.script_outage(Failure(status=status, retry_after=retry_after), seconds=seconds)

    async def _answer_token_request(self, request: web.Request) -> web.Response:
        self._ledger.count("token_requests")
        reply = await self._decide(request)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        return reply

    async def _decide(self, request: web.Request) -> web.Response:
        failure = self._ledger.next_failure()
        if failure:
            self._ledger.count("failures")
            return failure_reply(failure)
        token_request = TokenRequest(
            method=request.method,
            query=request.query_string,
            content_type=request.content_type,
            authorization=request.headers.get("Authorization"),
            body=await request.read(),
        )
        refusal = token_request.refusal(client_id=self._client_id, client_secret=self._client_secret)
        if refusal:
            self._ledger.count("refusals")
            return refusal_reply(refusal)
        self._ledger.count("tokens_issued")
        lifetime_seconds = self.lifetime_seconds
        return token_reply(self._ledger.issue_token(lifetime_seconds=lifetime_seconds), expires_in=lifetime_seconds)

    async def _answer_api_request(self, request: web.Request) -> web.Response:
        self._ledger.count("api_requests")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        if is_bearer and self._ledger.is_valid(token):
            return await echo_reply(request)
        self._ledger.count("unauthorized")
        return unauthorized_reply(has_token=is_bearer)
