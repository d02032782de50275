"""`simplestore request`. Rule: a request that cannot be sent is wrong usage; no message holds the value of a header."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Final

import click

from simplestore_async._core.headers import find_header_problem, is_header_name
from simplestore_async._core.target import METHODS

from ._output import cache_option, json_option, print_json, timeout_option

if TYPE_CHECKING:
    import os

    from aiohttp import ClientResponse

__all__ = ["request"]

_HELP: Final = """\
Send an authorised request and print the response.

METHOD is GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. PATH is relative to SIMPLESTORE_BASE_URL, with or without a
leading slash, or a URL of the same origin. The body is copied to standard output as it arrives. If the API rejects the
token, the request is resent once with another. The request uses the proxy that the environment names.

--data reads a file, or standard input for `-`. Pipes are read to their end first, so that the body can be resent:

\b
  echo '{"state": "shipped"}' | simplestore request PUT orders/42 --data -

JSON: status, reason, headers (names in lower case, each with a list of values), body, is_base64 (whether body is
base64, because it is not UTF-8).
"""
_DATA_IS_TEXT: Final = (
    "--data names a file that does not exist; to send text, pipe it: "
    "echo '…' | simplestore request METHOD PATH --data -"
)


class _DataFile(click.File):
    def convert(
        self, value: str | os.PathLike[str] | IO[Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[Any]:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            # Not quoted: it is the data itself.
            if isinstance(value, str) and value.startswith(("{", "[", '"')):
                raise click.UsageError(_DATA_IS_TEXT, ctx) from None
            raise click.BadParameter(f"{error.message}; `-` reads standard input", ctx, param) from None


def _check_method(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if text.upper() not in METHODS:
        raise click.BadParameter(f"must be one of {', '.join(METHODS)}, and comes before PATH")
    return text.upper()


def _complete_method(_context: click.Context, _parameter: click.Parameter, start: str) -> list[str]:
    return [method for method in METHODS if method.startswith(start.upper())]


def _check_text(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not text.isprintable():
        raise click.BadParameter("must not contain a line break or another control character")
    return text


def _parse_headers(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for text in texts:
        # Not quoted: the value may be a secret.
        name, colon, value = text.partition(":")
        if not colon or not is_header_name(name):
            raise click.BadParameter("must be NAME:VALUE, such as 'Accept: text/csv'")
        if problem := find_header_problem(name, value.strip()):
            raise click.BadParameter(problem)
        headers.append((name, value.strip()))
    return headers


@click.command(help=_HELP)
@click.argument("method", callback=_check_method, shell_complete=_complete_method)
@click.argument("path", callback=_check_text)
@click.option("--data", type=_DataFile("rb"), metavar="FILE", help="Body of the request; `-` for standard input.")
@click.option(
    "--content-type",
    default="application/json",
    show_default=True,
    callback=_check_text,
    metavar="TYPE",
    help="Content type of --data.",
)
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    callback=_parse_headers,
    metavar="NAME:VALUE",
    help="Additional header; may be repeated.",
)
@click.option("-i", "--include", "is_head_shown", is_flag=True, help="Also print the status line and the headers.")
@click.option("-o", "--output", type=click.File("wb"), metavar="FILE", help="Write to FILE, not to standard output.")
@click.option(
    "-L", "--location", "allow_redirects", is_flag=True, help="Follow redirects; the token stays with the API."
)
@timeout_option("the whole exchange", default=300)
@cache_option
@json_option
def request(  # noqa: PLR0913 - an argument for each option
    *,
    data: IO[bytes] | None,
    content_type: str,
    headers: list[tuple[str, str]],
    is_head_shown: bool,
    output: IO[bytes] | None,
    timeout: float,
    is_json: bool,
    **options: Any,
) -> None:
    if is_json and (is_head_shown or output is not None):
        raise click.UsageError("--json prints status, headers and body; leave out --include and --output")
    if data is not None and "content-type" not in {name.lower() for name, _ in headers}:
        headers = [*headers, ("Content-Type", content_type)]

    from ._exchange import copy_response, response_facts, send  # completion needs no aiohttp

    async def show(response: ClientResponse) -> None:
        if is_json:
            print_json(await response_facts(response))
        else:
            await copy_response(response, output, is_head_shown=is_head_shown)

    if data is not None and not data.seekable():
        data = BytesIO(data.read())
    asyncio.run(send(show, data=data, headers=headers, timeout_seconds=timeout, **options))
