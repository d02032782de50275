"""A batch's file. Rule: every line is checked before anything is sent, and memory does not grow with their number."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from contextlib import closing
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import attrs
from yarl import URL

from simplestore_async._core.target import find_base_url
from simplestore_async.errors import BatchFileError

from ._lines import MOST_BYTES, parse_line
from ._values import BatchRequest

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator

__all__ = ["RequestFile"]

_MOST_PROBLEMS: Final = 20
_IDS_AT_ONCE: Final = 1_000


@attrs.frozen(kw_only=True)
class RequestFile:
    """A file of requests, one JSON object a line, all of which have been checked: get it by `check()`.

    Iterating over it reads it again, line by line.

    Attributes:
        path: where it is.
        base_url: the API's address.
        line_count: how many requests it holds.
        sha256: the digest of its bytes, by which a journal knows it.
    """

    path: Path
    base_url: URL
    line_count: int
    sha256: str

    @classmethod
    def check(
        cls,
        path: str | os.PathLike[str],
        *,
        base_url: str | URL | None = None,
        allow_insecure_http: bool = False,
        on_line: Callable[[int], object] | None = None,
    ) -> RequestFile:
        """Read every line of a file, and return the file if each is a request, and no two have the same id.

        It blocks: a million lines take some ten seconds.

        Args:
            path: a regular file, because it is read twice.
            base_url: the address of the API, beyond whose origin no path may lead; by default `SIMPLESTORE_BASE_URL`.
            allow_insecure_http: accept one of plain http on another machine; for closed test networks only.
            on_line: is told the number of each line that was read.

        Raises:
            BatchFileError: if the file is empty, or some lines are no requests; names the first of them.
            ConfigurationError: if the address is not set, or wrong.
            OSError: if the file cannot be read.
        """
        path, url = Path(path), find_base_url(base_url, allow_insecure_http=allow_insecure_http)
        digest, problems = hashlib.sha256(), _Problems()
        number = 0
        with _open(path) as file, closing(_Ids()) as ids:
            while line := file.readline(MOST_BYTES + 1):
                number += 1
                digest.update(line)
                found = parse_line(line, number=number, base_url=url)
                if isinstance(found, BatchRequest):
                    ids.add(found.id, number)
                else:
                    problems.add(number, found)
                while len(line) > MOST_BYTES and not line.endswith(b"\n"):  # the rest of what is too long
                    line = file.readline(MOST_BYTES + 1)
                    digest.update(line)
                if on_line:
                    on_line(number)
            problems.add_sorted(ids.find_repeated())
        problems.raise_if_any(path, line_count=number)
        return cls(path=path, base_url=url, line_count=number, sha256=digest.hexdigest())

    def __iter__(self) -> Iterator[BatchRequest]:
        """Yield each request; raise `BatchFileError` if the file is no longer the one that was checked."""
        return self.select(lambda _: True)

    def select(self, is_wanted: Callable[[int], bool]) -> Generator[BatchRequest]:
        """Yield the requests whose line's number is wanted; the other lines are not even looked at."""
        digest = hashlib.sha256()
        with _open(self.path) as file:
            for number, line in enumerate(file, 1):
                digest.update(line)
                if number > self.line_count:
                    break
                if not is_wanted(number):
                    continue
                found = parse_line(line, number=number, base_url=self.base_url)
                if not isinstance(found, BatchRequest):
                    raise self._changed()
                yield found
        if digest.hexdigest() != self.sha256:
            raise self._changed()

    def _changed(self) -> BatchFileError:
        return BatchFileError(f"{self.path} was changed while its requests were sent: leave it as it is until all are")


def _open(path: Path) -> IO[bytes]:
    # Looked at first: to open a named pipe would wait for who writes to it.
    if not stat.S_ISREG(path.stat().st_mode):
        raise BatchFileError(
            f"{path} is no regular file: write the requests to one, because it is read twice, and again by --resume"
        )
    return path.open("rb")


class _Problems:
    """The first problems, and the number of all."""

    def __init__(self) -> None:
        self._first: list[tuple[int, str]] = []
        self._count = 0

    def add(self, number: int, problem: str) -> None:
        self._count += 1
        if len(self._first) < _MOST_PROBLEMS:
            self._first.append((number, problem))

    def add_sorted(self, problems: Iterator[tuple[int, str]]) -> None:
        few = list(islice(problems, _MOST_PROBLEMS))
        self._count += len(few) + sum(1 for _ in problems)
        self._first = list(islice(merge(self._first, few), _MOST_PROBLEMS))

    def raise_if_any(self, path: Path, *, line_count: int) -> None:
        if not line_count:
            raise BatchFileError(f"{path} is empty: it should hold one request a line")
        if self._count:
            number, problem = self._first[0]
            raise BatchFileError(
                f"nothing was sent: {self._count} of {line_count} lines of {path} are no requests that can be sent; "
                f"the first is line {number}: {problem}",
                problems=tuple(self._first),
                count=self._count,
            )


class _Ids:
    """Which ids there were. They are kept in a database without a name, whose file the system removes by itself."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")
        self._database.execute("CREATE TABLE ids (id, line INTEGER)")
        self._waiting: list[tuple[str | int | bytes, int]] = []

    def add(self, id_: str | int, number: int) -> None:
        # No text is equal to bytes, and no number has its place in a database that takes more than eight of them.
        is_long = isinstance(id_, int) and id_.bit_length() > 63
        self._waiting.append((str(id_).encode() if is_long else id_, number))
        if len(self._waiting) >= _IDS_AT_ONCE:
            self._write()

    def find_repeated(self) -> Iterator[tuple[int, str]]:
        """Yield each line whose id an earlier one has, in order."""
        self._write()
        # An index that is built in one go is sorted on disk; one that grows with each line is slow.
        self._database.execute("CREATE INDEX by_id ON ids (id, line)")
        rows = self._database.execute(
            "SELECT line, first FROM ids JOIN (SELECT id, min(line) AS first FROM ids GROUP BY id HAVING count(*) > 1)"
            " USING (id) WHERE line > first ORDER BY line"
        )
        return ((line, f"id is that of line {first}, too") for line, first in rows)

    def close(self) -> None:
        self._database.close()

    def _write(self) -> None:
        self._database.executemany("INSERT INTO ids VALUES (?, ?)", self._waiting)
        self._waiting.clear()
