"""`simplestore cache`. Rule: the caches themselves read and change their tokens; no token is shown."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from simplestore_async.errors import TokenCacheError

from ._output import (
    CommandError,
    as_line,
    debug_option,
    json_option,
    print_json,
    show_duration,
    show_instant,
)

if TYPE_CHECKING:
    from simplestore_async.caches import TokenFile

__all__ = ["cache"]

_DIGITS_SHOWN: Final = 12
_ROW: Final = "{:<12}  {:<25}  {:<25}  {:<9}"

_directory_option = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Cache directory, in place of the default one.",
)

_HELP: Final = """\
Inspect and clear shared tokens.

Programs share tokens in a FileTokenCache, and commands with --cache. If SIMPLESTORE_REDIS_URL is set the shared tokens
are those in Redis, unless --directory names a directory.
"""


@click.group(help=_HELP, invoke_without_command=True)
@debug_option
@click.pass_context
def cache(context: click.Context, /) -> None:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cache.command("path", help="Print the cache directory. It need not exist yet.\n\nJSON: directory.")
@_directory_option
@json_option
def print_path(*, directory: Path | None, is_json: bool) -> None:
    from simplestore_async import FileTokenCache

    try:
        path = FileTokenCache(directory).directory
    except TokenCacheError as error:
        raise CommandError(f"{error.problem}; name the directory with --directory") from None
    if is_json:
        print_json({"directory": str(path)})
    elif sys.stdout.isatty():
        click.echo(as_line(str(path)))
    else:
        # As bytes: a shell needs the exact name, even if it is not text.
        click.echo(os.fsencode(path))


_LIST_HELP: Final = """\
List stored tokens, without their values.

One row per token: the start of a digest of its token endpoint, client id and scope, its issue and its expiry. A file
that is damaged or not private has its reason in place of these. Encrypted files are read with the keys in
SIMPLESTORE_CACHE_KEY or SIMPLESTORE_CACHE_KEY_FILE. In Redis a token is not read: only its expiry and size are shown.

JSON, a list: digest, problem (or null), issued_at, expires_at (POSIX seconds or null), life_seconds, size_bytes.
"""


@cache.command("list", help=_LIST_HELP)
@_directory_option
@json_option
def print_files(*, directory: Path | None, is_json: bool) -> None:
    from ._caches import has_redis, list_redis_tokens, open_directory

    if has_redis() and directory is None:
        files, place = asyncio.run(list_redis_tokens()), "Redis"
    else:
        cache = open_directory(directory)
        files, place = asyncio.run(cache.list_files()), as_line(str(cache.directory))
    now = time.time()
    if is_json:
        print_json([_facts(file, now) for file in files])
    elif not files:
        click.echo(f"no tokens are stored in {place}")
    else:
        click.echo(_ROW.format("digest", "issued", "expires", "time left"))
        for file in files:
            click.echo(_row(file, now))


_CLEAR_HELP: Final = """\
Remove stored tokens.

Also removes temporary files that killed processes left. Locks and other files stay. This revokes nothing: a process
that holds a token continues to use it, and the API accepts it until it expires.

JSON: removed (number of files, or of tokens in Redis).
"""


@cache.command("clear", help=_CLEAR_HELP)
@_directory_option
@json_option
def clear_files(*, directory: Path | None, is_json: bool) -> None:
    from simplestore_async import FileTokenCache

    from ._caches import clear_redis_tokens, has_redis

    if has_redis() and directory is None:
        removed, things = asyncio.run(clear_redis_tokens()), "tokens"
    else:
        removed, things = asyncio.run(FileTokenCache(directory).clear()), "files"
    if is_json:
        print_json({"removed": removed})
    else:
        click.echo(f"{things} removed: {removed}")


def _facts(file: TokenFile, now: float) -> dict[str, object]:
    return {
        "digest": file.digest,
        "problem": file.problem or None,
        "issued_at": file.issued_at,
        "expires_at": file.expires_at,
        "life_seconds": None if file.expires_at is None else max(file.expires_at - now, 0.0),
        "size_bytes": file.size_bytes,
    }


def _row(file: TokenFile, now: float) -> str:
    digest = file.digest[:_DIGITS_SHOWN]
    if file.expires_at is None:
        return f"{digest}  not used: {as_line(file.problem)}"
    issued = "unknown" if file.issued_at is None else show_instant(file.issued_at)
    left = show_duration(file.expires_at - now) if file.expires_at > now else "expired"
    return _ROW.format(digest, issued, show_instant(file.expires_at), left).rstrip()
