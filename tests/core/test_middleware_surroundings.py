"""`BearerAuthMiddleware` with proxies, certificates and traces of aiohttp, none of which shows the token."""

from __future__ import annotations

import errno
import ssl
import traceback
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async._core.tracebacks import clear_frames
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import ListSource, OneToken, fetch
from tests.support.api_servers import ConnectProxy, authorized_session
from tests.support.servers import ApiServer
from tests.support.tls import private_ca
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import FrameType


UNCHECKED_NAME = ssl.create_default_context()
UNCHECKED_NAME.check_hostname = False


class TestSurroundings:
    @pytest.mark.parametrize("where", ["session", "request", "environment"])
    async def test_http_proxy(self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        """A plain-http request through a proxy is refused even for loopback, and reaches neither proxy nor API."""
        async with ConnectProxy() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            async with authorized_session(
                OneToken(),
                api_server.url,
                proxy=proxy.url if where == "session" else None,
                trust_env=where == "environment",
            ) as session:
                with pytest.raises(ConfigurationError, match=f"plain http to {api_server.url}") as caught:
                    await session.get(api_server.url, proxy=proxy.url if where == "request" else None)

            assert "proxy" == caught.value.field
            assert ([], []) == (proxy.heads, api_server.requests)


class TestCertificates:
    @pytest.mark.filterwarnings("ignore:verify_ssl is deprecated", "ignore:ssl_context is deprecated")
    @pytest.mark.parametrize(
        ("connector", "options"),
        [
            ({"ssl": False}, {}),
            ({}, {"ssl": False}),
            ({}, {"verify_ssl": False}),
            ({}, {"ssl_context": UNCHECKED_NAME}),
        ],
        ids=["connector", "ssl", "verify_ssl", "ssl_context"],
    )
    async def test_not_verifying(self, connector: dict[str, Any], options: dict[str, Any]) -> None:
        """A request that would not verify the certificate is refused before a token is requested."""
        url = "https://api.example"
        connection = aiohttp.TCPConnector(**connector)
        async with authorized_session(ListSource(), url, connector=connection) as session:
            with pytest.raises(ConfigurationError) as caught:
                await session.get(url, **options)

        assert "certificates-not-checked" == caught.value.code

    async def test_outside(self) -> None:
        """Outside the origins a request may skip verification, since it carries no token."""
        async with (
            ApiServer(ssl_context=private_ca().server) as api_server,
            authorized_session(ListSource(), "https://api.example") as session,
        ):
            status, _ = await fetch(session, api_server.url, ssl=False)

        assert 401 == status


class TestSecrecy:
    async def test_trace(self, api_server: ApiServer) -> None:
        """No aiohttp trace hook shows the token, not even the one for the headers sent."""
        shown: list[str] = []

        async def show(session: object, context: object, params: object) -> None:
            shown.append(repr(params))

        trace_config = aiohttp.TraceConfig()
        for name in dir(trace_config):
            if name.startswith("on_"):
                getattr(trace_config, name).append(show)
        api_server.rejected.add("canary-token-1")
        source = ListSource("canary-token-1", "canary-token-2")
        async with authorized_session(source, api_server.url, trace_configs=[trace_config]) as session:
            await fetch(session, api_server.url, "POST", data=b"body")

        assert 2 == sum("'Authorization': '***'" in each for each in shown)
        assert "canary" not in "".join(shown)


async def _failing_generator() -> AsyncIterator[bytes]:
    mine = "visible"
    raise ZeroDivisionError(mine)
    yield b""


class _FailingPayload(aiohttp.BytesPayload):
    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        raise OSError(errno.EIO, "disk on fire")


def _frames_of(error: BaseException | None) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__ if error else None)]


class TestTracebacks:
    def test_members_of_a_group(self) -> None:
        """The locals of HTTP clients' frames are cleared in the members of an exception group, too."""
        code: dict[str, Any] = {"__name__": "httpcore.fake"}
        exec("def send(token):\n    raise OSError", code)  # noqa: S102 - a frame of a module with this name
        with pytest.raises(OSError) as caught:
            code["send"]("canary-token")
        group = ExceptionGroup("two attempts", [caught.value])
        assert "canary" in everything_shown(caught.value)
        clear_frames(group)
        assert "canary" not in everything_shown(caught.value)

    @pytest.mark.parametrize(
        ("options", "cause"),
        [
            (lambda: {"data": _failing_generator()}, ZeroDivisionError),
            (lambda: {"data": _FailingPayload(b"body")}, OSError),
            (lambda: {"headers": {"X-Header": "a\nb"}}, None),
        ],
        ids=["failing generator", "failing payload", "header of two lines"],
    )
    async def test_failing_body(
        self, api_server: ApiServer, options: Callable[[], dict[str, Any]], cause: type[BaseException] | None
    ) -> None:
        """The traceback of an error in writing a request keeps the cause and the caller's locals but shows no token."""
        async with authorized_session(ListSource("canary-token"), api_server.url) as session:
            with pytest.raises((aiohttp.ClientError, ValueError)) as caught:
                await session.post(api_server.url, **options())

        assert "canary" not in everything_shown(caught.value)
        assert any("aiohttp" in frame.f_code.co_filename for frame in _frames_of(caught.value))
        assert cause is None or isinstance(caught.value.__cause__, cause)
        if cause is ZeroDivisionError:
            assert any(frame.f_locals.get("mine") == "visible" for frame in _frames_of(caught.value.__cause__))
