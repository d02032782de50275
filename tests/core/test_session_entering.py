"""`open_session()`: entering, closing and misuse."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import pytest

from simplestore_async import TokenProvider, open_session
from simplestore_async.errors import ConfigurationError, ProviderClosedError
from tests.support.api_requests import OneToken, get
from tests.support.tls import private_ca
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async.sandbox import Sandbox

T = TypeVar("T")
API = "https://api.example"


def alive(kind: type[T]) -> list[T]:
    return [each for each in gc.get_objects() if type(each) is kind]


class TestClosing:
    @pytest.mark.parametrize("error", [None, asyncio.CancelledError])
    async def test_closes_session(self, sandbox: Sandbox, error: type[BaseException] | None) -> None:
        """Leaving the block closes the session, and an exception propagates."""
        with nullcontext() if error is None else pytest.raises(error):
            async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
                await get(session, "items")
                if error is not None:
                    raise error

        assert session.closed

    async def test_closes_provider(self, sandbox: Sandbox) -> None:
        """Leaving the block closes the provider that it created, and requests that wait for a token fail."""
        held = sandbox.token_endpoint.hold()
        async with open_session(sandbox.credentials, base_url=sandbox.base_url) as session:
            request = asyncio.create_task(get(session, "items"))
            await held.wait_for_requests()
        with pytest.raises(ProviderClosedError):
            await request
        held.release()

        assert () == sandbox.api.requests

    @pytest.mark.parametrize("ssl", [None, private_ca().client])
    @pytest.mark.parametrize(
        "option", [{"timeout": "soon"}, {"headers": 5}, {"trace_configs": [object()]}, {"cookies": {"path": "/"}}]
    )
    async def test_refused_option(self, sandbox: Sandbox, option: dict[str, Any], ssl: Any) -> None:
        """An option that `aiohttp.ClientSession` refuses raises a ConfigurationError and leaves nothing open."""
        connectors, providers = alive(aiohttp.TCPConnector), alive(TokenProvider)
        with pytest.raises(ConfigurationError, match=r"^open_session\(\) has an option that aiohttp refuses") as caught:
            async with open_session(sandbox.credentials, base_url=API, ssl=ssl, **option):
                pass
        left_open = [each for each in alive(aiohttp.TCPConnector) if each not in connectors and not each.closed]
        for connector in left_open:
            await connector.close()

        assert [] == left_open
        for provider in alive(TokenProvider):
            if provider not in providers:
                with pytest.raises(ProviderClosedError):
                    await provider.get_token()
        del caught  # its traceback references the objects above

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("middlewares", value) for value in ("retry", [None], [print, object])),
            ("connector", 5),
            *((name, "false") for name in ("trust_env", "allow_insecure_http", "connector_owner")),
            *(("request_class", value) for value in (dict, lambda: None)),
            *(("auto_decompress", 0), ("raise_for_status", 1), ("read_bufsize", 0), ("max_headers", 1.5)),
            *(("requote_redirect_url", None), ("json_serialize", None), ("version", "1.1")),
            *(("cookie_jar", aiohttp.CookieJar), ("auth", ("user", "password"))),
            *(("skip_auto_headers", "User-Agent"), ("fallback_charset_resolver", "utf-8")),
        ],
    )
    async def test_wrong_type(self, option: str, value: Any) -> None:
        """An option of the wrong type that aiohttp would accept is refused by name."""
        with pytest.raises(ConfigurationError) as caught:
            open_session(OneToken(), base_url=API, **{option: value})

        assert option == caught.value.field


class TestEntering:
    @pytest.mark.parametrize("is_open", [False, True])
    async def test_twice(self, *, is_open: bool) -> None:
        """Entering a second time is refused with a hint and does not affect the session."""
        opening = open_session(OneToken(), base_url=API)
        async with opening as session:
            if is_open:
                with pytest.raises(ConfigurationError, match=r"entered before; call open_session"):
                    await opening.__aenter__()
                assert not session.closed
        with pytest.raises(ConfigurationError, match=r"entered before; call open_session"):
            async with opening:
                pass

        assert session.closed

    async def test_closed_connector(self) -> None:
        """A closed connector is refused by name."""
        async with aiohttp.TCPConnector() as connector:
            pass
        with pytest.raises(ConfigurationError, match=r"^connector is closed"):
            async with open_session(OneToken(), base_url=API, connector=connector):
                pass


class TestProvider:
    async def test_of_credentials(self, sandbox: Sandbox) -> None:
        """`provider` is the session's own provider, for health checks and `invalidate()`."""
        opening = open_session(sandbox.credentials, base_url=sandbox.base_url)
        async with opening as session:
            token = await opening.provider.get_token()
            assert opening.provider.invalidate(token)
            status = await get(session, "orders")

        assert (200, 2) == (status, sandbox.counters.token_requests)
        assert isinstance(opening.provider, TokenProvider)

    async def test_of_a_source(self) -> None:
        """`provider` is the source that was passed."""
        source = OneToken()

        assert source is open_session(source, base_url=API).provider


