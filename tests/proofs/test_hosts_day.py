"""A day of a thousand workers that share a real Redis, in virtual time."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from redis.asyncio import Redis

from simplestore_async import TokenProvider
from simplestore_async.caches.redis import RedisTokenCache
from simplestore_async.events import CacheFailed
from tests.support.production import CREDENTIALS, HOUR, LIFE, LoopClock, call_until
from tests.support.redis_server import RedisServer
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

if TYPE_CHECKING:
    from pathlib import Path

    from simplestore_async.events import Event

DAY = 24 * HOUR
WORKERS = 1_000


class _Selector(selectors.DefaultSelector):
    """Advances the loop's time when it would wait and the server has sent all responses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.now = 1_000.0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or not timeout:
            return events
        # The second response comes after every other that was due at the first request.
        for _ in range(2):
            self._socket.sendall(b"PING\r\n")
            assert b"+PONG\r\n" == self._socket.recv(7)
        events = super().select(0)
        if not events:
            self.now += timeout
        return events

    def close(self) -> None:
        self._socket.close()
        super().close()


class _Loop(asyncio.SelectorEventLoop):
    """A loop with sockets whose time advances only while the server is idle."""

    def __init__(self, path: Path) -> None:
        self._selecting = _Selector(path)
        super().__init__(self._selecting)
        self.set_debug(False)  # in development mode each task would record its stack

    def time(self) -> float:
        return self._selecting.now


@attrs.define
class Log:
    """Result of a day of workers."""

    token_requests: int = 0
    failures: list[CacheFailed] = attrs.field(factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, CacheFailed):
            self.failures.append(event)

    async def answer(self) -> Reply:
        self.token_requests += 1
        await asyncio.sleep(0.1)
        return grant(f"token-{self.token_requests}", LIFE)


def play_day(path: Path, *, workers: int) -> Log:
    """Return the result of *workers*, each with its own provider, that share one server."""
    log = Log()

    async def work(cache: RedisTokenCache, clock: LoopClock, until: float) -> None:
        endpoint = VirtualEndpoint(CREDENTIALS, clock=clock, answer=log.answer)
        async with TokenProvider(endpoint=endpoint, cache=cache, on_event=log) as provider:
            await call_until(until, provider, clock)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        clock.step(time.time() - clock.time())  # the server expires keys by the machine's clock
        async with Redis(unix_socket_path=str(path), max_connections=3 * workers) as client:
            cache = RedisTokenCache(client)
            await asyncio.gather(*(work(cache, clock, loop.time() + DAY) for _ in range(workers)))

    with asyncio.Runner(loop_factory=lambda: _Loop(path)) as runner:
        runner.run(play())
    return log


@pytest.mark.slow
def test_a_day_of_a_thousand_workers() -> None:
    """1 000 workers that share a Redis request at most a tenth more tokens than one, and the cache never fails."""
    counts = []
    for workers in (1, WORKERS):
        with RedisServer() as server:
            log = play_day(server.path, workers=workers)
        assert [] == log.failures
        counts.append(log.token_requests)
    one, all_of_them = counts
    sys.stdout.write(f"token requests a day: {one} by one worker, {all_of_them} by {WORKERS}\n")

    assert DAY / LIFE < one
    assert one <= all_of_them <= 1.1 * one
