"""The pytest plugin. Rule: until a fixture is used it imports nothing of the package, for pytest loads it everywhere.

That is why it stands in the root: to import a module is to import the packages around it. `simplestore_sandbox` runs in
a thread of its own. So it is a plain fixture, which needs no asyncio plugin and no mode of one; a test need not be a
coroutine, and may call a program's `main()` with an `asyncio.run()` in it, block, start processes, or run on uvloop;
and the test's own event loop holds no task that is not the test's.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import ClientSession

    from .sandbox import MovableClock, Sandbox

pytest.register_assert_rewrite("simplestore_async.testing")

_LoopScope = Literal["function", "class", "module", "package", "session"]
_LOOP_SCOPES: tuple[_LoopScope, ...] = ("function", "class", "module", "package", "session")
# A setting of pytest-asyncio, from 0.26 on.
_TEST_LOOP_SCOPE = "asyncio_default_test_loop_scope"


@pytest.fixture
def simplestore_clock(monkeypatch: pytest.MonkeyPatch) -> MovableClock:
    """The time that the package sees: the machine's, and as much more as `advance(seconds)` adds.

    It is the clock of `simplestore_sandbox`, and of each TokenProvider, TokenEndpoint, MemoryTokenCache and
    OpenTelemetryListener that is made during the test and given no `clock=`. asyncio's own time is not moved: sleeps,
    timeouts, and the pauses between the attempts of one renewal.
    """
    from .sandbox import MovableClock

    clock = MovableClock()
    monkeypatch.setattr("simplestore_async._core.clock.SYSTEM_CLOCK", clock)
    return clock


@pytest.fixture
def simplestore_sandbox(simplestore_clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A local SimpleStore (`simplestore_async.sandbox.Sandbox`) for one test, which its environment leads to.

    The variables `SIMPLESTORE_…` are those of the sandbox and no others, here and in processes that the test starts:
    `open_session()` without arguments reaches it. Proxies of the environment are not used for it. It runs in a thread
    of its own, so the test may be a coroutine or not; its methods may be called from any thread.
    """
    from .sandbox import Sandbox

    with Sandbox(clock=simplestore_clock) as sandbox:
        for name in [name for name in os.environ if name.startswith("SIMPLESTORE_")]:
            monkeypatch.delenv(name)
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        without_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if without_proxy != "*":
            monkeypatch.setenv("no_proxy", f"{without_proxy},127.0.0.1".lstrip(","))
        yield sandbox


@pytest.fixture
def simplestore_session(request: pytest.FixtureRequest) -> ClientSession:
    """An open `aiohttp.ClientSession` to `simplestore_sandbox`, as `open_session()` gives it.

    It is opened on the event loop of the test, which pytest-asyncio (in either mode, with whatever loop scope),
    pytest-aiohttp or anyio runs.
    """
    session: ClientSession = request.getfixturevalue(_name_of_session(request))
    return session


@pytest.fixture
async def _simplestore_session_of_anyio(simplestore_sandbox: Sandbox) -> AsyncIterator[ClientSession]:
    from . import open_session

    async with open_session(simplestore_sandbox.credentials, base_url=simplestore_sandbox.base_url) as session:
        yield session


def pytest_configure(config: pytest.Config) -> None:
    """Add what only pytest-asyncio can run, if it is there: now all plugins are known."""
    if _has_test_loop_scope(config):
        config.pluginmanager.register(_make_asyncio_fixtures(), "simplestore-asyncio")


def _has_test_loop_scope(config: pytest.Config) -> bool:
    try:
        config.getini(_TEST_LOOP_SCOPE)
    except ValueError:
        return False
    return True


def _make_asyncio_fixtures() -> ModuleType:
    """Return a plugin with a session for each event loop that pytest-asyncio may run a test on.

    A fixture of its strict mode must be made with its own decorator, which fixes the loop.
    """
    import pytest_asyncio

    plugin = ModuleType("simplestore_async's fixtures for pytest-asyncio")

    def add(loop_scope: _LoopScope) -> None:
        @pytest_asyncio.fixture(name=_name_for_loop(loop_scope), loop_scope=loop_scope)
        async def session(simplestore_sandbox: Sandbox) -> AsyncIterator[ClientSession]:
            from . import open_session

            async with open_session(simplestore_sandbox.credentials, base_url=simplestore_sandbox.base_url) as opened:
                yield opened

        setattr(plugin, loop_scope, session)

    for loop_scope in _LOOP_SCOPES:
        add(loop_scope)
    return plugin


def _name_for_loop(loop_scope: str) -> str:
    return f"_simplestore_session_of_{loop_scope}_loop"


def _name_of_session(request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that opens a session on the loop that runs the test."""
    if "anyio_backend" in request.fixturenames:
        return "_simplestore_session_of_anyio"
    if not _has_test_loop_scope(request.config):
        pytest.fail(
            "simplestore_session needs a test that pytest-asyncio 0.26 or later, pytest-aiohttp or anyio runs: "
            "install one of them, or use simplestore_sandbox alone, and open_session() in the test",
            pytrace=False,
        )
    marker = request.node.get_closest_marker("asyncio")
    loop_scope = marker.kwargs.get("loop_scope") if marker else None
    return _name_for_loop(loop_scope or request.config.getini(_TEST_LOOP_SCOPE))