async def _await() -> Any:
    return await open_session(OneToken(), base_url=API)  # type: ignore[misc]  # the mistake under test


def _with() -> None:
    with open_session(OneToken(), base_url=API):  # type: ignore[attr-defined]  # the mistake under test
        pass


MISUSES: dict[str, Callable[[], Any]] = {
    "await": lambda: _await().send(None),
    "with": _with,
    "get": lambda: open_session(OneToken(), base_url=API).get("items"),  # type: ignore[attr-defined]  # a mistake
    "close": lambda: open_session(OneToken(), base_url=API).close(),  # type: ignore[attr-defined]  # a mistake
}


class TestMisuse:
    @pytest.mark.parametrize("name", MISUSES)
    def test_not_entered(self, name: str) -> None:
        """Any use other than `async with` raises an error that shows the correct form."""
        with pytest.raises(
            ConfigurationError, match=r"^open_session\(\) .*; write `async with open_session\(…\) as session:`$"
        ):
            MISUSES[name]()

    def test_attributes(self) -> None:
        """`hasattr()` is False for a session's attributes, and an unknown attribute raises a plain AttributeError."""
        opening = open_session(OneToken(), base_url=API)

        assert not hasattr(opening, "get")
        assert not hasattr(opening, "no_such_attribute")
        with pytest.raises(AttributeError, match=r"^'open_session' object has no attribute 'no_such_attribute'$"):
            opening.no_such_attribute  # type: ignore[attr-defined]  # noqa: B018 - the access is the test

    @pytest.mark.parametrize(
        ("options", "hint"),
        [
            ({"client_id": "id", "client_secret": "canary"}, "write open_session(ClientCredentials("),
            ({"client_secret": "canary", "client_id": "id"}, "write open_session(ClientCredentials("),
            ({"credentials": "canary"}, "write open_session(credentials)"),
            ({"endpoint": None}, "write open_session(TokenProvider(endpoint=…))"),
            ({"proxy_auth": "canary"}, "write user name and password into the URL"),
            ({"verify_ssl": False}, "for a private CA"),
            ({"raise_for_statu": True}, "did you mean raise_for_status=?"),
            ({"timeouts": True}, "did you mean timeout=?"),
            ({"on_even": None}, "did you mean on_event=?"),
            ({"quite_different": True}, ""),
        ],
        ids=[
            *("credentials", "secret first", "credentials by name", "endpoint", "proxy_auth", "verify_ssl"),
            *("misspelt", "plural", "own", "unknown"),
        ],
    )
    def test_unknown_option(self, options: dict[str, Any], hint: str) -> None:
        """An unknown option is refused by name, with a hint if one applies."""
        with pytest.raises(ConfigurationError) as caught:
            open_session(OneToken(), base_url=API, **options)

        assert next(iter(options)) == caught.value.field
        assert hint in caught.value.hint
        assert "canary" not in everything_shown(caught.value)

    @pytest.mark.parametrize("arguments", [("id", "canary"), ("id", "canary", "https://token.example")])
    def test_positional(self, arguments: tuple[Any, ...]) -> None:
        """Client id and secret as positional arguments are refused with the correct form and are not shown."""
        with pytest.raises(ConfigurationError, match=r"write open_session\(ClientCredentials\(") as caught:
            open_session(*arguments)

        assert "canary" not in everything_shown(caught.value)

    async def test_types(self) -> None:
        """A type checker reports wrong options: mypy's `warn_unused_ignores` fails if one of these is none."""
        async with open_session(OneToken(), base_url=API, headers={"X-Tag": "1"}, raise_for_status=True) as session:
            typed: aiohttp.ClientSession = session
        open_session(OneToken(), base_url=API, timeout=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            open_session(OneToken(), base_url=API, raise_for_statu=True)  # type: ignore[call-arg]
        with pytest.raises(ConfigurationError):
            open_session(OneToken(), "secret")  # type: ignore[arg-type]

        assert typed.closed
