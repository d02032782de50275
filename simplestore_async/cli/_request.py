"""`simplestore request`. Rule: what cannot be sent is wrong usage, and no header's value is in a message."""

from __future__ import annotations

import asyncio
import sys
from io import BytesIO
from typing import IO, TYPE_CHECKING

import click

from simplestore_async._core.headers import find_header_problem, is_header_name
from simplestore_async._core.target import METHODS

from ._output import cache_option, json_option, print_json, timeout_option

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["request"]


def _check_text(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not text.isprintable():
        raise click.BadParameter("it holds a line break or another character that is not text")
    return text


def _parse_headers(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[str, str]]:
    return list(map(_parse_header, texts))


def _parse_header(text: str) -> tuple[str, str]:
    # Its value is in no message: it may be a secret of its own.
    name, colon, value = text.partition(":")
    if not colon or not is_header_name(name):
        raise click.BadParameter("write NAME:VALUE, such as 'Accept: text/csv'")
    if problem := find_header_problem(name, value.strip()):
        raise click.BadParameter(problem)
    return name, value.strip()


@click.command()
@click.argument("method", type=click.Choice(METHODS, case_sensitive=False), metavar="METHOD")
@click.argument("path", callback=_check_text)
@click.option("--data", type=click.File("rb"), metavar="FILE", help="Send the bytes of FILE; - is standard input.")
@click.option(
    "--content-type",
    default="application/json",
    show_default=True,
    callback=_check_text,
    metavar="TYPE",
    help="What --data holds.",
)
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    callback=_parse_headers,
    metavar="NAME:VALUE",
    help="Send this header, too. May be given again.",
)
@click.option("-i", "--include", "is_head_shown", is_flag=True, help="Print the status line and the headers, too.")
@click.option(
    "-o", "--output", type=click.File("wb"), metavar="FILE", help="Write to FILE what would go to standard output."
)
@click.option("-L", "--location", "does_follow", is_flag=True, help="Follow redirects; the token stays with the API.")
@timeout_option("the whole", default=300)
@cache_option
@json_option
def request(  # noqa: PLR0913 - an argument for each option
    *,
    method: str,
    path: str,
    data: IO[bytes] | None,
    content_type: str,
    headers: list[tuple[str, str]],
    is_head_shown: bool,
    output: IO[bytes] | None,
    does_follow: bool,
    timeout: float,
    is_cached: bool,
    is_json: bool,
) -> None:
    """Send an authorised request, print the answer.

    METHOD is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. PATH is relative to SIMPLESTORE_BASE_URL, with or without
    a slash at its start; or it is a URL of that same origin. The answer's body goes to standard output as it comes. If
    the API rejects the token, the request is sent once more with another one.

    A body from standard input or another pipe is read to its end first, so that it can be sent again.

    JSON: status, reason, headers (each name in lower case, with a list of values), body, is_base64 (whether body is
    base64, because it is not UTF-8).
    """
    if is_json and (is_head_shown or output is not None):
        raise click.UsageError("--json prints status, headers and body: leave out --include and --output")
    if data is not None and "content-type" not in {name.lower() for name, _ in headers}:
        headers = [*headers, ("Content-Type", content_type)]

    from ._exchange import Call, answer_facts, copy_answer, send  # completion does without aiohttp

    async def show(response: ClientResponse) -> None:
        if is_json:
            print_json(await answer_facts(response))
        else:
            await copy_answer(response, output or sys.stdout.buffer, is_head_shown=is_head_shown)

    call = Call(
        method=method,
        path=path,
        body=_make_repeatable(data),
        headers=headers,
        does_follow=does_follow,
        timeout_seconds=timeout,
        is_cached=is_cached,
    )
    asyncio.run(send(call, show))


def _make_repeatable(file: IO[bytes] | None) -> IO[bytes] | None:
    return file if file is None or file.seekable() else BytesIO(file.read())
