"""The pytest plugin: its fixtures, in this process and in pytest processes with other plugins."""

from __future__ import annotations

import asyncio
import os
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import aiohttp
import attrs
import pytest

from simplestore_async import ClientCredentials, Clock, MemoryTokenCache, TokenEndpoint, TokenProvider, open_session
from simplestore_async._core.clock import SYSTEM_CLOCK, SystemClock
from simplestore_async.opentelemetry import OpenTelemetryListener
from tests.support.tokens import make_token

if TYPE_CHECKING:
    from simplestore_async.sandbox import MovableClock, Sandbox

pytest_plugins = ["pytester"]

OURS = "simplestore_async._pytest_plugin"
ASYNCIO, ANYIO, AIOHTTP = "pytest_asyncio.plugin", "anyio.pytest_plugin", "pytest_aiohttp.plugin"
HOUR = 3600
CREDENTIALS = ClientCredentials(client_id="app", client_secret="s")


@attrs.frozen
class PytestProcess:
    """Pytest in a new process with only the named plugins."""

    pytester: pytest.Pytester

    def run(self, source: str, plugins: list[str], ini: str = "", *options: str) -> pytest.RunResult:
        self.pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}")
        self.pytester.makepyfile(source)
        return self.pytester.runpytest_subprocess(*(f"-p{name}" for name in plugins), *options)


@pytest.fixture
def pytest_process(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> PytestProcess:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return PytestProcess(pytester)


async def ask() -> int:
    """Send a request as a program does that is configured by its environment."""
    async with open_session() as session, session.get("orders") as response:
        return response.status


def read_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("SIMPLESTORE_")}


class TestSandbox:
    async def test_async_test(self, simplestore_sandbox: Sandbox) -> None:
        """In an async test the sandbox works and adds no tasks to the event loop."""
        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert 200 == await ask()
        assert 1 == simplestore_sandbox.counters.api_requests

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        """Set up the environment of a developer's machine before the sandbox starts."""
        for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "SIMPLESTORE_CLIENT_ID": "mine",
            "SIMPLESTORE_CLIENT_SECRET_FILE": "/run/secrets/mine",
            "SIMPLESTORE_SCOPE": "mine",
            "http_proxy": "http://proxy.invalid:3128",
        }.items():
            monkeypatch.setenv(name, value)
        return monkeypatch

    async def test_environment(self, machine: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        """The fixture removes other variables of the package, and even with `trust_env` no proxy is used."""
        sandbox: Sandbox = request.getfixturevalue("simplestore_sandbox")
        assert sandbox.environment == read_variables()
        async with open_session(trust_env=True) as session, session.get("orders") as response:
            assert 200 == response.status
        assert 1 == sandbox.counters.api_requests

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({}, "127.0.0.1"),
            ({"no_proxy": "a.example,b.example"}, "a.example,b.example,127.0.0.1"),
            ({"NO_PROXY": "c.example"}, "c.example,127.0.0.1"),
            ({"no_proxy": "*"}, "*"),
        ],
        ids=["unset", "lower case", "upper case", "every host"],
    )
    def test_no_proxy(
        self, machine: pytest.MonkeyPatch, request: pytest.FixtureRequest, before: dict[str, str], after: str
    ) -> None:
        """The fixture adds the sandbox's host to `no_proxy`."""
        for name, value in before.items():
            machine.setenv(name, value)
        request.getfixturevalue("simplestore_sandbox")
        assert after == os.environ["no_proxy"]


class TestClock:
    def test_advance(self, simplestore_clock: MovableClock) -> None:
        """The clock follows the system's; each advance() adds to both of its readings."""
        assert isinstance(simplestore_clock, Clock)
        assert SYSTEM_CLOCK.monotonic() <= simplestore_clock.monotonic() <= SYSTEM_CLOCK.monotonic()
        before, wall_before = SYSTEM_CLOCK.monotonic(), time.time()
        for seconds in (3600, 0, 0.5):
            simplestore_clock.advance(seconds)
        assert 3600.5 <= simplestore_clock.monotonic() - before < 3660
        assert 3540 < simplestore_clock.time() - wall_before < 3720

    async def test_provider_and_sandbox(self, simplestore_clock: MovableClock, simplestore_sandbox: Sandbox) -> None:
        """The clock applies to provider and sandbox, so a token expires in both at the same time."""
        async with TokenProvider() as provider, aiohttp.ClientSession() as session:
            token = await provider.get_token()
            headers = {"Authorization": token.authorization}
            for seconds, status in ((HOUR - 60, 200), (60, 401)):
                simplestore_clock.advance(seconds)
                async with session.get(simplestore_sandbox.base_url, headers=headers) as response:
                    assert status == response.status
            assert token != await provider.get_token()
        assert 2 == simplestore_sandbox.counters.tokens_issued

    async def test_cache(self, simplestore_clock: MovableClock) -> None:
        """The clock applies to a new MemoryTokenCache, even without the sandbox."""
        cache = MemoryTokenCache()
        now = simplestore_clock.time()
        await cache.set("key", make_token(issued_at=now, expires_at=now + HOUR))
        assert await cache.get("key") is not None
        simplestore_clock.advance(HOUR)
        assert await cache.get("key") is None

    def test_default_clock(self, simplestore_clock: MovableClock) -> None:
        """The fixture is the default clock, and an explicit one takes precedence."""
        own = SystemClock()
        assert simplestore_clock is TokenEndpoint(CREDENTIALS).clock
        assert simplestore_clock is OpenTelemetryListener()._last_token.clock
        assert own is TokenEndpoint(CREDENTIALS, clock=own).clock

    def test_without_the_fixture(self) -> None:
        """Without the fixture the default is the system clock."""
        assert SYSTEM_CLOCK is TokenEndpoint(CREDENTIALS).clock


