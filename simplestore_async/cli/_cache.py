"""`simplestore cache`. Rule: the folder is looked at and changed by its `FileTokenCache` only, and shows no token."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from simplestore_async.errors import TokenCacheError

from ._output import CommandError, json_option, print_json, show_duration, show_instant

if TYPE_CHECKING:
    from simplestore_async import FileTokenCache
    from simplestore_async.caches import TokenFile

__all__ = ["cache"]

_DIGITS_SHOWN: Final = 12
_ROW: Final = "{:<12}  {:<25}  {:<25}  {:<13}  {:>5}"

_directory_option = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Another folder than the default one, such as that of a service.",
)


@click.group(no_args_is_help=False)
def cache() -> None:
    """Look after the folder of shared tokens.

    Processes share them by a FileTokenCache, and this command by its option --cache.
    """


@cache.command("path")
@_directory_option
@json_option
def print_path(*, directory: Path | None, is_json: bool) -> None:
    """Print the folder, which need not exist yet.

    JSON: directory.
    """
    try:
        folder = _open(directory).directory
    except TokenCacheError as error:
        raise CommandError(f"{error.problem}; name the folder with --directory") from None
    if is_json:
        print_json({"directory": str(folder)})
    else:
        # As bytes: a shell wants the very name, even if it is no text.
        click.echo(os.fsencode(folder))


@cache.command("list")
@_directory_option
@json_option
def print_files(*, directory: Path | None, is_json: bool) -> None:
    """Print what the folder holds, but no token.

    A row for each token's file: the start of a digest of its token endpoint, client id and scope, when the token was
    issued and expires, and the size of the file. A file from which no token is taken, because it is damaged or not
    private, says why. Encrypted files are read with the keys in SIMPLESTORE_CACHE_KEY or SIMPLESTORE_CACHE_KEY_FILE.

    JSON, a list: digest, problem (or null), issued_at, expires_at (POSIX seconds), life_seconds, size_bytes.
    """
    from ._folder import open_folder

    files = asyncio.run(open_folder(directory).list_files())
    now = time.time()
    if is_json:
        print_json([_facts(file, now) for file in files])
    elif files:
        click.echo(_ROW.format("digest", "issued", "expires", "lifetime left", "bytes"))
        for file in files:
            click.echo(_row(file, now))


@cache.command("clear")
@_directory_option
@json_option
def clear_files(*, directory: Path | None, is_json: bool) -> None:
    """Remove the tokens' files.

    Also temporary ones that killed processes left. Everything else in the folder stays, such as locks. This revokes
    nothing: a process that holds a token goes on with it, and until it expires the API accepts it.

    JSON: removed (how many files).
    """
    removed = asyncio.run(_open(directory).clear())
    if is_json:
        print_json({"removed": removed})
    else:
        click.echo(f"files removed: {removed}")


def _open(directory: Path | None) -> FileTokenCache:
    from simplestore_async import FileTokenCache

    return FileTokenCache(directory)


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
    if file.issued_at is None or file.expires_at is None:
        return f"{digest}  not used: {file.problem}"
    left = show_duration(file.expires_at - now) if file.expires_at > now else "expired"
    return _ROW.format(digest, show_instant(file.issued_at), show_instant(file.expires_at), left, file.size_bytes)
