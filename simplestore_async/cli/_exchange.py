"""One request and its response. Rule: it goes to the API's origin only; bodies are bytes, except on terminals."""

from __future__ import annotations

import base64
import codecs
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final

import click
from aiohttp import ClientConnectorError, ClientError, ClientTimeout

from simplestore_async import open_session
from simplestore_async._core.origin import is_loopback
from simplestore_async._core.target import check_target, find_base_url, find_target
from simplestore_async._core.transport_errors import describe_transport_error
from simplestore_async.errors import SimpleStoreError

from ._caches import open_cache
from ._output import CommandError, warn_of_cache
from ._text import as_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import ClientResponse

__all__ = ["RequestError", "StatusError", "copy_response", "response_facts", "send"]

_TEXT_ENCODINGS: Final = "utf-", "ascii", "iso8859", "cp", "koi8", "shift_jis", "euc_", "gb", "big5"


class RequestError(CommandError):
    """There is no complete response from the API."""


class StatusError(CommandError):
    """The API responded 4xx or 5xx. The exit code is that of `curl --fail`."""

    exit_code = 22


async def send(
    show: Callable[[ClientResponse], Awaitable[None]],
    *,
    method: str,
    path: str,
    timeout_seconds: float,
    is_cached: bool,
    **options: Any,
) -> None:
    """Send a request, with further *options* of `ClientSession.request()`, and *show* the response.

    Raises:
        SimpleStoreError: if a setting is wrong, *path* is not of the API, or no token can be obtained; nothing was
            sent.
        RequestError: if there is no complete response.
        StatusError: if the response was shown, and its status is 400 or more.
    """
    base_url = find_base_url()
    check_target("PATH", path, base_url=base_url)
    timeout = ClientTimeout(total=timeout_seconds)
    cache = open_cache() if is_cached else None
    try:
        async with (
            open_session(
                cache=cache, on_event=warn_of_cache, timeout=timeout, trust_env=not is_loopback(base_url)
            ) as session,
            # A request without body has no Content-Type.
            session.request(method, find_target(path), skip_auto_headers=("Content-Type",), **options) as response,
        ):
            await show(response)
            if response.status >= 400:
                raise StatusError(f"{response.status} {response.reason or ''}")
    except SimpleStoreError:
        raise  # a TokenTimeoutError is also a TimeoutError
    except TimeoutError as error:
        raise RequestError(f"no complete response within {timeout_seconds:g} s (--timeout)") from error
    except ClientConnectorError as error:
        raise RequestError(f"{describe_transport_error(error)}; check SIMPLESTORE_BASE_URL") from error
    except ClientError as error:
        raise RequestError(f"no complete response: {str(error) or type(error).__name__}") from error


async def copy_response(response: ClientResponse, output: IO[bytes] | None, *, is_head_shown: bool) -> None:
    """Write the response to *output*, or to stdout if that is None."""
    if output is None and sys.stdout.isatty():
        await _show_response(response, is_head_shown=is_head_shown)
        return
    target: IO[bytes] = output or sys.stdout.buffer
    if is_head_shown:
        target.write(_head(response))
    async for chunk in response.content.iter_any():
        target.write(chunk)
        target.flush()
    target.flush()  # creates the file even if it stays empty


async def _show_response(response: ClientResponse, *, is_head_shown: bool) -> None:
    """Print the response on a terminal: printable characters only, with a line break at its end."""
    if is_head_shown:
        click.echo(as_text(_head(response).decode(errors="backslashreplace")), nl=False)
    decoder = codecs.getincrementaldecoder(_find_encoding(response))(errors="backslashreplace")
    is_line_open = False
    try:
        rest = ""  # a carriage return whose line feed may be in the next chunk
        async for chunk in response.content.iter_any():
            text = rest + decoder.decode(chunk)
            rest = "\r" if text.endswith("\r") else ""
            text = as_text(text.removesuffix(rest))
            click.echo(text, nl=False)
            is_line_open = not text.endswith("\n") if text else is_line_open
        text = as_text(rest + decoder.decode(b"", final=True))
        click.echo(text, nl=False)
        is_line_open = is_line_open or bool(text)
    finally:
        if is_line_open:
            click.echo()


def _find_encoding(response: ClientResponse) -> str:
    # Python also has encodings that are not of text, such as zip.
    with suppress(LookupError):
        name = codecs.lookup(response.charset or "utf-8").name
        if name.startswith(_TEXT_ENCODINGS):
            return name
    return "utf-8"


def _head(response: ClientResponse) -> bytes:
    """Return the status line and the headers as received (RFC 9112 §2.1)."""
    version = response.version
    name = f"HTTP/{version.major}.{version.minor}" if version else "HTTP"
    status = f"{name} {response.status} {response.reason or ''}".encode("utf-8", "surrogateescape")
    lines = [status, *(b"%s: %s" % header for header in response.raw_headers)]
    return b"".join(line + b"\r\n" for line in [*lines, b""])


async def response_facts(response: ClientResponse) -> dict[str, object]:
    """Return the response for `--json`."""
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
