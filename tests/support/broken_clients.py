"""A plain HTTP client with optional flaws, which `BearerContract` must find."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import httpx2

from simplestore_async.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simplestore_async import AccessToken, TokenSource

# The flaw, the test that finds it, and the arguments of that test.
FLAWS: list[tuple[str, str, dict[str, Any]]] = [
    ("sends nothing", "test_origin", {}),
    ("sends two", "test_origin", {}),
    ("sends everywhere", "test_other_origin", {}),
    ("needs a token everywhere", "test_other_origin", {}),
    ("sends everywhere", "test_redirects", {}),
    ("forgets the way back", "test_redirects", {}),
    ("forgets the way back", "test_redirect_into_origin", {}),
    ("fails open", "test_without_token", {}),
    ("never resends", "test_replay", {"body": None}),
    ("loses the body", "test_replay", {"body": b"body"}),
    ("changes the method", "test_replay", {"body": None}),
    ("does not invalidate", "test_replay", {"body": None}),
    ("resends for ever", "test_second_rejection", {}),
    ("forgets the second", "test_second_rejection", {}),
    ("resends the same token", "test_same_token", {}),
    ("does not ask", "test_source_decides", {}),
    ("resends streams", "test_stream", {}),
    ("keeps the token of a stream", "test_stream", {}),
    ("takes 403 for a rejection", "test_forbidden", {}),
    ("reads responses", "test_unread", {"status": 200}),
    ("reads responses", "test_unread", {"status": 401}),
    ("changes the request of the caller", "test_shows_nothing", {}),
    ("logs", "test_shows_nothing", {}),
    ("shows errors", "test_errors_show_nothing", {}),
]


class FlawedTransport(httpx2.AsyncBaseTransport):
    def __init__(self, source: TokenSource, origins: Sequence[str], flaw: str) -> None:
        self.source, self.origins, self.flaw = source, origins, flaw
        self.inner = httpx2.AsyncHTTPTransport()
        self.hops = 0

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def handle_async_request(  # noqa: C901, PLR0912 - a branch for each flaw
        self, request: httpx2.Request
    ) -> httpx2.Response:
        self.hops += 1
        is_origin = f"{request.url.scheme}://{request.url.netloc.decode()}" in self.origins
        if self.flaw == "needs a token everywhere":
            await self.source.get_token()
        if not is_origin and self.flaw != "sends everywhere":
            return await self.inner.handle_async_request(request)
        if not is_origin:
            request.headers["Authorization"] = "Bearer canary-token-1"
            return await self.inner.handle_async_request(request)
        if self.hops > 1 and self.flaw == "forgets the way back":
            return await self.inner.handle_async_request(request)
        try:
            token = await self.source.get_token()
        except TokenError:
            if self.flaw == "fails open":
                return await self.inner.handle_async_request(request)
            raise
        response = await self.attempt(request, token)
        for resends in range(9):
            rejections = {401, 403} if self.flaw == "takes 403 for a rejection" else {401}
            if response.status_code not in rejections or (resends and self.flaw == "forgets the second"):
                break
            is_stream = not isinstance(request.stream, httpx2.ByteStream)
            if self.flaw == "does not invalidate" or (is_stream and self.flaw == "keeps the token of a stream"):
                may_resend = not is_stream
            else:
                may_resend = self.source.invalidate(token) or self.flaw == "does not ask"
            if (
                not may_resend
                or self.flaw == "never resends"
                or (is_stream and self.flaw != "resends streams")
                or (resends and self.flaw != "resends for ever")
            ):
                break
            await response.aclose()
            rejected, token = token, await self.source.get_token()
            if token.value == rejected.value and self.flaw != "resends the same token":
                raise TokenError("the same token")
            response = await self.attempt(request, token, is_second=True)
        if self.flaw == "reads responses":
            await response.aread()
        return response

    async def attempt(self, request: httpx2.Request, token: AccessToken, *, is_second: bool = False) -> httpx2.Response:
        headers = [
            *request.headers.raw,
            *[(b"Authorization", token.authorization.encode())] * (self.flaw != "sends nothing"),
        ]
        if self.flaw == "sends two":
            headers.append(headers[-1])
        if self.flaw == "changes the request of the caller":
            request.headers = httpx2.Headers(headers)
        if self.flaw == "logs":
            logging.getLogger("flawed").debug("token %s", token.value)
        stream: Any = request.stream
        method = request.method
        if is_second and self.flaw == "loses the body":
            stream = httpx2.ByteStream(b"")
            headers = [(name, value) for name, value in headers if name != b"Content-Length"]
        if is_second and self.flaw == "resends streams":
            stream = httpx2.ByteStream(b"")
        if is_second and self.flaw == "changes the method":
            method = "PUT"
        copied = httpx2.Request(method, request.url, headers=headers, stream=stream, extensions=request.extensions)
        if self.flaw != "shows errors":
            del headers
        try:
            return await self.inner.handle_async_request(copied)
        except httpx2.HTTPError as error:
            if self.flaw == "shows errors":
                raise
            raise ConnectionError(str(error)) from None
