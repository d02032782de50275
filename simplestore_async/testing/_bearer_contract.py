"""Test suite for HTTP adapters. Rule: each test checks one guarantee, which its assertions name."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pprint import pformat
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import pytest

from simplestore_async.errors import ConfigurationError, TokenError

from ._bearer_server import ApiServer, ReceivedRequest, TokenList, bearer
from ._running import check, check_equal, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from simplestore_async import TokenSource

__all__ = ["BearerContract", "BearerResponse"]

_PARTS: Final = b"one " * 5000, b"two " * 5000
_BODY: Final = b"".join(_PARTS)
_WHOLE: Final = b"first last"


@attrs.frozen(kw_only=True)
class BearerResponse:
    """Response of a client, for the contract.

    Args:
        status: the HTTP status.
        read: a coroutine function that reads the body to its end.
        shown: objects that the client returns to its caller, such as the response and its request.
    """

    status: int
    read: Callable[[], Awaitable[bytes]]
    shown: Sequence[object]


class BearerContract:
    """Test that an adapter gives its HTTP client the guarantees of `BearerAuthMiddleware`.

    Subclass it with two async context managers: one opens a client that follows redirects, the other sends a request::

        class TestMyAdapter(BearerContract):
            @asynccontextmanager
            async def open_client(self, source, origins):
                transport = BearerTransport(source, origins=origins)
                async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as client:
                    yield client

            @asynccontextmanager
            async def send(self, client, method, url, body):
                async with client.stream(method, url, content=body) as response:
                    yield BearerResponse(
                        status=response.status_code, read=response.aread, shown=[response, response.request]
                    )

    Requires pytest-asyncio, in either mode. The servers are real ones, on loopback.

    Attributes:
        patience_seconds: time limit of an operation, after which it counts as hanging.
    """

    patience_seconds: ClassVar[float] = 10.0

    def open_client(self, source: TokenSource, origins: Sequence[str]) -> AbstractAsyncContextManager[Any]:
        """Open a client that puts the tokens of *source* on requests to *origins*, and follows redirects."""
        del source, origins
        raise self._missing("open_client")

    def send(
        self, client: Any, method: str, url: str, body: bytes | AsyncIterable[bytes] | None
    ) -> AbstractAsyncContextManager[BearerResponse]:
        """Send a request with this body, as a stream if it is an async iterable; the response is not read yet."""
        del client, method, url, body
        raise self._missing("send")

    @pytest.mark.asyncio
    async def test_origin(self) -> None:
        """A request to one of the origins carries one token."""
        async with ApiServer() as api:
            check_equal(200, await self._fetch(TokenList([1]), api), "a request with a token gets a response")

            check_equal([(bearer(1),)], api.authorizations, "a request to an origin carries one token")

    @pytest.mark.asyncio
    async def test_other_origin(self) -> None:
        """A request to another port of the same host carries no token, and needs none."""
        async with ApiServer() as api, ApiServer() as other:
            check_equal(200, await self._fetch(TokenList([]), other, origins=[api.origin]), "other requests are sent")

            check_equal([()], other.authorizations, "a request to another origin carries no token")

    @pytest.mark.asyncio
    async def test_redirects(self) -> None:
        """A redirect to another origin carries no token, and one back to the origin does."""
        async with ApiServer() as api, ApiServer() as other:
            api.redirects["/"] = f"{other.origin}/away"
            other.redirects["/away"] = f"{api.origin}/back"
            check_equal(200, await self._fetch(TokenList([1, 2]), api), "redirects are followed")

            check_equal([()], other.authorizations, "no token follows a redirect to another origin")
            check_equal(
                [(bearer(1),), (bearer(2),)], api.authorizations, "a redirect back to an origin carries a token"
            )

    @pytest.mark.asyncio
    async def test_redirect_into_origin(self) -> None:
        """A redirect from elsewhere to one of the origins gets the token."""
        async with ApiServer() as api, ApiServer() as other:
            other.redirects["/"] = f"{api.origin}/"
            await self._fetch(TokenList([1]), other, origins=[api.origin])

            check_equal([(bearer(1),)], api.authorizations, "a redirect to an origin carries a token")

    @pytest.mark.asyncio
    async def test_without_token(self) -> None:
        """Without a token the request is not sent, and the source's error is raised."""
        async with ApiServer() as api:
            with pytest.raises(TokenError):
                await self._fetch(TokenList([]), api)

            check(not api.requests, "without a token the request is not sent")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("body", [None, b"", _BODY], ids=["no body", "empty", "bytes"])
    async def test_replay(self, body: bytes | None) -> None:
        """After a rejection the request is resent once: with another token, and otherwise the same."""
        source = TokenList([1, 2, 3])
        async with ApiServer() as api:
            api.rejected.add(bearer(1))
            check_equal(
                200, await self._fetch(source, api, body=body), "the response to the second request is returned"
            )

            sent = ReceivedRequest("POST", "/", (bearer(1),), body or b"")
            check_equal(
                [sent, attrs.evolve(sent, authorizations=(bearer(2),))],
                api.requests,
                "the second request is the first, byte for byte, but for its token",
            )
            check_equal([bearer(1)], source.invalidated, "the rejected token is invalidated")

    @pytest.mark.asyncio
    async def test_second_rejection(self) -> None:
        """A second rejection is returned, and its token is invalidated."""
        source = TokenList([1, 2, 3])
        async with ApiServer() as api:
            api.rejected |= {bearer(1), bearer(2)}
            check_equal(401, await self._fetch(source, api), "a second rejection is returned")

            check_equal([(bearer(1),), (bearer(2),)], api.authorizations, "a request is sent twice at most")
            check_equal([bearer(1), bearer(2)], source.invalidated, "each rejected token is invalidated")

    @pytest.mark.asyncio
    async def test_same_token(self) -> None:
        """If the source returns the rejected token again, the request fails and is not resent."""
        async with ApiServer() as api:
            api.rejected.add(bearer(1))
            with pytest.raises(TokenError):
                await self._fetch(TokenList([1, 1]), api)

            check_equal(1, len(api.requests), "a request is not resent with the rejected token")

    @pytest.mark.asyncio
    async def test_source_decides(self) -> None:
        """If `invalidate()` returns False, the rejection is returned."""
        async with ApiServer() as api:
            api.rejected.add(bearer(1))
            check_equal(401, await self._fetch(TokenList([1, 2], may_replace=False), api), "the rejection is returned")

            check_equal(1, len(api.requests), "a request is resent only if invalidate() returns True")

    @pytest.mark.asyncio
    async def test_stream(self) -> None:
        """A body that can be read only once is sent once; its rejection is returned, and the token invalidated."""
        source = TokenList([1, 2])
        async with ApiServer() as api:
            api.rejected.add(bearer(1))
            check_equal(401, await self._fetch(source, api, body=_stream()), "the rejection of a stream is returned")

            check_equal([_BODY], [request.body for request in api.requests], "a stream is sent once, and whole")
            check_equal(
                [bearer(1)], source.invalidated, "a rejected token is invalidated even if the request is not resent"
            )

    @pytest.mark.asyncio
    async def test_forbidden(self) -> None:
        """A 403 without a challenge is not a rejection: it is returned, and the token stays."""
        source = TokenList([1, 2])
        async with ApiServer() as api:
            check_equal(403, await self._fetch(source, api, path="/forbidden"), "a 403 is returned")

            check_equal((1, 0), (len(api.requests), len(source.invalidated)), "a 403 does not invalidate the token")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("status", [200, 401])
    async def test_unread(self, status: int) -> None:
        """The caller gets a response unread, as soon as it starts."""
        async with (
            ApiServer() as api,
            self.open_client(TokenList([1], may_replace=False), [api.origin]) as client,
            within(self.patience_seconds, "a response is returned unread, before its body has ended"),
        ):
            api.rejected |= {bearer(1)} if status == 401 else set()
            async with self.send(client, "GET", f"{api.origin}/slow", None) as response:
                api.may_end.set()
                check_equal((status, _WHOLE), (response.status, await response.read()), "a response is returned unread")

    @pytest.mark.asyncio
    async def test_shows_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """Response, request and logs show no token, including after a rejection and a redirect."""
        caplog.set_level(logging.DEBUG)
        async with ApiServer() as api, self.open_client(TokenList([1, 2, 3]), [api.origin]) as client:
            api.rejected.add(bearer(1))
            api.redirects["/from"] = f"{api.origin}/to"
            async with self.send(client, "GET", f"{api.origin}/from", None) as response:
                await response.read()
                texts = [text for each in response.shown for text in _show(each)]

        check("canary" not in "\n".join(texts), "a response and its request do not show the token")
        check("canary" not in caplog.text, "logs do not show the token")

    @pytest.mark.asyncio
    async def test_errors_show_nothing(self) -> None:
        """A traceback with locals of a failed request shows no token."""
        async with ApiServer() as api:
            with pytest.raises(Exception) as failure:  # noqa: PT011 - each client has its own errors
                await self._fetch(TokenList([1, 2]), api, path="/reset")

        check("canary" not in _show_error(failure.value), "an error and its traceback do not show the token")

    async def _fetch(
        self,
        source: TokenList,
        api: ApiServer,
        *,
        origins: Sequence[str] = (),
        path: str = "/",
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> int:
        """POST to *api*, read the response, and return its status."""
        async with (
            within(self.patience_seconds, "a request ends"),
            self.open_client(source, origins or [api.origin]) as client,
            self.send(client, "POST", api.origin + path, body) as response,
        ):
            content = await response.read()
            check_equal(_WHOLE, content, "the body of a response is whole")
            return response.status

    def _missing(self, method: str) -> ConfigurationError:
        name = type(self).__name__
        return ConfigurationError(name, f"has no {method}()", f"define it in {name}, as BearerContract shows")


async def _stream() -> AsyncIterator[bytes]:
    for part in _PARTS:
        yield part


def _show(value: object) -> list[str]:
    fields = getattr(value, "__dict__", {})
    return [repr(value), str(value), pformat(value), repr(fields), *map(pformat, fields.values())]


def _show_error(error: BaseException) -> str:
    """Return the text of a traceback with locals of *error* and its causes, without the contract's frames."""
    texts: list[str] = []
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        texts += _show(each)
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        texts += [repr(frame.f_locals) for frame in frames if frame.f_globals.get("__name__") != __name__]
        todo += [each.__cause__, each.__context__]
    return "\n".join(texts)
