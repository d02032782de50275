"""The input of a batch. Rule: every line is checked before anything is sent; memory does not grow with their number."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import weakref
import zlib
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, cast

from simplestore_async._core.target import find_base_url
from simplestore_async.errors import BatchFileError

from ._lines import MOST_BYTES, describe_file, parse_line
from ._values import BatchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from yarl import URL

__all__ = ["RequestFile"]

_MOST_PROBLEMS: Final = 20
_IDS_AT_ONCE: Final = 1_000
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHUNK_REQUESTS: Final = 100
_CHUNK_BYTES: Final = 4 << 20
_GZIP: Final = b"\x1f\x8b"


class RequestFile:
    """A file of requests, one JSON object per line; blank lines count as lines and hold nothing.

    Args:
        path: a file, compressed by gzip or not; `-` is standard input. What can be read only once is copied to a
            temporary file.
        base_url: the address of the API; by default `SIMPLESTORE_BASE_URL`.
        allow_insecure_http: accept plain http to another machine; for closed test networks only.

    Attributes:
        path: where it is.
        base_url: the address of the API.
        sha256: digest of its bytes, decompressed.
        is_spooled: whether it is a temporary copy.
        line_count: number of lines; 0 before `check()`.
        count: number of requests; None before `check()`.

    Raises:
        BatchFileError: if it is not a text of lines, such as UTF-16 or a JSON array.
        ConfigurationError: if the address is not set, or wrong.
        OSError: if it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        base_url: str | URL | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        self.base_url: URL = find_base_url(base_url, allow_insecure_http=allow_insecure_http)
        self.count: int | None = None
        self.line_count: int = 0
        self._is_stdin = os.fspath(path) == "-"
        self.is_spooled: bool = self._is_stdin or not Path(path).is_file()
        self.path: Path = Path("standard input" if self._is_stdin else path)
        self._file = _open(path, is_stdin=self._is_stdin)
        weakref.finalize(self, self._file.close)
        with self._reporting():
            start = self._file.read(4096)
            if problem := describe_file(start.removeprefix(_BYTE_ORDER_MARK)):
                raise BatchFileError(f"{self.path} {problem}")
            self._file.seek(0)
            self.sha256: str = hashlib.file_digest(cast("Any", self._file), "sha256").hexdigest()
        self._signature = self._sign()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self) -> None:
        """Check that each line is a request, and that no two have the same id.

        It blocks: a million lines take some seconds.

        Raises:
            BatchFileError: if some lines are not requests; names the first of them.
            OSError: if the file cannot be read.
        """
        problems: list[tuple[int, str]] = []
        count = bad = number = 0
        with closing(_Ids()) as ids:
            for number, found in self._parsed(finds_files=True):
                if isinstance(found, BatchRequest):
                    count += 1
                    ids.add(found.id, number)
                elif found:
                    bad += 1
                    problems += [(number, found)] if bad <= _MOST_PROBLEMS else []
            for repeated, (line, first) in enumerate(ids.find_repeated(), 1):
                bad += 1
                problems += [(line, f"id is also that of line {first}")] if repeated <= _MOST_PROBLEMS else []
        if bad:
            problems = sorted(problems)[:_MOST_PROBLEMS]
            line, problem = problems[0]
            raise BatchFileError(
                f"{bad} of {number} lines of {self.path} are not valid requests; the first is line {line}: {problem}",
                "nothing was sent",
                problems=tuple(problems),
                count=bad,
            )
        self.line_count, self.count = number, count

    def chunks(self, is_wanted: Callable[[int], object] = lambda _: True) -> Generator[list[BatchRequest]]:
        """Yield requests whose line is wanted, some at a time.

        Raises:
            BatchFileError: if the file is no longer the one that was opened.
            OSError: if it cannot be read.
        """
        chunk: list[BatchRequest] = []
        size = 0
        for _, found in self._parsed(is_wanted):
            if isinstance(found, str):
                raise self._changed()
            if found:
                chunk.append(found)
                size += found.size
            if len(chunk) >= _CHUNK_REQUESTS or size >= _CHUNK_BYTES:
                self._check_signature()
                yield chunk
                chunk, size = [], 0
        self._check_signature()
        yield chunk

    def __iter__(self) -> Iterator[BatchRequest]:
        """Yield each request."""
        for chunk in self.chunks():
            yield from chunk

    def _parsed(
        self, is_wanted: Callable[[int], object] = lambda _: True, *, finds_files: bool = False
    ) -> Generator[tuple[int, BatchRequest | str | None]]:
        """Yield the number of each line with its request, its problem, or None if it is blank or not wanted."""
        digest, number = hashlib.sha256(), 0
        directory = Path() if self._is_stdin else self.path.parent
        with self._reporting():
            self._file.seek(0)
            while line := self._file.readline(MOST_BYTES + 1):
                number += 1
                digest.update(line)
                text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if text.isspace() or not text or not is_wanted(number):
                    yield number, None
                else:
                    yield (
                        number,
                        parse_line(
                            text,
                            number=number,
                            base_url=self.base_url,
                            directory=directory,
                            finds_files=finds_files,
                        ),
                    )
                while len(line) > MOST_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
                    line = self._file.readline(MOST_BYTES + 1)
                    digest.update(line)
        if digest.hexdigest() != self.sha256:
            raise self._changed()

    @contextmanager
    def _reporting(self) -> Generator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = f"{self.path} is damaged or cut short: {error}"
        else:
            return
        raise BatchFileError(problem)

    def _sign(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _check_signature(self) -> None:
        if self._sign() != self._signature:
            raise self._changed()

    def _changed(self) -> BatchFileError:
        return BatchFileError(
            f"{self.path} was changed while its requests were sent", "put it back as it was, and run the command again"
        )


def _open(path: str | os.PathLike[str], *, is_stdin: bool) -> IO[bytes]:
    """Open a file that can be read twice, decompressed."""
    if is_stdin:
        file = _spool(sys.stdin.buffer)
    elif stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a Path would say "." of ""
        file = open(path, "rb")  # noqa: PTH123, SIM115 - closed with the object
    else:
        with open(path, "rb") as pipe:  # noqa: PTH123 - as above
            file = _spool(pipe)
    is_compressed = file.read(2) == _GZIP
    file.seek(0)
    if is_compressed:
        return cast("IO[bytes]", _GzipInput(file))
    return file


class _GzipInput(gzip.GzipFile):
    """A compressed file that closes what it reads from."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._compressed = file

    def close(self) -> None:
        super().close()
        self._compressed.close()


def _spool(source: IO[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
    shutil.copyfileobj(source, file)
    file.seek(0)
    return file


class _Ids:
    """Ids that were seen, in a temporary database that SQLite removes."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")
        self._database.execute("CREATE TABLE ids (id, line INTEGER)")
        self._waiting: list[tuple[str | int | bytes, int]] = []

    def add(self, id_: str | int, number: int) -> None:
        # SQLite has no integers of more than eight bytes; no text equals a blob.
        is_long = isinstance(id_, int) and id_.bit_length() > 63
        self._waiting.append((str(id_).encode() if is_long else id_, number))
        if len(self._waiting) >= _IDS_AT_ONCE:
            self._write()

    def find_repeated(self) -> Iterator[tuple[int, int]]:
        """Yield each line whose id an earlier line has, in order, and that line."""
        self._write()
        # Built at once, an index is sorted on disk; growing with each line, it is slow.
        self._database.execute("CREATE INDEX by_id ON ids (id, line)")
        return self._database.execute(
            "SELECT line, first FROM ids JOIN (SELECT id, min(line) AS first FROM ids GROUP BY id HAVING count(*) > 1)"
            " USING (id) WHERE line > first ORDER BY line"
        )

    def close(self) -> None:
        self._database.close()

    def _write(self) -> None:
        self._database.executemany("INSERT INTO ids VALUES (?, ?)", self._waiting)
        self._waiting.clear()
