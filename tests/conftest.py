"""Fixtures for all tests: real servers, a manual clock, and failures for errors that asyncio would only log."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from simplestore_async import RetryPolicy
from simplestore_async.sandbox import Sandbox
from tests.support.clocks import FakeClock
from tests.support.redis_server import RedisServer
from tests.support.servers import ApiServer, TokenServer
from tests.support.surroundings import reset_surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from simplestore_async.events import Event
    from tests.support.telemetry import Telemetry


pytest_plugins = ["simplestore_async._pytest_plugin"]

if os.environ.get("EVENT_LOOP") == "uvloop":
    import uvloop

    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        """Run the tests' coroutines on uvloop if `EVENT_LOOP=uvloop`; some tests make their own loops."""
        return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run twice as many workers as there are cores: many tests wait for a process or a socket."""
    return 2 * (yield)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def quick() -> RetryPolicy:
    """Retries with pauses that a test can wait for."""
    return RetryPolicy(retry_seconds=0.01)


@pytest.fixture
def events() -> list[Event]:
    """Events of a provider: pass `on_event=events.append`."""
    return []


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    from tests.support.telemetry import in_memory_sdk

    with in_memory_sdk() as telemetry:
        yield telemetry


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest_asyncio.fixture
async def token_server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest_asyncio.fixture
async def api_server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One server for all tests whose keys begin with a namespace of their own."""
    with RedisServer() as server:
        yield server
        strangers = [key for key in asyncio.run(server.command("KEYS", "*")) if not key.startswith(b"test-")]
        assert not strangers, f"these would mislead other tests: {strangers}"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"


def pytest_configure() -> None:
    reset_surroundings()
    # A shell's jobs in the background ignore Ctrl-C, and so would every program that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # As nohup does with the end of a terminal.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # pytest-asyncio asks for the current loop, and asyncio would make one that is never closed.
    asyncio.set_event_loop(None)


def pytest_collection_finish() -> None:
    # What was imported stays; not looking at it again makes the collection after each test cheap.
    gc.freeze()
    # Not for the processes that tests start: there asyncio would write to stderr what took long.
    os.environ.pop("PYTHONDEVMODE", None)


@pytest.fixture(autouse=True)
def nothing_is_left_over(request: pytest.FixtureRequest) -> None:
    """Watch over every test that is a coroutine."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("watch_over_asyncio")


@pytest_asyncio.fixture
async def watch_over_asyncio() -> AsyncIterator[None]:
    """Fail a test that leaves a task pending or an exception unretrieved: `-W error` sees neither."""
    # Leftovers of the test before, then everything that lives: the collection below visits only this test's objects.
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    gc.collect()
    before.add(asyncio.current_task())  # type: ignore[arg-type]  # there is one
    assert not [task for task in asyncio.all_tasks() - before if not task.done()]
    assert not complaints
