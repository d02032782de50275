"""`simplestore_async.batch._deadlines`, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from simplestore_async.batch._deadlines import Deadlines
from tests.support.virtual_loop import run_chosen


async def attempt(deadlines: Deadlines, *, at: float, seconds: float) -> tuple[float, bool]:
    """Begin at that time, and try for so long; return how long it took, and whether it ended by itself."""
    await asyncio.sleep(at)
    now = asyncio.get_running_loop().time
    began_at = now()
    try:
        with deadlines:
            await asyncio.sleep(seconds)
    except TimeoutError:
        return now() - began_at, False
    return now() - began_at, True


def test_each_has_its_own_time() -> None:
    """Attempts that began one after another end, if they do not end by themselves, each after its own ten seconds."""

    async def scenario() -> None:
        deadlines = Deadlines(10)
        attempts = [(0, 50), (1, 9), (5, 50), (8, 9.5), (60, 10.5)]
        expected = [(10, False), (9, True), (10, False), (9.5, True), (10, False)]
        assert expected == await asyncio.gather(
            *(attempt(deadlines, at=at, seconds=seconds) for at, seconds in attempts)
        )
        deadlines.close()

    run_chosen(scenario, [])


@pytest.mark.parametrize("cancelled_at", [1, 10])
def test_who_is_cancelled(cancelled_at: float) -> None:
    """Whoever is cancelled within ends as cancelled, be it overdue by then, and nothing is left of the deadline."""

    async def scenario() -> None:
        deadlines = Deadlines(10)
        task = asyncio.create_task(attempt(deadlines, at=0, seconds=50))
        await asyncio.sleep(cancelled_at)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(20)
        deadlines.close()

    run_chosen(scenario, [])


def test_who_catches_the_end() -> None:
    """What an attempt raises or returns when its time is over is kept, and the next attempt has its own time."""

    async def scenario() -> None:
        deadlines = Deadlines(10)

        async def end_otherwise() -> None:
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                raise ValueError from None

        with pytest.raises(ValueError), deadlines:
            await end_otherwise()
        assert (9.0, True) == await attempt(deadlines, at=0, seconds=9)
        assert (10.0, False) == await attempt(deadlines, at=0, seconds=11)
        deadlines.close()

    run_chosen(scenario, [])
