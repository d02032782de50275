"""What a batch leaves on disk, and what the next one makes of it: `simplestore_async.batch.Journal`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.batch import BatchResult, Journal
from simplestore_async.batch._records import State, pack_marks, unpack
from simplestore_async.errors import JournalError
from tests.support.batches import make_line, read_results, write_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simplestore_async.batch import Outcome, RequestFile


@pytest.fixture
def requests(tmp_path: Path) -> RequestFile:
    return write_requests(tmp_path, [make_line(number, "POST" if number % 2 else "GET") for number in range(1, 7)])


def result_of(line: int, outcome: Outcome = "succeeded") -> BatchResult:
    return BatchResult(id=line, line=line, outcome=outcome)


class Batch:
    """Journal and results in one folder."""

    def __init__(self, folder: Path, requests: RequestFile) -> None:
        self.path = folder / "journal"
        self.results = folder / "results"
        self.requests = requests

    def open(self, **changes: Any) -> Journal:
        arguments: dict[str, Any] = {"requests": self.requests, "results": self.results}
        return Journal(self.path, **arguments | changes)

    async def begin(self, *, begun: list[int], done: list[int]) -> None:
        """Leave a journal with so many requests begun, and so many of them done."""
        with self.open() as journal:
            journal.start()
            for request in self.requests:
                if request.line in begun:
                    await journal.begin(request)
                if request.line in done:
                    await journal.finish(result_of(request.line))
            await journal.settle()

    def refusal(self, **changes: Any) -> str:
        """Return why the journal cannot be used; nothing may have changed by that, nor is anything held."""
        before = self.path.exists() and self.path.read_bytes()
        with pytest.raises(JournalError) as caught:
            self.open(**changes)
        assert before == (self.path.exists() and self.path.read_bytes())
        return str(caught.value)


@pytest.fixture
def batch(tmp_path: Path, requests: RequestFile) -> Batch:
    return Batch(tmp_path, requests)


def pending(journal: Journal, *, has_leave_to_resend: bool = False) -> list[int]:
    return [number for number in range(1, 7) if journal.is_pending(number, has_leave_to_resend=has_leave_to_resend)]


async def test_life(batch: Batch) -> None:
    """What was begun and what was done is there in the next run, and each result once."""
    await batch.begin(begun=[1, 2, 3], done=[1, 2])

    with batch.open(is_resumed=True) as journal:
        assert batch.path == journal.path
        assert {"succeeded": 2, "refused": 0, "failed": 0, "unknown": 0} == journal.counts
        assert 4 == journal.remaining
        assert [3, 4, 5, 6] == pending(journal)
        assert [3] == [number for number in range(1, 7) if journal.may_have_been_sent(number)]
    assert [1, 2] == [result["line"] for result in read_results(batch.results)]


async def test_unknown(batch: Batch) -> None:
    """A line of unknown outcome has a result; with leave there is something to do for it."""
    with batch.open() as journal:
        journal.start()
        await journal.finish(result_of(1, "unknown"))
        await journal.settle()
        assert [2, 3, 4, 5, 6] == pending(journal)
        assert [1, 2, 3, 4, 5, 6] == pending(journal, has_leave_to_resend=True)


async def test_kept(batch: Batch) -> None:
    """A request that was not sent after all is as if it had never been begun."""
    with batch.open() as journal:
        journal.start()
        for request in batch.requests:
            await journal.begin(request)
            journal.keep(request)
        await journal.settle()
    with batch.open(is_resumed=True) as journal:
        assert 6 == journal.remaining
        assert not any(map(journal.may_have_been_sent, range(1, 7)))


async def test_begun_is_on_disk(batch: Batch) -> None:
    """When `begin` returns, the journal has a request that may change something."""
    with batch.open() as journal:
        journal.start()
        first = next(iter(batch.requests))
        await journal.begin(first)
        assert {"begun": [1], "size": 0} == unpack(batch.path.read_bytes().splitlines(keepends=True)[-1])
        await journal.settle()


async def test_many_results(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results do not pile up in memory: so many are written before there are more."""
    with batch.open() as journal:
        journal.start()
        for _ in range(600):  # no turn of the loop between them, but for those that wait
            await journal.finish(result_of(1))
        assert len(read_results(batch.results)) >= 512
        await journal.settle()
    assert 600 == len(read_results(batch.results))


