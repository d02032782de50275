"""A day of one process in virtual time, with an unreliable token endpoint."""

from __future__ import annotations

import asyncio
import errno
import random
from itertools import accumulate, pairwise
from math import ceil, inf
from typing import TYPE_CHECKING, Final

import attrs

from simplestore_async import TokenProvider
from simplestore_async.errors import SimpleStoreError
from tests.support.production import CREDENTIALS, HOUR, LIFE, LoopClock, run
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

if TYPE_CHECKING:
    from tests.support.virtual_loop import VirtualLoop

DAY: Final = 24 * HOUR
LEAST_TOKENS: Final = ceil(DAY / LIFE)
"""Calls throughout a day need at least one token per lifetime."""

DOWN: Final = 0.1
"""The fraction of the day that outages cover."""
LONGEST_OUTAGE: Final = 480.0
LEAST_GAP: Final = 60.0
"""The shortest time between two outages, and before the first."""
SLOW: Final = 0.05
"""The fraction of responses that take seconds."""
RESETS: Final = 0.01
"""The fraction of other requests that are reset."""
STEPS: Final = (-6 * HOUR, -HOUR, -900.0, -120.0, 120.0, 900.0, HOUR, 6 * HOUR)
"""Possible steps of the wall clock."""
BURST: Final = 50
"""The number of concurrent calls at the start and occasionally later."""


@attrs.frozen
class Outage:
    began_at: float
    ended_at: float


@attrs.frozen
class Step:
    """A step of the wall clock."""

    at: float
    seconds: float


@attrs.define(eq=False)
class Post:
    """One token request; its renewal is identified by the name of its task."""

    renewal: str
    began_at: float
    ended_at: float = inf
    outcome: str = "no response"
    retry_after: float = 0.0

    @property
    def is_token(self) -> bool:
        return self.outcome == "token"


@attrs.frozen
class Call:
    """One API call: when it called get_token(), when that returned, and whether the API accepted the token."""

    began_at: float
    ended_at: float
    is_served: bool


@attrs.define(eq=False)
class Day:
    """The log of a day, in seconds since midnight."""

    outages: list[Outage]
    steps: list[Step]
    posts: list[Post] = attrs.field(factory=list)
    calls: list[Call] = attrs.field(factory=list)

    @property
    def tokens(self) -> list[Post]:
        """The requests that returned a token, whose lifetime starts at the request."""
        return [post for post in self.posts if post.is_token]

    @property
    def failed_calls(self) -> list[Call]:
        return [call for call in self.calls if not call.is_served]

    @property
    def least_life(self) -> float:
        """The shortest remaining life of a token when the next one arrived."""
        return min(old.began_at + LIFE - new.ended_at for old, new in pairwise(self.tokens))

    @property
    def ratio(self) -> float:
        """The number of tokens, as a multiple of the minimum."""
        return len(self.tokens) / LEAST_TOKENS


def _scatter(chance: random.Random) -> list[Outage]:
    """Return outages of half a minute to eight minutes, a third of them the longest, anywhere in the day."""
    lengths: list[float] = []
    while (left := DAY * DOWN - sum(lengths)) > 1:
        lengths.append(min(left, LONGEST_OUTAGE, chance.uniform(30, 1.5 * LONGEST_OUTAGE)))
    free = DAY * (1 - DOWN) - LEAST_GAP * len(lengths)
    delays = sorted(chance.uniform(0, free) for _ in lengths)
    befores = accumulate((LEAST_GAP + length for length in lengths), initial=LEAST_GAP)
    return [
        Outage(before + delay, before + delay + length)
        for before, length, delay in zip(befores, lengths, delays, strict=False)
    ]


def play_day(seed: int) -> Day:
    """Return the log of one process's day."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    steps = [Step(chance.uniform(0, DAY), chance.choice(STEPS)) for _ in range(8)]
    day = Day(_scatter(chance), sorted(steps, key=lambda step: step.at))
    return run(lambda loop: _Process(day, chance, loop).live(), seed=seed)


class _Process:
    """A process that calls the API all day, its token endpoint, and that API."""

    def __init__(self, day: Day, chance: random.Random, loop: VirtualLoop) -> None:
        self.day = day
        self.chance = chance
        self.loop = loop
        self.midnight = loop.time()
        self.clock = LoopClock(loop)
        self.expiry: dict[str, float] = {}
        self.provider = TokenProvider(endpoint=VirtualEndpoint(CREDENTIALS, clock=self.clock, answer=self.answer))

    def now(self) -> float:
        return self.loop.time() - self.midnight

    async def live(self) -> Day:
        for step in self.day.steps:
            self.loop.call_at(self.midnight + step.at, self.clock.step, step.seconds)
        async with self.provider, asyncio.TaskGroup() as group:
            callers = BURST
            while self.now() < DAY:
                for _ in range(callers):
                    group.create_task(self.call())
                await asyncio.sleep(self.chance.uniform(0.1, 4))
                callers = BURST if self.chance.random() < 0.002 else 1
        return self.day

    async def call(self) -> None:
        """Call the API, which accepts each token for an hour from its request."""
        began_at = self.now()
        try:
            token = await self.provider.get_token()
        except SimpleStoreError:
            is_served = False
        else:
            is_served = self.now() < self.expiry[token.value]
        self.day.calls.append(Call(began_at, self.now(), is_served))

    async def answer(self) -> Reply:
        """Respond to a token request."""
        task = asyncio.current_task()
        post = Post(task.get_name() if task else "", self.now())
        self.day.posts.append(post)
        try:
            return await self.reply(post)
        finally:
            post.ended_at = self.now()

    async def reply(self, post: Post) -> Reply:
        seconds = self.latency()
        cut_at = inf
        for outage in self.day.outages:
            if outage.began_at <= post.began_at < outage.ended_at:
                return await self.fail(post, seconds, outage.ended_at)
            if post.began_at < outage.began_at < post.began_at + seconds:
                cut_at = outage.began_at
        if self.chance.random() < RESETS or cut_at < inf:
            await asyncio.sleep(min(seconds, cut_at - post.began_at))
            post.outcome = "reset"
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        await asyncio.sleep(seconds)
        post.outcome = "token"
        value = f"token-{len(self.expiry) + 1}"
        self.expiry[value] = post.began_at + LIFE
        return grant(value, LIFE)

    async def fail(self, post: Post, seconds: float, until: float) -> Reply:
        """Fail as an unavailable endpoint does: refuse, hang, or respond 503, perhaps with Retry-After."""
        kind = self.chance.randrange(4)
        if kind == 0:
            post.outcome = "refused"
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if kind == 1:
            await self.loop.create_future()
        await asyncio.sleep(seconds)
        post.outcome = "503"
        if kind == 2:
            return Reply(503)
        # Never past the outage's end, which would extend the outage.
        post.retry_after = int(self.chance.uniform(0, max(until - self.now(), 0)))
        return Reply(503, headers={"Retry-After": str(post.retry_after)})

    def latency(self) -> float:
        return self.chance.uniform(2, 8) if self.chance.random() < SLOW else self.chance.uniform(0.02, 0.5)