STRICT = "asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function"
AUTO = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"

PROGRAM = """
import asyncio
import os
import time
import threading
import pytest
from simplestore_async import open_session

async def ask(session):
    async with session.get("orders") as response:
        assert 200 == response.status
"""

COROUTINES = """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@{mark}
async def test_session(simplestore_session, simplestore_sandbox):
    await ask(simplestore_session)
    assert 1 == simplestore_sandbox.counters.api_requests

@{mark}
async def test_sandbox(simplestore_sandbox, simplestore_clock):
    async with open_session() as session:
        await ask(session)
        simplestore_clock.advance(3600)
        await ask(session)
    assert 2 == simplestore_sandbox.counters.token_requests

def test_no_coroutine(simplestore_sandbox, monkeypatch):
    async def main():
        async with open_session() as session:
            await ask(session)

    asyncio.run(main())
    assert 1 == simplestore_sandbox.counters.api_requests
    monkeypatch.setenv("SIMPLESTORE_SCOPE", "of the test")

def test_nothing_is_left():
    variables = {{name: value for name, value in os.environ.items() if name.startswith("SIMPLESTORE_")}}
    assert {{"SIMPLESTORE_SCOPE": "mine"}} == variables
    assert "simplestore-sandbox" not in [thread.name for thread in threading.enumerate()]
"""

LOOPS = """
@pytest.mark.asyncio{arguments}
class Test{name}:
    loops = set()

    async def test_first(self, simplestore_session):
        self.loops.add(asyncio.get_running_loop())
        await ask(simplestore_session)

    async def test_second(self, simplestore_session):
        self.loops.add(asyncio.get_running_loop())
        await ask(simplestore_session)
        assert {loops} == len(self.loops)
"""

FIXTURE = """
import pytest_asyncio

@pytest_asyncio.fixture
async def shop(simplestore_session):
    await ask(simplestore_session)
    yield simplestore_session
    await ask(simplestore_session)

@pytest.mark.asyncio(loop_scope="function")
async def test_shop(shop):
    await ask(shop)
"""

TRIO = """
@pytest.fixture(params=["trio", ("trio", {})])
def anyio_backend(request):
    return request.param

@pytest.mark.anyio
async def test_session(simplestore_session): ...
"""

SHARED = """
async def main():
    async with open_session() as session:
        await ask(session)

@pytest.fixture(scope="session")
def program(simplestore_shared_sandbox):
    asyncio.run(main())
    return simplestore_shared_sandbox

def test_first(program):
    assert 1 == program.counters.api_requests

def test_own(program, simplestore_sandbox):
    asyncio.run(main())
    assert (1, 1) == (program.counters.api_requests, simplestore_sandbox.counters.api_requests)

def test_again(program, simplestore_shared_sandbox):
    asyncio.run(main())
    assert program is simplestore_shared_sandbox
    assert 2 == program.counters.api_requests

def test_without():
    asyncio.run(main())
"""

MODULES = """
import sys

def test_modules():
    loaded = {name for name in sys.modules if name.partition(".")[0] == "simplestore_async"}
    assert {"simplestore_async", "simplestore_async._pytest_plugin"} == loaded
    assert set() == {"aiohttp", "attr", "attrs", "cattrs", "filelock"} & set(sys.modules)
"""


