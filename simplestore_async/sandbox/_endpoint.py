"""One endpoint of the sandbox: its script, its canned responses and its log. Rule: a script is checked when written."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from simplestore_async._core.validation import check_number, check_type
from simplestore_async.errors import ConfigurationError

from ._faults import UNAVAILABLE, Fault, RejectedToken, Reset, Response, Status
from ._recorded import MOST_BODY_BYTES, RecordedRequest, mask_headers
from ._script import FaultRun, HeldResponses, RateLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aiohttp import web

    from simplestore_async._core.clock import Clock

    from ._state import IssuedToken

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["MOST_RECORDED", "SandboxApi", "SandboxEndpoint"]

MOST_RECORDED: Final = 10_000


class SandboxEndpoint:
    """Script and log of one endpoint: `sandbox.token_endpoint` or `sandbox.api`.

    Scripted faults queue up: each starts when the previous one is over. The rate limit comes first, then a fault, then
    the request itself. All methods may be called from any thread.
    """

    _name: Literal["token", "api"] = "token"

    def __init__(self, *, clock: Clock, numbers: Iterator[int]) -> None:
        self._clock = clock
        self._numbers = numbers
        self._faults: deque[FaultRun] = deque()
        self._limit: RateLimit | None = None
        self._held: HeldResponses | None = None
        self._recorded: deque[RecordedRequest] = deque(maxlen=MOST_RECORDED)
        self._lock = threading.Lock()  # of the log

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def fail_next(self, requests: int, fault: Fault = UNAVAILABLE) -> None:
        """Apply a fault to the next requests.

        Args:
            requests: how many, 1 or more.
            fault: by default HTTP status 503.

        Raises:
            ConfigurationError: if an argument is wrong.
        """
        check_number("requests", requests, at_least=1, is_whole=True)
        self._faults.append(FaultRun(fault=self._check(fault), requests_left=requests))

    def fail_for(self, seconds: float, fault: Fault = UNAVAILABLE) -> None:
        """Apply a fault to every request for a while, starting with the next one.

        Args:
            seconds: counted from that request by the sandbox's clock; above 0.
            fault: as for `fail_next()`.

        Raises:
            ConfigurationError: if an argument is wrong.
        """
        check_number("seconds", seconds, above=0)
        self._faults.append(FaultRun(fault=self._check(fault), seconds=seconds))

    def limit_rate(self, requests: int | None, *, seconds: float = 1.0) -> None:
        """Limit the requests in any window of some seconds, from now on.

        Other requests get 429 with Retry-After in whole seconds, and do not count against the limit.

        Args:
            requests: the maximum, 1 or more; None lifts the limit.
            seconds: the length of the window by the sandbox's clock; above 0.

        Raises:
            ConfigurationError: if an argument is wrong.
        """
        if requests is not None:
            check_number("requests", requests, at_least=1, is_whole=True)
        check_number("seconds", seconds, above=0)
        self._limit = None if requests is None else RateLimit(requests=requests, seconds=seconds)

    def hold(self) -> HeldResponses:
        """Hold back the responses to requests from now on, until `release()`.

        For tests that need a request in flight::

            with sandbox.token_endpoint.hold() as held:
                fetching = asyncio.create_task(provider.get_token())
                await held.wait_for_requests()
                ...  # the token request is in flight
            await fetching
        """
        self._held = HeldResponses()
        return self._held

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The newest 10 000 requests, oldest first."""
        with self._lock:
            return tuple(self._recorded)

    def clear_requests(self) -> None:
        """Empty the log; numbering continues."""
        with self._lock:
            self._recorded.clear()

    def draw_fault(self) -> Fault | None:
        """Return the fault for the request that has just arrived; called by the server."""
        now = self._clock.monotonic()
        limit = self._limit  # another thread may lift it
        if limit and (wait_seconds := limit.seconds_to_wait(now)):
            return Status(429, retry_after=wait_seconds)
        while self._faults:
            if self._faults[0].covers(now):
                return self._faults[0].fault
            self._faults.popleft()
        return None

    def record(  # noqa: PLR0913 - the fields of a request
        self,
        request: web.Request,
        response: web.StreamResponse,
        fault: Fault | None,
        *,
        body: bytes,
        client_id: str | None,
        token: IssuedToken | None,
    ) -> None:
        """Log a request whose response is decided; called by the server, which has masked the body."""
        recorded = RecordedRequest(
            number=next(self._numbers),
            endpoint=self._name,
            method=request.method,
            path=request.path,
            client_id=client_id,
            token_number=token.number if token else None,
            status=None if isinstance(fault, Reset) else response.status,
            received_at=self._clock.time(),
            fault=fault,
            headers=mask_headers(request.headers),
            body=body[:MOST_BODY_BYTES],
        )
        with self._lock:
            self._recorded.append(recorded)

    async def wait_for_release(self) -> None:
        """Wait while responses are held; called by the server."""
        if self._held is not None:
            await self._held.wait()

    def _check(self, fault: Fault) -> Fault:
        check_type("fault", fault, Fault, expected="a fault such as Status(503) or Reset()")
        if isinstance(fault, RejectedToken) and self._name != "api":
            raise ConfigurationError("fault", "RejectedToken() is for sandbox.api", hint="use reject_next()")
        return fault


class SandboxApi(SandboxEndpoint):
    """Script, canned responses and log of the API: `sandbox.api`."""

    _name: Literal["token", "api"] = "api"

    def __init__(self, *, clock: Clock, numbers: Iterator[int]) -> None:
        super().__init__(clock=clock, numbers=numbers)
        # By method, None for all, and path; each with whether it is public.
        self._routes: dict[tuple[str | None, str], tuple[Response | Handler, bool]] = {}
        self._rejection: Response | None = None

    def respond(
        self, path: str, response: Response | Handler, *, method: str | None = None, is_public: bool = False
    ) -> None:
        """Respond at a path with a canned response or a handler instead of the echo.

        A handler is a coroutine function that receives the `aiohttp.web.Request` and returns a response; it runs on the
        sandbox's event loop. Setting the same path and method again replaces the response.

        Args:
            path: relative to `base_url`, decoded, without a query; a leading slash makes no difference.
            response: a `Response`, or the handler.
            method: the HTTP method; all methods if None.
            is_public: whether requests without a valid token also get it.

        Raises:
            ConfigurationError: if an argument is wrong.
        """
        check_type("path", path, str)
        if "?" in path:
            raise ConfigurationError("path", "must have no query", hint="set the response for all queries")
        if not inspect.iscoroutinefunction(response):
            check_type("response", response, Response, expected="a Response or a coroutine function")
        check_type("method", method, str | None)
        key = None if method is None else method.upper(), path.lstrip("/")
        self._routes[key] = response, is_public

    def reject_with(self, response: Response | None) -> None:
        """Set the response to requests without a valid token, from now on; None for the default 401.

        For APIs that report an expired token in another way, such as 403 with a JSON body.
        """
        check_type("response", response, Response | None)
        self._rejection = response

    @property
    def rejection(self) -> Response | None:
        """The response set by `reject_with()`."""
        return self._rejection

    def find_route(self, method: str, path: str) -> tuple[Response | Handler | None, bool]:
        """Return the response at *path*, relative to `base_url`, and whether it is public; called by the server."""
        return self._routes.get((method, path)) or self._routes.get((None, path)) or (None, False)
