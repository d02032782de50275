"""The database of a batch. Rule: a request is committed as begun before it is sent, its result before it is reported.

SQLite in WAL mode with synchronous=FULL: a commit is on the disk. The exclusive lock keeps two runs apart, and ends
with its process.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import uuid
from array import array
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from simplestore_async._core.validation import check_type
from simplestore_async.errors import BatchDatabaseError, BatchFileError, ConfigurationError

from ._file import RequestFile
from ._values import OUTCOMES, BatchSummary
from ._writer import READY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ._values import BatchPolicy, Outcome
    from ._writer import Row

__all__ = ["BatchDatabase", "read_results"]

_FORMAT: Final = 2
_BUFFER_BYTES: Final = 1 << 20
_APPLICATION_ID: Final = 0x53534231
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE header (
  batch_id TEXT, base_url TEXT, client_id TEXT, idempotency_key TEXT, sha256 TEXT, lines INTEGER, requests INTEGER,
  results BLOB
);
CREATE TABLE requests (
  line INTEGER PRIMARY KEY, state TEXT NOT NULL, status INTEGER, attempts INTEGER, started_at REAL, ended_at REAL,
  result TEXT
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
COMMIT;
"""
_INSERT_HEADER: Final = """
INSERT INTO header VALUES
  (:batch_id, :base_url, :client_id, :idempotency_key, :sha256, :lines, :requests, :results)
"""
# In memory each line is a number, its state's place here and its status: two bytes, and counting takes no query.
_STATES: Final[tuple[Any, ...]] = (READY, "begun", *OUTCOMES)
_BEGUN: Final = 1
_STATE: Final = 1_000


