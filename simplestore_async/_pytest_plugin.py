"""The pytest plugin. Rule: it imports nothing of the package until a fixture is used, because pytest always loads it.

It is in the root because importing a module imports its parent packages. `simplestore_sandbox` runs in its own thread,
so it needs no asyncio plugin. A test may be sync and call a program's `main()` with an `asyncio.run()` in it, block,
start processes, or run on uvloop; the test's own event loop has no tasks of the sandbox.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    from aiohttp import ClientSession

    from .sandbox import MovableClock, Sandbox

pytest.register_assert_rewrite("simplestore_async.testing")

_LoopScope = Literal["function", "class", "module", "package", "session"]
_LOOP_SCOPES: tuple[_LoopScope, ...] = ("function", "class", "module", "package", "session")
# A setting of pytest-asyncio 0.26 and later.
_TEST_LOOP_SCOPE = "asyncio_default_test_loop_scope"


@pytest.fixture
def simplestore_clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """The package's clock: the system time plus all `advance(seconds)`.

    It is the clock of `simplestore_sandbox`, and of each TokenProvider, TokenEndpoint, MemoryTokenCache and
    OpenTelemetryListener that the test creates without `clock=`. asyncio's time does not move: sleeps, timeouts, and
    the pauses between the attempts of one renewal.
    """
    from .sandbox import MovableClock

    clock = MovableClock()
    monkeypatch.setattr("simplestore_async._core.clock.SYSTEM_CLOCK", clock)
    return clock


@pytest.fixture
def simplestore_sandbox(simplestore_clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A local SimpleStore (`simplestore_async.sandbox.Sandbox`) for one test, with its environment.

    The only `SIMPLESTORE_…` variables are those of the sandbox, even in processes that the test starts:
    `open_session()` without arguments uses it. Proxies in the environment are not used for it. It runs in its own
    thread, so the test may be sync or async; its methods may be called from any thread.
    """
    from .sandbox import Sandbox

    with Sandbox(clock=simplestore_clock) as sandbox:
        _set_environment(sandbox, monkeypatch)
        yield sandbox


@pytest.fixture(scope="session")
def simplestore_shared_sandbox() -> Iterator[Sandbox]:
    """A local SimpleStore for all tests of the session, with its environment until the session ends.

    For programs that read their settings once, such as an application fixture of session scope. The tests share its
    counters, log and scripted faults; with pytest-xdist each worker has its own. `simplestore_clock` does not move its
    time. A test that uses `simplestore_sandbox` gets its own sandbox and environment meanwhile.
    """
    from .sandbox import Sandbox

    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as monkeypatch:
        _set_environment(sandbox, monkeypatch)
        yield sandbox


def _set_environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SIMPLESTORE_")]:
        monkeypatch.delenv(name)
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    without_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if without_proxy != "*":
        monkeypatch.setenv("no_proxy", f"{without_proxy},127.0.0.1".lstrip(","))


@pytest.fixture
def simplestore_session(request: pytest.FixtureRequest) -> ClientSession:
    """An open `aiohttp.ClientSession` to `simplestore_sandbox`, as from `open_session()`.

    It is opened on the event loop of the test, under pytest-asyncio (either mode, any loop scope), pytest-aiohttp or
    anyio (on asyncio).
    """
    session: ClientSession = request.getfixturevalue(_name_of_session(request))
    return session


@pytest.fixture
async def _simplestore_session_of_anyio(simplestore_sandbox: Sandbox) -> AsyncIterator[ClientSession]:
    async with _open_session(simplestore_sandbox) as session:
        yield session


def _open_session(sandbox: Sandbox) -> AbstractAsyncContextManager[ClientSession]:
    from . import open_session

    return open_session(sandbox.credentials, base_url=sandbox.base_url)


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures for pytest-asyncio, if it is loaded; by now all plugins are."""
    if _has_test_loop_scope(config):
        config.pluginmanager.register(_make_asyncio_fixtures(), "simplestore-asyncio")


def _has_test_loop_scope(config: pytest.Config) -> bool:
    try:
        config.getini(_TEST_LOOP_SCOPE)
    except ValueError:
        return False
    return True


def _make_asyncio_fixtures() -> ModuleType:
    """Return a plugin with a session fixture for each loop scope of pytest-asyncio.

    Strict mode requires its own decorator, which fixes the loop scope.
    """
    import pytest_asyncio

    plugin = ModuleType("simplestore_async's fixtures for pytest-asyncio")
    for loop_scope in _LOOP_SCOPES:
        # Each scope needs a new function: the decorator stores the loop scope in it.
        @pytest_asyncio.fixture(name=_name_for_loop(loop_scope), loop_scope=loop_scope)
        async def session(simplestore_sandbox: Sandbox) -> AsyncIterator[ClientSession]:
            async with _open_session(simplestore_sandbox) as opened:
                yield opened

        setattr(plugin, loop_scope, session)
    return plugin


def _name_for_loop(loop_scope: str) -> str:
    return f"_simplestore_session_of_{loop_scope}_loop"


def _name_of_session(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that opens a session on the test's loop."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        name = backend if isinstance(backend, str) else backend[0]
        if name != "asyncio":
            pytest.fail(
                f"simplestore_session needs asyncio, and this test runs on {name}; restrict it with a fixture "
                '`anyio_backend` that returns "asyncio"',
                pytrace=False,
            )
        return "_simplestore_session_of_anyio"
    if not _has_test_loop_scope(request.config):
        pytest.fail(
            "simplestore_session needs pytest-asyncio 0.26 or later, pytest-aiohttp or anyio to run the test; install "
            "one of them, or use simplestore_sandbox and call open_session() in the test",
            pytrace=False,
        )
    marker = request.node.get_closest_marker("asyncio")
    loop_scope = marker.kwargs.get("loop_scope") if marker else None
    return _name_for_loop(loop_scope or request.config.getini(_TEST_LOOP_SCOPE))