async def test_settle_twice(batch: Batch) -> None:
    """A journal that takes no notes settles at once; closing it again does nothing."""
    journal = batch.open()
    await journal.settle()
    journal.close()
    journal.close()


class TestRefusal:
    def test_nothing_to_resume(self, batch: Batch) -> None:
        """Without a journal there is nothing to resume, lest a wrong name sends everything again."""
        assert "there is no journal" in batch.refusal(is_resumed=True)
        assert not batch.path.exists()

    def test_results_in_the_journal(self, batch: Batch) -> None:
        """One file cannot be both."""
        assert "name two files" in batch.refusal(results=batch.path.parent / "." / "journal")
        assert not batch.path.exists()

    async def test_there_already(self, batch: Batch) -> None:
        """A journal that is there is not begun again."""
        await batch.begin(begun=[1], done=[1])
        assert "go on with --resume" in batch.refusal()

    def test_two_at_once(self, batch: Batch) -> None:
        """One batch at a time uses a journal."""
        with batch.open():
            assert "another batch is at work" in batch.refusal(is_resumed=True)
        batch.open(is_resumed=True).close()

    async def test_other_file(self, batch: Batch, tmp_path: Path) -> None:
        """A journal is about one file, byte for byte."""
        await batch.begin(begun=[1], done=[1])
        other = write_requests(tmp_path, [make_line(number) for number in range(1, 7)], name="other")
        assert "is the journal of another file, or of this one before it was changed" in batch.refusal(
            is_resumed=True, requests=other
        )

    @pytest.mark.parametrize(
        "content", [b"{}\n", b"0123 {}\n", b"a text of mine", b"\n", pack_marks({}, size=None)], ids=range(5)
    )
    def test_no_journal(self, batch: Batch, content: bytes) -> None:
        """A file that is no journal is left alone."""
        batch.path.write_bytes(content)
        assert "is no journal of a batch" in batch.refusal(is_resumed=True)

    def test_results_are_there(self, batch: Batch) -> None:
        """Results never replace something else."""
        batch.results.write_text("mine")
        with pytest.raises(JournalError, match="holds something already"):
            batch.open()
        assert "mine" == batch.results.read_text()

    async def test_results_elsewhere(self, batch: Batch, tmp_path: Path) -> None:
        """Results go on where they began, or nowhere."""
        await batch.begin(begun=[1], done=[1])
        assert "name it again with --output" in batch.refusal(is_resumed=True, results=None)
        assert "is not as the batch left it" in batch.refusal(is_resumed=True, results=tmp_path / "new")

    @pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: data[5:], lambda data: b"\n" + data])
    async def test_results_changed(self, batch: Batch, change: Callable[[bytes], bytes]) -> None:
        """Results that somebody changed are no longer to be relied on."""
        await batch.begin(begun=[1, 2], done=[1, 2])
        changed = change(batch.results.read_bytes())
        batch.results.write_bytes(changed)
        assert "take back what was changed in it" in batch.refusal(is_resumed=True)
        assert changed == batch.results.read_bytes()

    async def test_damaged(self, batch: Batch) -> None:
        """Damage that no power cut does is not read over."""
        await batch.begin(begun=[1, 2, 3], done=[1])
        data = batch.path.read_bytes()
        header, _, rest = data.partition(b"\n")
        batch.path.write_bytes(header + b"\n" + rest.replace(b"[1", b"[2", 1))
        place = len(header) + len(rest.partition(b"\n")[0]) + 2
        assert f"is damaged at byte {place}, " in batch.refusal(is_resumed=True)

    def test_no_folder(self, batch: Batch, tmp_path: Path) -> None:
        """Where a file cannot be made the system says why, and nothing is held."""
        with pytest.raises(OSError, match="gone"):
            batch.open(results=tmp_path / "gone" / "results")
        batch.open().close()


