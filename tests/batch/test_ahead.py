"""`simplestore_async.batch._ahead`, over a real journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from simplestore_async.batch import Journal
from simplestore_async.batch._ahead import Ahead
from simplestore_async.batch._records import unpack
from tests.support.batches import make_line, write_requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from simplestore_async.batch import BatchRequest, RequestFile


@pytest.fixture
def requests(tmp_path: Path) -> RequestFile:
    return write_requests(tmp_path, [make_line(number, "POST") for number in range(1, 11)])


@pytest.fixture
def journal(tmp_path: Path, requests: RequestFile) -> Iterator[Journal]:
    with Journal(tmp_path / "journal", requests=requests) as journal:
        yield journal


def look_ahead(
    requests: RequestFile, journal: Journal | None, *, unknown: int = 0, count: int = 4, most: int = 8
) -> Ahead:
    def is_unknown(request: BatchRequest) -> bool:
        return request.line == unknown

    return Ahead(iter(requests), journal=journal, is_unknown=is_unknown, count=count, most=most)


def begun_in(journal: Journal) -> list[list[int]]:
    """Return the lines that the journal says were begun, by the records that say it."""
    records = map(unpack, journal.path.read_bytes().splitlines(keepends=True))
    return [record["begun"] for record in records if record and "begun" in record]


async def test_many_in_one_write(requests: RequestFile, journal: Journal) -> None:
    """Requests are noted as many at once, so that some are ready while others are under way; each is given once."""
    journal.start()
    ahead = look_ahead(requests, journal)
    first = await ahead.take()
    assert first
    assert first.is_begun
    assert [[1, 2, 3, 4]] == begun_in(journal)
    taken = [first.request.line]
    while following := await ahead.take():
        taken.append(following.request.line)
    assert await ahead.take() is None
    await ahead.close()
    await journal.settle()
    assert list(range(1, 11)) == taken
    assert [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]] == begun_in(journal)


async def test_disk_is_slower(requests: RequestFile, journal: Journal) -> None:
    """Where requests are taken faster than they can be noted, more are noted at once, up to a limit."""

    async def take_all() -> None:
        while await ahead.take():
            pass

    journal.start()
    ahead = look_ahead(requests, journal, count=2, most=3)
    await asyncio.gather(*(take_all() for _ in range(5)))
    await ahead.close()
    await journal.settle()
    assert 3 == max(len(lines) for lines in begun_in(journal))


async def test_disk_is_faster(requests: RequestFile, journal: Journal) -> None:
    """Where requests take longer than that, few are noted at once, and nobody waits."""
    journal.start()
    ahead = look_ahead(requests, journal, count=2)
    while await ahead.take():
        assert ahead._filling
        await asyncio.wait({ahead._filling})
    await ahead.close()
    await journal.settle()
    assert [2] * 5 == [len(lines) for lines in begun_in(journal)]


async def test_what_was_not_taken(requests: RequestFile, journal: Journal) -> None:
    """What is left in the end is given back; a request that an earlier run began stays as it is, and says so."""
    journal.start()
    ahead = look_ahead(requests, journal, unknown=2)
    taken = await ahead.take()
    assert taken
    assert 1 == taken.request.line
    await ahead.close()
    await journal.settle()
    assert [[1, 3, 4]] == begun_in(journal)
    assert [1] == [*filter(journal.may_have_been_sent, range(1, 11))]


async def test_ended_while_it_is_noted(requests: RequestFile, journal: Journal) -> None:
    """Whoever ends the batch while requests are noted has them given back."""
    journal.start()
    ahead = look_ahead(requests, journal)
    worker = asyncio.create_task(ahead.take())
    await asyncio.sleep(0)  # it waits
    worker.cancel()
    await asyncio.wait([worker])
    await ahead.close()
    await journal.settle()
    assert worker.cancelled()
    assert [] == [*filter(journal.may_have_been_sent, range(1, 11))]


async def test_cancelled_while_others_wait(requests: RequestFile, journal: Journal) -> None:
    """Whoever is cancelled while it waits takes nobody's place."""
    journal.start()
    ahead = look_ahead(requests, journal, count=1)
    workers = [asyncio.create_task(ahead.take()) for _ in range(2)]
    await asyncio.sleep(0)  # they wait
    workers[0].cancel()
    taken = await workers[1]
    assert taken
    assert 1 == taken.request.line
    await ahead.close()
    await journal.settle()


async def test_without_a_journal(requests: RequestFile) -> None:
    """Without a journal nothing is read before it is asked for."""
    ahead = look_ahead(requests, None, unknown=2)
    taken = [await ahead.take() for _ in range(10)]
    assert [(number, False, number == 2) for number in range(1, 11)] == [
        (each.request.line, each.is_begun, each.is_unknown) for each in taken if each
    ]
    assert await ahead.take() is None
    await ahead.close()
