"""A fleet in virtual time: workers that start together, each with its own provider and no shared cache."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from simplestore_async import TokenProvider
from tests.support.production import CREDENTIALS, HOUR, LIFE, LoopClock, run
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

if TYPE_CHECKING:
    from tests.support.virtual_loop import VirtualLoop

BIN: Final = 10.0
"""The length of an interval in which requests are counted."""


@attrs.frozen
class Fleet:
    """The token requests of a fleet, in seconds since its start."""

    workers: int
    seconds: float
    posts: list[float]

    @property
    def bins(self) -> list[int]:
        """The number of requests in each interval."""
        counts = Counter(int(at / BIN) for at in self.posts)
        return [counts[number] for number in range(int(self.seconds / BIN))]

    @property
    def settled(self) -> list[int]:
        """The intervals after the first hour."""
        return self.bins[int(HOUR / BIN) :]

    @property
    def mean(self) -> float:
        return sum(self.settled) / len(self.settled)

    @property
    def ratio(self) -> float:
        """The peak after the first hour, as a multiple of the mean."""
        return max(self.settled) / self.mean


def play_fleet(seed: int, *, workers: int, hours: float) -> Fleet:
    """Return the token requests of *workers* that start together, each with its own provider."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    posts: list[float] = []

    async def answer() -> Reply:
        posts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(chance.uniform(0.02, 0.5))
        return grant(f"token-{len(posts)}", LIFE)

    async def work(clock: LoopClock, until: float) -> None:
        endpoint = VirtualEndpoint(CREDENTIALS, clock=clock, answer=answer)
        async with TokenProvider(endpoint=endpoint) as provider:
            while clock.monotonic() < until:
                await provider.get_token()
                # Call when the token is due, like a worker that calls all the time: intervals would spread the
                # requests. Call again after a second while a background renewal runs.
                held = provider._store.state.held
                seconds = held.due_at - clock.monotonic() if held else 0.0
                await asyncio.sleep(seconds if seconds > 0 else 1.0)

    async def play(loop: VirtualLoop) -> Fleet:
        clock, began_at = LoopClock(loop), loop.time()
        until = began_at + hours * HOUR
        await asyncio.gather(*[work(clock, until) for _ in range(workers)])
        return Fleet(workers, hours * HOUR, [at - began_at for at in posts if at < until])

    return run(play, seed=seed)