class BatchDatabase:
    """State of each request of a file, on disk; a context manager that closes it.

    Opening it begins a batch if there is none, and continues one if there is. One run at a time uses it. A run in which
    no request was begun leaves none.

    Args:
        path: where it is, or will be.
        requests: the file; it is checked, unless the database knows it.
        client_id: the client whose batch it is.
        idempotency_key: name of the header that makes requests repeatable; the same in each run.
        results: where results go: a file, which holds all results of all runs; or a binary stream, which gets those of
            this run.
        is_restarted: send everything; the earlier batch and its results are kept until the first request is recorded.

    Raises:
        BatchDatabaseError: if it cannot be used, or another run uses it.
        BatchFileError: if lines of the file are not requests, or the batch is that of another file.
        ConfigurationError: if the batch is that of another base URL, client or idempotency key, or *results* is another
            file that is not empty.
        OSError: if the file of results cannot be written.
    """

    def __init__(  # noqa: PLR0913 - what identifies a batch, and where its results go
        self,
        path: str | os.PathLike[str],
        *,
        requests: RequestFile,
        client_id: str = "",
        idempotency_key: str | None = None,
        results: str | os.PathLike[str] | IO[bytes] | None = None,
        is_restarted: bool = False,
    ) -> None:
        check_type("requests", requests, RequestFile)
        check_type("client_id", client_id, str)
        self.path: Path = Path(path)
        self.requests = requests
        self.batch_id: str = ""
        self._identity = {
            "base_url": str(requests.base_url),
            "client_id": client_id,
            "idempotency_key": idempotency_key or "",
            "sha256": requests.sha256,
        }
        self._lock = threading.Lock()  # a thread may be writing
        self._is_closed = self._has_replaced = self._keeps_earlier = False
        self._owns_results = isinstance(results, str | os.PathLike)
        self._results: IO[bytes] | None = None
        self._place: bytes | None = None
        self._connection = _connect(self.path)
        try:
            with _explained(self.path):
                self._begin_or_continue(results, is_restarted=is_restarted)
                self._codes = array("H", bytes(2 * (requests.line_count + 1)))
                if not self._keeps_earlier:
                    for line, state, status in self._connection.execute("SELECT line, state, status FROM requests"):
                        self._codes[line] = _code(state, status)
            if results is not None:
                stored = None if self._keeps_earlier else _stored_results(self._connection)
                self._results = _open_results(results, stored)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; remove it if nothing was begun. Called again it does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._results and self._owns_results:
                with suppress(OSError, sqlite3.Error):
                    self._results.close()
                    if self._has_replaced:  # so that the file has one result for each request again
                        _open_results(self._results.name, _stored_results(self._connection)).close()
            unused: list[Path] = []
            with suppress(sqlite3.Error):
                if not _is_begun(self._connection):
                    unused = [Path(f"{self.path}-wal"), self.path]
            _remove(unused)  # while no other run can open it
            self._connection.close()
            if sys.platform == "win32":  # which cannot remove what is open
                _remove(unused)

    @property
    def idempotency_key(self) -> str | None:
        """Name of the header that makes requests repeatable."""
        return self._identity["idempotency_key"] or None

    def summary(self, *, is_stopped: bool = False, elapsed_seconds: float = 0.0, sent: int = 0) -> BatchSummary:
        """Return the state of the batch; requests that were in flight at a crash are unknown."""
        counts: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        statuses: Counter[int] = Counter()
        for code, count in sorted(Counter(self._codes).items()):
            state, status = divmod(code, _STATE)
            if state:
                counts["unknown" if state == _BEGUN else _STATES[state]] += count
            if status:
                statuses[status] += count
        return BatchSummary(
            counts=counts,
            statuses=statuses,
            remaining=(self.requests.count or 0) - sum(counts.values()),
            is_stopped=is_stopped,
            elapsed_seconds=elapsed_seconds,
            sent=sent,
        )

    def find_pending(self, policy: BatchPolicy) -> Callable[[int], bool] | None:
        """Return a function that checks whether a line is still to be sent; None if no line is.

        Lines beyond the last are: reading them shows that the file was changed, before anything of it is sent.
        """
        self._has_replaced = bool(policy.resend)
        pending = {0}
        for code in set(self._codes):
            state, status = divmod(code, _STATE)
            if state <= _BEGUN or not policy.resend.isdisjoint({_STATES[state], status}):
                pending.add(code)
        if pending == {0} and not self.summary().remaining:
            return None
        return lambda line: line >= len(self._codes) or self._codes[line] in pending

    def was_begun(self, line: int) -> bool:
        """Return whether a request was begun by an earlier run, and has no result."""
        return self._codes[line] // _STATE == _BEGUN

    def commit(self, rows: list[Row]) -> None:
        """Commit the new state of some lines, and write their results; in the writer's thread."""
        latest = {row[0]: row for row in rows}
        values = ",".join(["(?,?,?,?,?,?,?)"] * len(latest))
        statement = f"REPLACE INTO requests VALUES {values}"  # noqa: S608 - placeholders
        with self._lock:
            # One statement, which is a transaction of its own: after each, this thread has to get the interpreter back
            # from the event loop.
            with _explained(self.path), self._forgetting() if self._keeps_earlier else nullcontext():
                self._connection.execute(statement, [*chain(*latest.values())])
            for row in latest.values():
                self._codes[row[0]] = _code(row[1], row[2])
            if self._results and (results := "".join(row[6] for row in rows if row[6])):
                self._results.write(results.encode())
                self._results.flush()

    def _begin_or_continue(self, results: str | os.PathLike[str] | IO[bytes] | None, *, is_restarted: bool) -> None:
        """Continue the batch, if it was begun; begin it otherwise."""
        connection, requests = self._connection, self.requests
        connection.execute("BEGIN IMMEDIATE")
        was_begun = _is_begun(connection)
        self._keeps_earlier = was_begun and is_restarted
        is_continued = was_begun and not is_restarted
        cursor = connection.cursor()
        cursor.row_factory = sqlite3.Row
        stored: dict[str, Any] = dict(cursor.execute("SELECT * FROM header").fetchone() or {})
        if is_continued:
            self._check_identity(stored)
        if isinstance(results, str | os.PathLike):
            self._place = self._check_results(results, stored.get("results"))
        if requests.count is None and stored.get("sha256") == requests.sha256:
            requests.line_count, requests.count = stored["lines"], stored["requests"]
        elif requests.count is None:
            requests.check()
        self.batch_id = stored["batch_id"] if is_continued else uuid.uuid4().hex
        if is_continued:
            connection.execute("UPDATE header SET results = ?", [self._place or stored["results"]])
        elif not was_begun:
            self._begin()
        connection.execute("COMMIT")

    def _begin(self) -> None:
        facts = {"batch_id": self.batch_id, "lines": self.requests.line_count, "requests": self.requests.count}
        self._connection.execute("DELETE FROM requests")
        self._connection.execute("DELETE FROM header")
        self._connection.execute(_INSERT_HEADER, self._identity | facts | {"results": self._place})

    @contextmanager
    def _forgetting(self) -> Generator[None]:
        """Begin anew, in the transaction that records the first request."""
        with self._connection:  # commits, or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            self._begin()
            yield
        if self._results and self._owns_results and Path(self._results.name).is_file():
            self._results.truncate(0)
        self._keeps_earlier = False

    def _check_results(self, results: str | os.PathLike[str], earlier: bytes | None) -> bytes:
        """Check that a file may hold the results: a new one, or that of an earlier run; return its place.

        The place is relative to the database, so that both can be moved. It is bytes, as a file's name may not be text.
        """
        path = Path(os.path.realpath(results))
        taken = [self.path, *([] if self.requests.is_spooled else [self.requests.path])]
        if path in map(Path, map(os.path.realpath, taken)):
            raise ConfigurationError("results", f"cannot go to {results}: it is the input, or the database")
        try:
            place = os.fsencode(os.path.relpath(path, os.path.realpath(self.path.parent)))
        except ValueError:  # another drive of Windows
            place = os.fsencode(path)
        if place != earlier and path.is_file() and path.stat().st_size:
            hint = "results never replace another file; remove it or name another"
            raise ConfigurationError("results", f"cannot go to {results}: it is not empty", hint)
        return place

    def _check_identity(self, stored: dict[str, Any]) -> None:
        hint = "use another database, or pass --restart to send everything again"
        if stored["sha256"] != self._identity["sha256"]:
            raise BatchFileError(f"{self.requests.path} has changed since {self.path} was begun", hint)
        for field, expected in self._identity.items():
            if stored[field] != expected:
                found = f"{stored[field] or 'none'}, got {expected or 'none'}"
                raise ConfigurationError(field, f"of the batch in {self.path} is {found}", hint)


