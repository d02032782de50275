"""The journal of a batch. Rule: what may have been sent is on the disk before it is, what came of it before it is told.

A journal is lines of text that are only ever added, so that a cut of power can damage none but the last; no database,
whose pages are written twice and in place. Results are on the disk before the journal says that they are there.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from simplestore_async.errors import JournalError

from ._commits import Commits, Group
from ._durable import DurableFile
from ._lock import check_presence, take_lock
from ._records import Header, State, in_order, pack_header, pack_marks, read_header, read_marks, unpack
from ._results import ResultsFile, ResultsStream, result_line
from ._values import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ._file import RequestFile
    from ._values import BatchRequest, BatchResult, Outcome

__all__ = ["Journal"]


class Journal:
    """What became of each request of a file, on disk; a context manager, which lets go of it.

    One batch at a time uses a journal. It stays when all is done: it is what keeps the file from being sent twice.

    Args:
        path: where it is, or is to be. Beside it comes a file with `.lock` at the end of its name, which stays.
        requests: the file that it is about.
        results: the file that results are written to, each once: also those of a request whose result came to the disk
            just before a power cut. An open binary stream instead gets each result at least as far as its other end.
            None: results are not written.
        is_resumed: whether the journal must be there already; else it must not be.

    Raises:
        JournalError: if it is not as it must be: says what to do. Nothing was sent.
        OSError: if a file cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        requests: RequestFile,
        results: str | os.PathLike[str] | IO[bytes] | None = None,
        is_resumed: bool = False,
    ) -> None:
        path = Path(path)
        if isinstance(results, str | os.PathLike) and Path(results).resolve() == path.resolve():
            raise JournalError(f"{path} cannot be both, the journal and the file of results: name two files")
        check_presence(path, is_resumed=is_resumed)
        self._lock = take_lock(path)
        self._commits: Commits | None = None
        self._untold: dict[State, list[int]] = {}
        self._states = bytearray(requests.line_count + 1)
        self._counts = [requests.line_count, *([0] * (len(State) - 1))]
        with ExitStack() as stack:
            stack.callback(self._lock.release)
            check_presence(path, is_resumed=is_resumed)  # which another batch may have changed until now
            self._results = _open_results(results)
            stack.callback(self._results.close)
            self._file = DurableFile(path)
            stack.callback(self._file.close)
            self._restore(Header(requests.sha256, requests.line_count))
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._file.path

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many requests had each outcome, over all runs."""
        return {outcome: self._counts[State.of(outcome)] for outcome in OUTCOMES}

    @property
    def remaining(self) -> int:
        """How many requests have no result yet."""
        return self._counts[State.WAITING] + self._counts[State.BEGUN]

    def close(self) -> None:
        """Let go of the files. Called again it does nothing."""
        self._open.close()

    def is_pending(self, number: int, *, has_leave_to_resend: bool) -> bool:
        """Return whether something is left to do for a line."""
        state = self._states[number]
        return state <= State.BEGUN or (has_leave_to_resend and state == State.UNKNOWN)

    def may_have_been_sent(self, number: int) -> bool:
        """Return whether a request was begun, and nobody knows how it ended."""
        return self._states[number] == State.BEGUN

    def start(self) -> None:
        """Take notes from now on, on the running event loop."""
        self._commits = Commits(self._write)

    async def begin(self, *requests: BatchRequest) -> None:
        """Note that requests are about to be sent; return when that is on disk, if any of them may change something.

        Raises:
            JournalError: if that cannot be written. The requests must not be sent.
        """
        for request in requests:
            self._running.note(State.BEGUN, request.line)
        if not all(request.is_safe for request in requests):
            await self._running.flush()

    async def finish(self, result: BatchResult) -> None:
        """Note a result.

        Raises:
            JournalError: if an earlier one could not be written.
        """
        self._running.note(State.of(result.outcome), result.line, result=result_line(result))
        await self._running.make_room()

    def keep(self, request: BatchRequest) -> None:
        """Note that a request was not sent after all."""
        self._running.note(State.WAITING, request.line)

    async def settle(self) -> None:
        """Write what is left, and take no more notes."""
        commits, self._commits = self._commits, None
        if commits:
            await commits.close()

    @property
    def _running(self) -> Commits:
        assert self._commits is not None  # noqa: S101 - the engine has started it
        return self._commits

    def _write(self, group: Group) -> None:
        """Write a group; in the thread of the commits.

        Between two checkpoints results are written, but the journal does not tell of them: whatever is whole of them
        counts in the next run, and nothing waits for them to come to the disk. A stream has no next run.
        """
        try:
            self._results.append(b"".join(group.results))
            for state, numbers in group.marks.items():
                self._untold.setdefault(state, []).extend(numbers)
            is_told = group.is_checkpoint or isinstance(self._results, ResultsStream)
            if is_told:
                self._results.sync()
            told = {state: self._untold.pop(state) for state in [*self._untold] if is_told or state <= State.BEGUN}
            self._file.append(pack_marks(told, size=self._results.synced_size))
            self._file.sync()
        except BrokenPipeError:
            raise
        except OSError as error:
            problem = (
                f"cannot write what was sent, and so nothing more was sent: {error.strerror}. Mend that, and resume"
            )
        else:
            # Only now: what could not be written did not happen, as far as the next run knows.
            self._take_over(told)
            return
        raise JournalError(problem)

    def _take_over(self, marks: Mapping[State, Sequence[int]]) -> None:
        for state in in_order(marks):
            for number in marks[state]:
                self._counts[self._states[number]] -= 1
                self._counts[state] += 1
                self._states[number] = state

    def _restore(self, header: Header) -> None:
        """Read what is there, mend what a power cut left, or write the first line."""
        lines, size = self._file.lines(), None
        first = next(lines, b"")
        if first.endswith(b"\n"):
            self._check_header(read_header(unpack(first)), header)
            size = self._read_marks(lines, whole=len(first))
        else:  # new, or cut short before anything could begin
            self._check_header(header if pack_header(header).startswith(first) else None, header)
            self._file.cut(0)
            self._file.append(pack_header(header))
            self._file.sync()
        if size is not None and not isinstance(self._results, ResultsFile):
            raise JournalError("the results so far are in a file: name it again with --output")
        marks: dict[State, list[int]] = {}
        if isinstance(self._results, ResultsFile):
            for number, outcome in self._results.mend(size):
                marks.setdefault(State.of(outcome), []).append(number)
            self._take_over(marks)
        self._results.sync()
        self._file.append(pack_marks(marks, size=self._results.synced_size))
        self._file.sync()

    def _check_header(self, found: Header | None, expected: Header) -> None:
        if found is None:
            raise JournalError(f"{self.path} is no journal of a batch, or that of another version: name another file")
        if found != expected:
            raise JournalError(
                f"{self.path} is the journal of another file, or of this one before it was changed: resume with the "
                "file as it was, or begin another batch with another journal"
            )

    def _read_marks(self, lines: Iterator[bytes], *, whole: int) -> int | None:
        """Take over how the lines stand; return how long the file of results was. The last record may be cut short."""
        size: int | None = None
        for line in lines:
            record = unpack(line)
            if record is None:
                if next(lines, None) is not None:
                    raise JournalError(
                        f"{self.path} is damaged at byte {whole}, and not at its end as after a power cut: restore it "
                        "from a copy; without it nobody knows which requests were sent"
                    )
                break
            self._take_over(read_marks(record))
            size = record.get("size", size)
            whole += len(line)
        self._file.cut(whole)
        return size


def _open_results(results: str | os.PathLike[str] | IO[bytes] | None) -> ResultsFile | ResultsStream:
    if isinstance(results, str | os.PathLike):
        return ResultsFile(Path(results))
    return ResultsStream(results)
