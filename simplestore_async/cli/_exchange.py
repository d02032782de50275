"""One request and its answer. Rule: it goes to the API's origin or to nobody; bodies pass through as bytes."""

from __future__ import annotations

import base64
from typing import IO, TYPE_CHECKING

import attrs
from aiohttp import ClientError, ClientTimeout

from simplestore_async import open_session
from simplestore_async._core.target import check_target, find_base_url, find_target
from simplestore_async.errors import SimpleStoreError

from ._folder import open_folder
from ._output import CommandError, warn_of_cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import ClientResponse

__all__ = ["Call", "RequestError", "StatusError", "answer_facts", "copy_answer", "send"]


class RequestError(CommandError):
    """No complete answer came from the API."""


class StatusError(CommandError):
    """The API answered 4xx or 5xx. The exit code is that of `curl --fail`."""

    exit_code = 22


@attrs.frozen(kw_only=True)
class Call:
    """What is asked for; *path* as the user wrote it."""

    method: str
    path: str
    body: IO[bytes] | None
    headers: list[tuple[str, str]]
    does_follow: bool
    timeout_seconds: float
    is_cached: bool


async def send(call: Call, show: Callable[[ClientResponse], Awaitable[None]]) -> None:
    """Send the request, and *show* the response.

    Raises:
        SimpleStoreError: if the environment is wrong, PATH leads elsewhere, or no token can be had; nothing was sent.
        RequestError: if no complete answer came.
        StatusError: if it was shown, and its status is 400 or more.
    """
    check_target("PATH", call.path, base_url=find_base_url())
    timeout = ClientTimeout(total=call.timeout_seconds)
    cache = open_folder() if call.is_cached else None
    try:
        async with (
            open_session(cache=cache, on_event=warn_of_cache, timeout=timeout) as session,
            session.request(
                call.method,
                find_target(call.path),
                data=call.body,
                headers=call.headers,
                skip_auto_headers=("Content-Type",),  # a request without body has none
                allow_redirects=call.does_follow,
            ) as response,
        ):
            await show(response)
            if response.status >= 400:
                raise StatusError(f"{response.status} {response.reason or ''}")
    except SimpleStoreError:
        raise  # a TokenTimeoutError is a TimeoutError, too
    except TimeoutError as error:
        raise RequestError(f"no complete answer within {call.timeout_seconds:g} s (--timeout)") from error
    except ClientError as error:
        raise RequestError(f"no complete answer: {str(error) or type(error).__name__}") from error


async def copy_answer(response: ClientResponse, output: IO[bytes], *, is_head_shown: bool) -> None:
    if is_head_shown:
        output.write(_head(response))
    async for chunk in response.content.iter_any():
        output.write(chunk)
        output.flush()
    output.flush()  # so that the file is made even if it stays empty


def _head(response: ClientResponse) -> bytes:
    """Return the status line and the headers as they came (RFC 9112 2.1)."""
    version = response.version
    name = f"HTTP/{version.major}.{version.minor}" if version else "HTTP"
    status = f"{name} {response.status} {response.reason or ''}".encode("utf-8", "surrogateescape")
    lines = [status, *(b"%s: %s" % header for header in response.raw_headers)]
    return b"".join(line + b"\r\n" for line in [*lines, b""])


async def answer_facts(response: ClientResponse) -> dict[str, object]:
    headers: dict[str, list[str]] = {}
    for name, value in response.headers.items():
        headers.setdefault(name.lower(), []).append(value)
    body = await response.read()
    try:
        text, is_base64 = body.decode(), False
    except UnicodeDecodeError:
        text, is_base64 = base64.b64encode(body).decode(), True
    return {
        "status": response.status,
        "reason": response.reason or "",
        "headers": headers,
        "body": text,
        "is_base64": is_base64,
    }
