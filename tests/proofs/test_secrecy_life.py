"""Logs, events, names and waiting tasks of a program show neither the secret nor a token."""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import FileTokenCache, events
from tests.support.secrecy import (
    WAYS,
    Scene,
    live_a_life,
    read_secret,
    read_secret_slowly,
    show_every_step,
    shows_canary,
    write_secret,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clocks import FakeClock


class TestLife:
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({}, id="form"),
            pytest.param({"auth_method": "client_secret_basic"}, id="basic"),
            pytest.param({"client_secret": read_secret}, id="callable", marks=pytest.mark.slow),
            pytest.param({"client_secret": read_secret_slowly}, id="coroutine", marks=pytest.mark.slow),
            pytest.param({"client_secret": partial(read_secret_slowly)}, id="partial", marks=pytest.mark.slow),
            pytest.param({"client_secret": write_secret}, id="file"),
        ],
    )
    async def test_logs(
        self,
        scene: Scene,
        clock: FakeClock,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        changes: dict[str, Any],
    ) -> None:
        """With all loggers at DEBUG and asyncio in debug mode, no canary is logged or printed."""
        show_every_step(caplog)
        if changes.get("client_secret") is write_secret:
            changes = {"client_secret": write_secret(scene.tmp_path / "secret")}
        await live_a_life(scene, clock, [], **changes)

        assert "took 0.000 seconds" in caplog.text
        assert "simplestore_async" in caplog.text
        assert [] == [line for line in caplog.text.splitlines() if shows_canary(line)]
        assert ("", "") == capfd.readouterr()

    async def test_events(self, scene: Scene, clock: FakeClock) -> None:
        """No event shows a canary in any representation."""
        received: list[events.Event] = []
        await live_a_life(scene, clock, received)

        kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
        assert kinds == {type(event).__name__ for event in received}
        assert [] == [event for event in received for show in WAYS.values() if shows_canary(show(event))]

    async def test_names(self, scene: Scene, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names of threads, tasks and files contain no canary, and the environment is unchanged."""
        monkeypatch.chdir(scene.tmp_path)
        environment = dict(os.environ)
        names: set[str] = set()

        def read() -> str:
            names.update(thread.name for thread in threading.enumerate())
            return read_secret()

        def listen(event: events.Event) -> None:
            names.update(repr(task) for task in asyncio.all_tasks())

        credentials = scene.token_server.credentials(client_secret=read)
        cache = FileTokenCache(scene.tmp_path / "tokens")
        async with scene.token_server.provider(credentials=credentials, cache=cache, on_event=listen) as provider:
            await provider.get_token()
            names.update(thread.name for thread in threading.enumerate())
        names.update(str(path) for path in scene.tmp_path.rglob("*"))

        assert {"simplestore-cache", "simplestore-secret"} <= {name.partition("_")[0] for name in names}
        assert [] == [name for name in names if shows_canary(name)]
        assert environment == dict(os.environ)


def frames_of(task: asyncio.Task[Any]) -> Iterator[tuple[Any, int]]:
    """Yield the frames of a waiting task, outermost first, with their lines."""
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        frame = next(filter(None, (getattr(awaitable, f"{kind}_frame", None) for kind in ("cr", "gi", "ag"))), None)
        if frame is not None:
            yield frame, frame.f_lineno
        awaitable = next(
            filter(None, (getattr(awaitable, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))), None
        )


def dump_of_waiting_tasks() -> list[str]:
    """Return the stacks of all tasks but the servers', with locals, as debuggers and watchdogs show them."""
    dumps: list[str] = []
    for task in asyncio.all_tasks():
        frames = list(frames_of(task))
        if not any(
            "web_protocol" in frame.f_code.co_filename or "servers.py" in frame.f_code.co_filename
            for frame, _ in frames
        ):
            dumps += traceback.StackSummary.extract(iter(frames), capture_locals=True).format()
    return dumps


async def ask(session: aiohttp.ClientSession) -> None:
    async with session.post("/", json={}) as response:
        await response.read()


class TestWaiting:
    @pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
    async def test_token_request(self, scene: Scene, auth_method: str) -> None:
        """While a token request is in flight, no frame of any task shows the secret."""
        scene.token_server.gate.clear()
        task = asyncio.create_task(
            scene.get_token(scene.credentials(auth_method=auth_method, client_secret=read_secret))
        )
        await scene.token_server.arrived.wait()
        dumps = dump_of_waiting_tasks()
        scene.token_server.gate.set()
        await task

        assert any("endpoint.py" in line for line in dumps)
        assert [] == [line for line in dumps if shows_canary(line)]

    async def test_api_request(self, scene: Scene) -> None:
        """While an API request is in flight, no frame of any task shows the token."""
        may_answer = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            await may_answer.wait()
            return web.Response()

        scene.api_server.handler = handle
        async with scene.session() as session:
            task = asyncio.create_task(ask(session))
            await scene.api_server.arrived.wait()
            dumps = dump_of_waiting_tasks()
            task.cancel()  # aiohttp cannot continue with a response whose repr was taken
            await asyncio.wait([task])
            may_answer.set()

        assert any("middleware.py" in line for line in dumps)
        assert [] == [line for line in dumps if shows_canary(line)]
