"""`BearerAuthMiddleware`: which requests carry the token; `BearerContract` has redirects to other ports and back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from simplestore_async import BearerAuthMiddleware, TokenProvider
from simplestore_async.errors import ConfigurationError
from tests.support.api_requests import ListSource, OneToken, authorizations, fetch
from tests.support.api_servers import authorized_session, echo_websocket, redirecting
from tests.support.resolver import LocalResolver
from tests.support.servers import ApiServer
from tests.support.tls import private_ca

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netrc file with a password for the API's host."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password password")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


class TestOrigins:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp 3.14 deprecates auth=, which still works
    @pytest.mark.parametrize(
        ("session_options", "options", "userinfo"),
        [
            ({"headers": {"authorization": "Bearer mine"}}, {}, ""),
            ({}, {"headers": [("Authorization", "Bearer mine"), ("authorization", "Bearer mine too")]}, ""),
            ({}, {"auth": None}, ""),
            ({"auth": None}, {}, ""),
            ({}, {}, "me:password@"),
            ({"trust_env": True}, {}, ""),
        ],
        ids=["session", "twice", "auth", "session-auth", "userinfo", "netrc"],
    )
    async def test_replaced(
        self,
        api_server: ApiServer,
        netrc: None,
        *,
        session_options: dict[str, Any],
        options: dict[str, Any],
        userinfo: str,
    ) -> None:
        """Inside the origins the caller's Authorization is replaced, wherever it comes from."""
        for given in (session_options, options):
            if "auth" in given:
                given["auth"] = aiohttp.BasicAuth("me", "password")
        url = api_server.url.replace("http://", f"http://{userinfo}")
        async with authorized_session(OneToken(), api_server.url, **session_options) as session:
            await fetch(session, url, **options)

        assert [["Bearer own-token"]] == authorizations(api_server)

    async def test_outside(self, api_server: ApiServer) -> None:
        """A request to another origin is sent unchanged, and its 401 causes no renewal."""
        api_server.rejected.add("mine")
        async with authorized_session(ListSource(), "https://api.example") as session:
            status, _ = await fetch(session, api_server.url, headers={"Authorization": "Bearer mine"})

        assert (401, ["mine"]) == (status, api_server.tokens)

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    async def test_websocket(self, scheme: str) -> None:
        """A WebSocket handshake to an allowed origin carries the token and is replayed after a 401."""
        context = private_ca().server if scheme == "wss" else None
        connector = aiohttp.TCPConnector(ssl=private_ca().client)
        async with (
            ApiServer(ssl_context=context) as api_server,
            authorized_session(ListSource("first", "second"), api_server.url, connector=connector) as session,
        ):
            api_server.rejected.add("first")
            reject = api_server.handler
            api_server.handler = lambda request: (
                echo_websocket(request) if request.headers["Authorization"] == "Bearer second" else reject(request)
            )
            async with session.ws_connect(f"{scheme}://127.0.0.1:{api_server.port}/events") as websocket:
                await websocket.send_str("hello")
                echo = await websocket.receive_str()

        assert ("hello", ["first", "second"]) == (echo, api_server.tokens)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("origins", ["https://other.example", "https://me:hunter2@api.example"]),
            ("source", None),
            ("source", TokenProvider),
            ("source", SimpleNamespace(get_token=len)),
            ("source", SimpleNamespace(invalidate=len)),
            ("allow_insecure_http", "false"),
            *(("is_rejected", value) for value in ("419", lambda status: status == 419, ListSource.get_token)),
        ],
    )
    async def test_wrong_argument(self, field: str, value: Any) -> None:
        """The constructor refuses a wrong argument without showing a password."""
        arguments: dict[str, Any] = {"source": OneToken(), "origins": "https://api.example"}
        with pytest.raises(ConfigurationError) as caught:
            BearerAuthMiddleware(**arguments | {field: value})

        assert field == caught.value.field
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_other_host(api_server: ApiServer, host: str, status: int) -> None:
    """A redirect to another host name carries no token, even on the same machine and port."""
    url = f"http://{host}:{api_server.port}/stolen"
    api_server.handler = redirecting(api_server, {"/a": url}, status=status)
    connector = aiohttp.TCPConnector(resolver=LocalResolver())
    async with authorized_session(OneToken(), api_server.url, connector=connector) as session:
        await fetch(session, f"{api_server.url}/a", headers={"Authorization": "Bearer mine"})

    assert ["own-token", None] == api_server.tokens
