"""Fixtures for all tests: real servers and a manual clock; what asyncio would only log fails the test."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import re
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_asyncio

from simplestore_async import RetryPolicy
from simplestore_async.sandbox import Sandbox
from tests.support.clocks import FakeClock
from tests.support.loops import LOOPS, LoopFactory
from tests.support.redis_server import RedisServer
from tests.support.servers import ApiServer, TokenServer
from tests.support.surroundings import reset_surroundings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from simplestore_async.events import Event
    from tests.support.telemetry import Telemetry


pytest_plugins = ["simplestore_async._pytest_plugin"]


EVENT_LOOPS = {str(loop.id): cast("LoopFactory", loop.values[0]) for loop in LOOPS}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """Run async tests on asyncio's loop, with `EVENT_LOOP=uvloop` on that, and those marked `every_loop` on each kind.

    Some tests create loops of their own.
    """
    if item.get_closest_marker("every_loop"):
        return EVENT_LOOPS
    name = os.environ.get("EVENT_LOOP", "asyncio")
    return {name: EVENT_LOOPS[name]}


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run twice as many workers as there are cores: many tests wait for a process or a socket."""
    return 2 * (yield)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name parameters in plain ASCII words: quotes, brackets and control characters confuse tools that select by id."""
    if getattr(val, "__name__", "") == "<lambda>":
        return argname
    if not isinstance(val, str | bytes | int | float | dict | list | tuple | BaseException):
        return None
    text = re.sub(r"\\u|\\x|\\U| at 0x\w+", " ", ascii(val))
    return " ".join(re.findall(r"[\w.+-]+", text))[:60] or argname


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def quick() -> RetryPolicy:
    """A retry policy with pauses short enough for a test."""
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
    """One server shared by all tests; each prefixes its keys with `namespace`."""
    with RedisServer() as server:
        yield server
        strangers = [key for key in asyncio.run(server.command("KEYS", "*")) if not key.startswith(b"test-")]
        assert not strangers, f"keys without a test's namespace: {strangers}"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server for one test alone."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex}"


def pytest_configure() -> None:
    reset_surroundings()
    # Background jobs of a shell ignore Ctrl-C, and the programs that tests start and interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # nohup ignores the hangup of the terminal in the same way.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # pytest-asyncio asks for the current loop, and asyncio would create one that is never closed.
    asyncio.set_event_loop(None)


def pytest_collection_finish() -> None:
    # Imported modules stay alive: excluding them makes the garbage collection after each test cheap.
    gc.freeze()
    # Processes that tests start must not inherit it: in debug mode asyncio logs slow callbacks to stderr.
    os.environ.pop("PYTHONDEVMODE", None)


@pytest.fixture(autouse=True)
def nothing_is_left_over(request: pytest.FixtureRequest) -> None:
    """Apply `watch_over_asyncio` to every async test."""
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
