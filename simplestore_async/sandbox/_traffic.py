"""The requests of one endpoint: what is to happen to them, and what did. Rule: no I/O, and one injected clock decides.

A test that moves that clock moves the server's time and the client's together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import attrs

from simplestore_async._core.clock import Clock

from ._faults import Fault, Status
from ._script import RateLimit, Script

__all__ = ["MOST_RECORDED", "EndpointName", "RecordedRequest", "Traffic"]

EndpointName: TypeAlias = Literal["token", "api"]

MOST_RECORDED: Final = 10_000


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """A request as the sandbox saw it, and what it was answered. It holds no secret and no token, nor a query.

    It is recorded when its answer is decided, before that is sent: who has an answer finds the request here.

    Attributes:
        number: its number among all requests to either endpoint, from 1.
        endpoint: which one: `"token"` or `"api"`.
        method: the HTTP method.
        path: the path, decoded, without the query.
        client_id: whose request it was: the client that a token request names, or that got the token; None if the
            sandbox knows no such client, or no such token.
        token_number: which token it was about, counted from 1 as they were issued: the one that the token endpoint
            answered with, or the one that an API request brought, be it expired or revoked; None if there was none.
        status: the HTTP status of the answer; None if the connection was reset instead.
        received_at: when, in POSIX seconds of the sandbox's clock.
        fault: what was scripted to go wrong with it; the rate limit is a `Status` of 429. None if nothing was.
    """

    number: int
    endpoint: EndpointName
    method: str
    path: str
    client_id: str | None
    token_number: int | None
    status: int | None
    received_at: float
    fault: Fault | None


@attrs.define(kw_only=True, eq=False)
class Traffic:
    """One endpoint's script, limit and log. The script is written by the sandbox's methods, the log by the server.

    The server draws and records on one event loop; everything else may be done from any thread.
    """

    name: EndpointName
    clock: Clock
    numbers: Iterator[int]
    limit: RateLimit | None = None
    script: Script = attrs.field(init=False, factory=Script)
    _recorded: deque[RecordedRequest] = attrs.field(
        init=False, factory=lambda: deque[RecordedRequest](maxlen=MOST_RECORDED)
    )
    # Held where the log is read, for nothing may be added meanwhile, and where it is written.
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    @property
    def recorded(self) -> tuple[RecordedRequest, ...]:
        """The log as it is now."""
        with self._lock:
            return tuple(self._recorded)

    def clear_recorded(self) -> None:
        """Empty the log."""
        with self._lock:
            self._recorded.clear()

    def draw_fault(self) -> Fault | None:
        """Return what goes wrong with the request that is here now, or None; what the limit stops meets no script."""
        now = self.clock.monotonic()
        limit = self.limit  # which may be lifted meanwhile
        wait_seconds = limit.seconds_to_wait(now) if limit else 0
        return Status(429, retry_after=wait_seconds) if wait_seconds else self.script.draw_fault(now)

    def record(  # noqa: PLR0913 - what a request was, field by field
        self,
        *,
        method: str,
        path: str,
        client_id: str | None,
        token_number: int | None,
        status: int | None,
        fault: Fault | None,
    ) -> None:
        """Note a request whose answer is decided; beyond `MOST_RECORDED` the oldest one goes."""
        request = RecordedRequest(
            number=next(self.numbers),
            endpoint=self.name,
            method=method,
            path=path,
            client_id=client_id,
            token_number=token_number,
            status=status,
            received_at=self.clock.time(),
            fault=fault,
        )
        with self._lock:
            self._recorded.append(request)