def read_results(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the result of each request of a batch that has one, as a line of JSON, by line.

    Raises:
        BatchDatabaseError: if there is no batch, or a run uses it.
    """
    path = Path(path)
    if not path.exists():
        raise BatchDatabaseError(f"there is no batch {path}", code="batch-not-found")
    with closing(_connect(path)) as connection, _explained(path):
        yield from _stored_results(connection)


def _open_results(results: str | os.PathLike[str] | IO[bytes], stored: Iterator[bytes] | None) -> IO[bytes]:
    """Return the stream that results are written to.

    A regular file holds the *stored* results then, whatever became of it in the meantime: it is written next to its
    place, and replaces it whole. Without them the file stays as it is.
    """
    if not isinstance(results, str | os.PathLike):
        return results
    path = Path(os.path.realpath(results))
    if path.exists() and not path.is_file():
        return path.open("wb")
    if stored is not None:
        written = path.with_name(f"{path.name}.new")
        with written.open("wb", buffering=_BUFFER_BYTES) as file:
            file.writelines(stored)
        written.replace(path)
    return path.open("ab")


def _code(state: str, status: int | None) -> int:
    return _STATES.index(state) * _STATE + (status or 0)


def _is_begun(connection: sqlite3.Connection) -> bool:
    (is_begun,) = connection.execute("SELECT EXISTS (SELECT 1 FROM requests WHERE state <> 'ready')").fetchone()
    return bool(is_begun)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _stored_results(connection: sqlite3.Connection) -> Iterator[bytes]:
    rows = connection.execute("SELECT result FROM requests WHERE result IS NOT NULL ORDER BY line")
    return (result.encode() for (result,) in rows)


def _connect(path: Path) -> sqlite3.Connection:
    """Open a database that nothing else uses, and make its tables if there are none."""
    with _explained(path), ExitStack() as stack:
        # Each number of rows has its statement, which keeps its last values: few of them, as they add up to megabytes.
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=8
        )
        stack.callback(connection.close)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        is_new = not connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()[0]
        if not is_new and (kind, version) != (_APPLICATION_ID, _FORMAT):
            raise BatchDatabaseError(f"{path} is not the database of a batch, or of another version")
        connection.execute("COMMIT")  # which keeps the lock
        if is_new:
            connection.executescript(_SCHEMA)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -500")  # KiB; rows are written in order, and not read
        connection.execute("PRAGMA wal_autocheckpoint = 8000")  # pages; a checkpoint holds up the commits after it
        stack.pop_all()
    return connection


@contextmanager
def _explained(path: Path) -> Generator[None]:
    """Report what SQLite cannot do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            problem, hint = f"another run uses {path}", "wait until it has ended"
            raise BatchDatabaseError(problem, hint, code="batch-in-use") from error
        if name == "SQLITE_NOTADB" or name.startswith("SQLITE_CORRUPT"):
            raise BatchDatabaseError(f"{path} is not the database of a batch, or is damaged: {error}") from error
        raise BatchDatabaseError(
            f"cannot write {path}: {error}", "nothing is sent that is not recorded there"
        ) from error
