"""The file of results. Rule: it never loses a result that it held, and never replaces another file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from simplestore_async.errors import BatchFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["open_results"]

_BUFFER_BYTES: Final = 1 << 20


def open_results(
    results: str | os.PathLike[str] | IO[bytes],
    stored: Iterator[bytes],
    *,
    taken: Iterable[Path],
    is_new: bool,
) -> IO[bytes]:
    """Return the stream that results are written to.

    A regular file holds the *stored* results then, whatever became of it in the meantime: it is written next to its
    place, and replaces it whole.

    Args:
        results: a file, or an open stream.
        stored: the results of earlier runs.
        taken: files that it must not be.
        is_new: whether no earlier run can have written it.
    """
    if not isinstance(results, str | os.PathLike):
        return results
    path = Path(os.path.realpath(results))
    if path in map(Path, map(os.path.realpath, taken)):
        raise BatchFileError(f"{results} cannot hold the results: it is the input, or the database")
    if path.exists() and not path.is_file():
        return path.open("wb")
    if is_new and path.exists() and path.stat().st_size:
        raise BatchFileError(f"{results} is not empty", "results never replace another file; remove it or name another")
    written = path.with_name(f"{path.name}.new")
    with written.open("wb", buffering=_BUFFER_BYTES) as file:
        file.writelines(stored)
    written.replace(path)
    return path.open("ab")