class TestPowerCut:
    async def test_journal(self, batch: Batch) -> None:
        """A journal that ends anywhere is read up to its last whole line, and goes on there."""
        await batch.begin(begun=[1, 2, 3], done=[])
        whole = batch.path.read_bytes()
        header = whole.index(b"\n") + 1
        for length in range(0, len(whole), 5):
            batch.path.write_bytes(whole[:length])
            batch.results.unlink(missing_ok=True)
            with batch.open(is_resumed=True) as journal:
                assert pending(journal) == [1, 2, 3, 4, 5, 6]
            data = batch.path.read_bytes()
            assert whole[:header] == data[:header]
            assert all(unpack(line) is not None for line in data.splitlines(keepends=True))

    @pytest.mark.parametrize("garbage", [bytes(512), b"\xff" * 100, b'00000000 {"begun":[6]}\n'], ids=range(3))
    async def test_garbage(self, batch: Batch, garbage: bytes) -> None:
        """What a file system puts behind the last line is taken off."""
        await batch.begin(begun=[1], done=[1])
        size = batch.path.stat().st_size
        with batch.path.open("ab") as file:
            file.write(garbage)
        with batch.open(is_resumed=True) as journal:
            assert 5 == journal.remaining
        assert garbage not in batch.path.read_bytes()[size:]

    async def test_results(self, batch: Batch) -> None:
        """A result that the journal does not know counts if it is whole, and is taken off if not."""
        await batch.begin(begun=[1, 2, 3], done=[1])
        second, lost = b'{"line": 2, "outcome": "refused"}\n', bytes(100)
        for tail, whole in (b'{"line": 3, "outc', b""), (lost, b""), (lost + b"e}\n" + second, second):
            before = batch.results.read_bytes()
            batch.results.write_bytes(before + tail)
            batch.open(is_resumed=True).close()
            assert before + whole == batch.results.read_bytes()
        with batch.open(is_resumed=True) as journal:
            assert {"succeeded": 1, "refused": 1, "failed": 0, "unknown": 0} == journal.counts
            assert [3, 4, 5, 6] == pending(journal)

    @pytest.mark.parametrize(
        "line", [b"{}", b"[]", b'{"line": "1", "outcome": "failed"}', b'{"line": 1, "outcome": "x"}', b"my own"]
    )
    async def test_no_result(self, batch: Batch, line: bytes) -> None:
        """What is whole and no result was written by somebody else, and is left alone."""
        await batch.begin(begun=[], done=[1])
        with batch.results.open("ab") as file:
            file.write(line + b"\n")
        assert "take back what was changed in it" in batch.refusal(is_resumed=True)
        assert batch.results.read_bytes().endswith(line + b"\n")


class TestStream:
    async def test_stream(self, batch: Batch) -> None:
        """Results may go to a stream instead, which is left open."""
        stream = BytesIO()
        with batch.open(results=stream) as journal:
            journal.start()
            await journal.finish(result_of(1))
            await journal.settle()
        assert 1 == json.loads(stream.getvalue())["line"]
        assert not batch.results.exists()

    async def test_file_after_stream(self, batch: Batch) -> None:
        """Those of a later run may go to a file, if it is empty."""
        with batch.open(results=None) as journal:
            journal.start()
            await journal.finish(result_of(1))
            await journal.settle()
        batch.results.write_text("mine")
        assert "holds something already" in batch.refusal(is_resumed=True)
        batch.results.unlink()
        batch.open(is_resumed=True).close()

    async def test_broken_pipe(self, batch: Batch) -> None:
        """A reader that went away is told as such; what it did not get is not done, as far as the next run knows."""
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb", buffering=0) as stream, batch.open(results=stream) as journal:
            journal.start()
            await journal.finish(result_of(1))
            with pytest.raises(BrokenPipeError):
                await journal.settle()
            assert 6 == journal.remaining


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond a size."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
async def test_full_disk(batch: Batch, full_disk: Callable[[int], None]) -> None:
    """What cannot be noted may not be sent, nor what is noted while a write fails; and no more is written."""
    with batch.open() as journal:
        journal.start()
        size = batch.path.stat().st_size
        full_disk(size + 3)
        posts = [request for request in batch.requests if not request.is_safe]
        ends = await asyncio.gather(*map(journal.begin, posts), return_exceptions=True)
        assert [
            "cannot write what was sent, and so nothing more was sent: File too large. Mend that, and resume"
        ] * 3 == [str(end) for end in ends]
        with pytest.raises(JournalError):
            await journal.begin(posts[0])
        assert size + 3 == batch.path.stat().st_size
        with pytest.raises(JournalError):
            await journal.settle()
    full_disk(1 << 30)
    with batch.open(is_resumed=True) as journal:
        assert (6, [State.WAITING] * 6) == (journal.remaining, [State(journal._states[n]) for n in range(1, 7)])