class TestPlugins:
    @pytest.mark.parametrize(
        ("plugins", "ini", "mark"),
        [
            pytest.param([ASYNCIO], STRICT, "pytest.mark.asyncio", id="pytest-asyncio strict"),
            pytest.param([ASYNCIO], AUTO, "(lambda test: test)", id="pytest-asyncio auto"),
            pytest.param([ASYNCIO, AIOHTTP], AUTO, "(lambda test: test)", id="pytest-aiohttp"),
            pytest.param([ANYIO], "", "pytest.mark.anyio", id="anyio"),
            pytest.param([ANYIO, ASYNCIO], STRICT, "pytest.mark.anyio", id="anyio before pytest-asyncio"),
            pytest.param([ASYNCIO, ANYIO], STRICT, "pytest.mark.anyio", id="pytest-asyncio before anyio"),
        ],
    )
    @pytest.mark.slow
    def test_fixtures(
        self, pytest_process: PytestProcess, monkeypatch: pytest.MonkeyPatch, plugins: list[str], ini: str, mark: str
    ) -> None:
        """The fixtures work in async tests under each plugin and mode and in sync tests, and leave nothing behind."""
        monkeypatch.setenv("SIMPLESTORE_SCOPE", "mine")
        result = pytest_process.run(PROGRAM + COROUTINES.format(mark=mark), [OURS, *plugins], ini)
        result.assert_outcomes(passed=4)

    def test_loop_scopes(self, pytest_process: PytestProcess) -> None:
        """The session fixture is on the event loop of its test, whatever the loop scope."""
        scopes = {"function": 2, "class": 1, "module": 1, "package": 1, "session": 1}
        classes = [
            LOOPS.format(name=scope, arguments=f"(loop_scope='{scope}')", loops=scopes[scope]) for scope in scopes
        ]
        classes.append(LOOPS.format(name="Default", arguments="", loops=1))
        ini = f"{STRICT}\nasyncio_default_test_loop_scope = session"
        result = pytest_process.run(PROGRAM + "".join(classes) + FIXTURE, [OURS, ASYNCIO], ini)
        result.assert_outcomes(passed=13)

    def test_without_async_plugin(self, pytest_process: PytestProcess) -> None:
        """Without an async plugin the session fixture's error names some, and an unused plugin imports nothing."""
        source = MODULES + "\n\ndef test_session(simplestore_session): ..."
        result = pytest_process.run(source, ["simplestore"])
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(
            "simplestore_session needs pytest-asyncio 0.26 or later, pytest-aiohttp or anyio to run the test; install "
            "one of them, or use simplestore_sandbox and call open_session() in the test"
        )

    @pytest.mark.slow
    def test_trio(self, pytest_process: PytestProcess) -> None:
        """On trio the session fixture fails with an error that names asyncio."""
        result = pytest_process.run(PROGRAM + TRIO, [OURS, ANYIO])
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines("simplestore_session needs asyncio, and this test runs on trio; restrict it *")

    def test_shared_sandbox(self, pytest_process: PytestProcess) -> None:
        """The shared sandbox is the same for all tests, and a test may use its own sandbox in between."""
        pytest_process.run(PROGRAM + SHARED, [OURS]).assert_outcomes(passed=4)

    def test_is_installed(self) -> None:
        """Pytest finds the plugin through its entry point."""
        [entry_point] = entry_points(group="pytest11", name="simplestore")
        assert OURS == entry_point.value


CONTRACT = """
import pytest, pytest_asyncio
from simplestore_async.testing import TokenCacheContract

class MyCache:
    def __init__(self):
        self.tokens = {}

    async def get(self, key):
        return self.tokens.get(key)

    async def set(self, key, token):
        self.tokens[key] = token

class TestMyCache(TokenCacheContract):
    @pytest.fixture
    def cache(self):
        return MyCache()

class TestMyOpenedCache(TokenCacheContract):
    @pytest_asyncio.fixture
    async def cache(self):
        yield MyCache()
"""

NO_CACHE = """
from simplestore_async.testing import TokenCacheContract

class TestNothing(TokenCacheContract):
    pass
"""


@pytest.mark.slow
class TestContract:
    @pytest.mark.parametrize("ini", [STRICT, AUTO], ids=["strict", "auto"])
    def test_sound_cache(self, pytest_process: PytestProcess, ini: str) -> None:
        """A sound cache passes every test in either mode, with a sync or an async fixture."""
        outcomes = pytest_process.run(CONTRACT, [OURS, ASYNCIO], ini).parseoutcomes()
        assert {"passed"} == outcomes.keys()
        assert outcomes["passed"] >= 50

    def test_no_cache(self, pytest_process: PytestProcess) -> None:
        """A subclass without a cache gets an error that says so."""
        result = pytest_process.run(NO_CACHE, [OURS, ASYNCIO], STRICT, "-k", "test_what_is_set_is_got")
        result.assert_outcomes(errors=3)
        result.stdout.fnmatch_lines("*cache is not defined by TestNothing; give it a fixture that returns a cache")
