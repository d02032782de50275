"""The input of a batch. Rule: every line is checked before anything is sent; memory does not grow with their number."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
import weakref
import zlib
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from simplestore_async._core.target import find_base_url
from simplestore_async.errors import BatchFileError

from ._lines import MOST_BYTES, describe_file, parse_line
from ._values import BatchRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from yarl import URL

__all__ = ["RequestFile"]

_MOST_PROBLEMS: Final = 20
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
        self._source = _open(path, is_spooled=self.is_spooled)
        weakref.finalize(self, self._source.close)
        is_compressed = self._source.read(2) == _GZIP
        self._source.seek(0)
        file: Any = gzip.GzipFile(fileobj=self._source) if is_compressed else self._source
        self._file: IO[bytes] = file
        with self._reporting():
            start = self._file.read(4096)
            if problem := describe_file(start.removeprefix(_BYTE_ORDER_MARK)):
                raise BatchFileError(f"{self.path} {problem}")
            self._file.seek(0)
            self.sha256: str = hashlib.file_digest(file, "sha256").hexdigest()
        self._signature = self._sign()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._source.close()

    def check(self) -> None:
        """Check that each line is a request, and that no two have the same id.

        It blocks: a million lines take some seconds.

        Raises:
            BatchFileError: if some lines are not requests; names the first of them.
            OSError: if the file cannot be read.
        """
        problems: list[tuple[int, str]] = []
        count = bad = 0

        def read_ids() -> Iterator[tuple[str | int | bytes, int]]:
            nonlocal count, bad
            for number, found in self._read(finds_files=True):
                if isinstance(found, BatchRequest):
                    count += 1
                    # SQLite has no integers of more than eight bytes; no text equals a blob.
                    is_long = isinstance(found.id, int) and found.id.bit_length() > 63
                    yield str(found.id).encode() if is_long else found.id, number
                else:
                    bad += 1
                    problems.extend([(number, found)] if bad <= _MOST_PROBLEMS else [])

        with closing(sqlite3.connect("", isolation_level=None)) as ids:  # a temporary file
            ids.execute("PRAGMA journal_mode = OFF")
            ids.execute("CREATE TABLE ids (id, line INTEGER)")
            ids.execute("BEGIN")
            ids.executemany("INSERT INTO ids VALUES (?, ?)", read_ids())
            # Built at once, an index is sorted on disk; growing with each line, it is slow.
            ids.execute("CREATE INDEX by_id ON ids (id, line)")
            repeated = ids.execute(
                "SELECT line, first FROM ids JOIN (SELECT id, min(line) AS first FROM ids GROUP BY id"
                " HAVING count(*) > 1) USING (id) WHERE line > first ORDER BY line"
            )
            for place, (line, first) in enumerate(repeated):
                bad += 1
                problems.extend([(line, f"id is already used in line {first}")] if place < _MOST_PROBLEMS else [])
        if bad:
            problems = sorted(problems)[:_MOST_PROBLEMS]
            line, problem = problems[0]
            verb = "are not valid requests" if bad > 1 else "is not a valid request"
            raise BatchFileError(
                f"{bad} of {self.line_count} lines of {self.path} {verb}, and nothing was sent",
                f"line {line}: {problem}",
                problems=tuple(problems),
                count=bad,
            )
        self.count = count

    def chunks(self, is_wanted: Callable[[int], object] = lambda _: True) -> Generator[list[BatchRequest]]:
        """Yield requests whose line is wanted, some at a time.

        Raises:
            BatchFileError: if the file is no longer the one that was opened.
            OSError: if it cannot be read.
        """
        chunk: list[BatchRequest] = []
        size = 0
        for _, found in self._read(is_wanted):
            if isinstance(found, str):
                raise self._changed()
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

    def _read(
        self, is_wanted: Callable[[int], object] = lambda _: True, *, finds_files: bool = False
    ) -> Generator[tuple[int, BatchRequest | str]]:
        """Yield the number of each wanted line that is not blank, with its request or its problem."""
        digest, number = hashlib.sha256(), 0
        directory = Path() if self._is_stdin else self.path.parent
        parse = partial(parse_line, base_url=self.base_url, directory=directory, finds_files=finds_files)
        with self._reporting():
            self._file.seek(0)
            while line := self._file.readline(MOST_BYTES + 1):
                number += 1
                digest.update(line)
                text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if text and not text.isspace() and is_wanted(number):
                    yield number, parse(text, number=number)
                while len(line) > MOST_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
                    line = self._file.readline(MOST_BYTES + 1)
                    digest.update(line)
        if digest.hexdigest() != self.sha256:
            raise self._changed()
        self.line_count = number

    @contextmanager
    def _reporting(self) -> Generator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BatchFileError(f"{self.path} is damaged or cut short: {error}") from error

    def _sign(self) -> tuple[int, int]:
        status = os.fstat(self._source.fileno())
        return status.st_size, status.st_mtime_ns

    def _check_signature(self) -> None:
        if self._sign() != self._signature:
            raise self._changed()

    def _changed(self) -> BatchFileError:
        return BatchFileError(
            f"{self.path} was changed while its requests were sent", "put it back as it was, and run the command again"
        )


def _open(path: str | os.PathLike[str], *, is_spooled: bool) -> IO[bytes]:
    """Open a file that can be read twice."""
    if not is_spooled:
        return open(path, "rb")  # noqa: PTH123 - a Path would say "." of ""
    with nullcontext(sys.stdin.buffer) if os.fspath(path) == "-" else open(path, "rb") as source:  # noqa: PTH123
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
        shutil.copyfileobj(source, file)
    file.seek(0)
    return file
