"""Sandbox: a plain `with`, which runs it in a thread, and use from several threads."""

from __future__ import annotations

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import count
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from simplestore_async.sandbox import Counters, Sandbox, Status
from simplestore_async.sandbox._state import Clients, Tokens
from simplestore_async.testing._running import run
from tests.support.sandbox_client import bearer, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Doorbell:
    """A clock that signals when the server reads it, in any thread."""

    def __init__(self) -> None:
        self.rang = threading.Event()

    def monotonic(self) -> float:
        self.rang.set()
        return 1_000.0

    def time(self) -> float:
        return time.time()


def address_of(sandbox: Sandbox) -> tuple[str, int]:
    return "127.0.0.1", URL(sandbox.base_url).port or 0


def get_status(sandbox: Sandbox) -> int:
    """Send a request without a token, and block until the response arrives."""
    connection = HTTPConnection(*address_of(sandbox), timeout=30)
    try:
        connection.request("GET", "/api/")
        return connection.getresponse().status
    finally:
        connection.close()


def find_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "simplestore-sandbox"]


class TestThread:
    """A plain `with` runs the sandbox in its own thread."""

    def test_sync_test(self) -> None:
        """A sync test gets responses, directly and from event loops that it runs."""

        async def use() -> int:
            async with aiohttp.ClientSession() as client:
                status, _, _ = await send(client, "GET", sandbox.base_url, headers=await bearer(client, sandbox))
            return status

        with Sandbox() as sandbox:
            assert 401 == get_status(sandbox)
            assert [200, 200] == [run(use()) for _ in range(2)]
        assert Counters(token_requests=2, tokens_issued=2, api_requests=3, unauthorized=1) == sandbox.counters

    def test_leaves_nothing_behind(self) -> None:
        """Leaving drops a delayed response, closes the port and ends the thread, and entering again works."""
        doorbell = Doorbell()
        sandbox = Sandbox(latency_seconds=3600, clock=doorbell)
        for _ in range(2):
            doorbell.rang.clear()
            with sandbox:
                address = address_of(sandbox)
                connection = socket.create_connection(address, timeout=30)
                connection.sendall(b"POST /connect/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                assert doorbell.rang.wait(30)
                assert 1 == len(find_threads())
            with connection:
                assert b"" == connection.recv(1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=30)
            assert [] == find_threads()
        sandbox.__exit__(None, None, None)  # has no effect

    def test_already_running(self) -> None:
        """A running sandbox refuses to be entered again and continues to run."""
        with Sandbox() as sandbox:
            for enter in (sandbox.__enter__, lambda: run(sandbox.__aenter__())):
                with pytest.raises(RuntimeError, match="already running"):
                    enter()
            assert 1 == len(find_threads())
            assert 401 == get_status(sandbox)

    def test_error_while_leaving(self) -> None:
        """An error in leaving the sandbox propagates, and the thread ends."""

        class Failing(Sandbox):
            async def __aexit__(self, *_: object) -> None:
                await super().__aexit__(None, None, None)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), Failing():
            pass
        assert [] == find_threads()


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Switch threads after every few steps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def repeat_beside(others: Callable[[], object], own: Callable[[], object]) -> None:
    """Call *own* repeatedly while *others* runs in another thread."""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(others)
        while not running.done():
            own()
    running.result()


@pytest.mark.usefixtures("hasty_threads")
class TestOtherThreads:
    """Calls from threads of a test while the server's thread handles requests."""

    def test_tokens_are_revoked(self) -> None:
        """Revoking all tokens while others are issued revokes every earlier one and loses none."""
        tokens = Tokens(Doorbell())
        issued = [tokens.issue("app", lifetime_seconds=60)]

        def issue() -> None:
            while len(issued) < 1_000:
                issued.append(tokens.issue("app", lifetime_seconds=60))

        def revoke() -> None:
            before = issued[-100:]
            tokens.revoke_all(None)
            assert not any(tokens.is_valid(token) for _, token in before)

        repeat_beside(issue, revoke)
        assert 1_000 == len({value for value, _ in issued})
        assert all(token is tokens.find(value) for value, token in issued)

    def test_secrets_rotate(self) -> None:
        """Concurrent rotations keep all secrets."""
        clients = Clients()
        clients.add("app", client_secret="first")

        def rotate(name: str) -> None:
            for number in range(100):
                clients.rotate("app", new_secret=f"{name}{number}", keep_old=True)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(rotate, "abcd"))
        assert all(clients.accepts("app", f"{name}{number}") for name in "abcd" for number in range(100))

    def test_control_during_requests(self) -> None:
        """Faults, limits, clients and recorded requests may be used during requests, and each fault applies once."""
        faults, clients = 20, count()

        def use(sandbox: Sandbox) -> None:
            sandbox.clear_requests()
            client_id = f"client {next(clients)}"
            sandbox.add_client(client_id, client_secret="a")
            sandbox.rotate_secret(client_id, new_secret="b", keep_old=True)
            sandbox.drop_old_secrets(client_id)
            sandbox.revoke_all(client_id)
            sandbox.api.limit_rate(1_000_000)
            sandbox.api.limit_rate(None)
            assert {each.endpoint for each in sandbox.requests} <= {"api"}

        with Sandbox() as sandbox:
            sandbox.api.fail_next(faults, Status(500))

            def send_all() -> list[int]:
                return [get_status(sandbox) for _ in range(faults)]

            with ThreadPoolExecutor(2) as threads:
                sent = [threads.submit(send_all) for _ in range(2)]
                while not all(each.done() for each in sent):
                    use(sandbox)
            statuses = [status for each in sent for status in each.result()]
        assert {500: faults, 401: faults} == {status: statuses.count(status) for status in set(statuses)}
