"""Random schedules of one provider in virtual time, checked against a model of its policy.

Hypothesis chooses callers, their deadlines and cancellations, responses, rejections, other processes, clock steps and
closing, on two event loops. The model is derived from the traffic and the policy alone, not from the provider's state.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from simplestore_async import AccessToken, ClientCredentials, MemoryTokenCache, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenError
from simplestore_async.events import Event, RenewalFailed, RenewalStarted, TokenReceived
from tests.support.clocks import FakeClock
from tests.support.provider_model import LEAST_FIRST_DUE, POLICY, RETRY, Given, Model
from tests.support.virtual_loop import VirtualLoop
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

EXAMPLES: Final = int(os.environ.get("SCHEDULES", "2000"))
"""Number of schedules in the long proof."""
PART: Final = 1_000
"""Number of schedules in one run of Hypothesis, which keeps all of them in memory."""

CREDENTIALS: Final = ClientCredentials(client_id="app", client_secret="secret")
LOOPS: Final = 2
PATIENCE_SECONDS: Final = POLICY.budget_seconds + POLICY.cache_seconds + POLICY.max_wait_seconds + 1
"""Limit for every caller: a renewal's budget, the release of its lock, and a margin."""

LIVES: Final = (0.5, 5, 60, 600, 3_600, 86_400)
PAUSES: Final = (2.0**-10, 0.25, 1, 2, 5, 10, 15, 31, 60, 301, 1_000, 3_600)
REFUSALS: Final = (
    Reply(400, b'{"error": "invalid_client"}'),
    Reply(403, b"<html>"),
    Reply(429, headers={"Retry-After": "7"}),
    Reply(429, headers={"Retry-After": "4000"}),
    Reply(500),
    Reply(503, headers={"Retry-After": "1"}),
    Reply(302),
    Reply(200, b"{"),
    Reply(200, b'{"access_token": "", "expires_in": 3600}'),
)
BREAKS: Final[tuple[Callable[[], Exception], ...]] = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 443),
    lambda: ValueError("an unexpected error"),
)


@attrs.define(eq=False)
class Post:
    """One POST on the wire: its loop, its time (monotonic clock), and its scripted response."""

    loop: int
    requested_at: float
    renewal: Renewal
    reply: asyncio.Future[Reply]


@attrs.define(eq=False)
class Renewal:
    """Progress of one renewal."""

    posts: int = 0
    may_post: bool = True  # a caller was waiting when the last attempt ended
    begins_anew: bool = False  # the token was rejected or replaced meanwhile and is requested again


@attrs.define(eq=False)
class Caller:
    """One call of `get_token()`, and its permitted outcomes."""

    loop: int
    task: asyncio.Task[None]
    is_cancelled: bool = False


class SharedCache(MemoryTokenCache):
    """A shared cache that works, raises or hangs, as scripted."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.mode = "works"
        self.holder: object = None
        self.key = CREDENTIALS.cache_key
        self.last_got: AccessToken | None = None

    async def _behave(self) -> None:
        if self.mode == "raises":
            raise OSError("no such cache")
        while self.mode == "hangs":
            await asyncio.sleep(0.5)  # of virtual time

    async def get(self, key: str, /) -> AccessToken | None:
        await self._behave()
        self.last_got = await super().get(key)
        return self.last_got

    async def set(self, key: str, token: AccessToken, /) -> None:
        await self._behave()
        await super().set(key, token)

    @asynccontextmanager
    async def renewal_lock(self, _key: str, /) -> AsyncIterator[None]:
        while self.holder is not None:
            await asyncio.sleep(0.5)  # of virtual time
        self.holder = holder = object()
        try:
            yield
        finally:
            if self.holder is holder:
                self.holder = None


class Schedules(RuleBasedStateMachine):
    """One provider on two event loops, and every event that affects it."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        random.seed(seed)  # the package's jitter
        self.clock = FakeClock()
        self.violations: list[str] = []
        self.loops = [VirtualLoop() for _ in range(LOOPS)]
        self.renewals: list[Renewal | None] = [None] * LOOPS
        self.posts: list[Post] = []
        self.callers: list[Caller] = []
        self.handed_out: list[AccessToken] = []
        self.count = 0
        self.step = 0
        self.open()

    def open(self) -> None:
        self.model = Model(self.clock, self.violations)
        self.cache = SharedCache(self.clock)
        endpoint = VirtualEndpoint(CREDENTIALS, policy=RETRY, clock=self.clock, answer=self.answer_post)
        self.provider = TokenProvider(endpoint=endpoint, policy=POLICY, cache=self.cache, on_event=self.listen)

    def loop_number(self) -> int:
        return self.loops.index(asyncio.get_running_loop())  # type: ignore[arg-type]  # all are virtual

    def listen(self, event: Event) -> None:
        if isinstance(event, RenewalStarted):
            self.renewals[self.loop_number()] = Renewal()
            self.model.renewal_starts()
        elif isinstance(event, RenewalFailed):
            self.model.renewal_fails(event)
        elif isinstance(event, TokenReceived) and event.source == "cache" and self.cache.last_got is not None:
            self.model.comes_from_cache(self.cache.last_got)

    def pending(self, loop: int | None = None) -> list[Caller]:
        return [caller for caller in self.callers if not caller.task.done() and loop in {None, caller.loop}]

    async def answer_post(self) -> Reply:
        number = self.loop_number()
        renewal = self.renewals[number]
        assert renewal is not None
        if renewal.begins_anew:
            self.renewals[number] = renewal = Renewal()
        self.model.check(not self.model.is_closed, "a closed provider sends a request")
        self.model.check(all(post.loop != number for post in self.posts), "a second POST is in flight")
        self.model.check(renewal.may_post, "an attempt is repeated without a waiter")
        self.model.check(renewal.posts < RETRY.attempts, "more attempts than the policy allows")
        renewal.posts += 1
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        post = Post(number, self.clock.monotonic(), renewal, reply)
        self.posts.append(post)
        try:
            return await reply
        finally:
            self.posts.remove(post)
            renewal.may_post = bool(self.pending(number))

    async def call(self, seconds: float | None) -> None:
        model, step = self.model, self.step
        try:
            async with asyncio.timeout(seconds):
                token = await self.provider.get_token()
        except TokenError as error:
            model.caller_fails(error)
        except ProviderClosedError:
            model.check(model.is_closed, "an open provider reports that it is closed")
        except TimeoutError:
            model.check(seconds is not None, "a caller without a deadline gets a timeout")
        else:
            model.is_handed_out(token.value, at_once=step == self.step)
            self.handed_out.append(token)

    def settle(self) -> None:
        while any(loop.has_work for loop in self.loops):
            for loop in self.loops:
                loop.run_ready()

    def pass_time(self, seconds: float) -> None:
        """Advance the time, with all timers in between."""
        end = self.clock.monotonic() + seconds
        self.settle()
        while (now := self.clock.monotonic()) < end:
            step = min(end - now, *(loop.next_at - loop.time() for loop in self.loops))
            for loop in self.loops:
                loop.advance(step)
            self.clock.advance(step)
            self.settle()

    @rule(loop=st.integers(0, LOOPS - 1), seconds=st.sampled_from([None, None, 0.1, 3, 20]), callers=st.integers(1, 3))
    def callers_come(self, loop: int, seconds: float | None, callers: int) -> None:
        for _ in range(callers):
            self.callers.append(Caller(loop, self.loops[loop].create_task(self.call(seconds))))
        self.settle()

    @precondition(lambda self: self.pending())
    @rule(which=st.integers(0, 5))
    def caller_is_cancelled(self, which: int) -> None:
        caller = pick(self.pending(), which)
        caller.is_cancelled = caller.task.cancel()
        self.settle()

    @precondition(lambda self: self.posts)
    @rule(which=st.integers(0, 1), life=st.sampled_from(LIVES))
    def endpoint_grants(self, which: int, life: float) -> None:
        self.count += 1
        self.give(pick(self.posts, which), f"token-{self.count}", life)

    @precondition(lambda self: self.posts and self.count)
    @rule(which=st.integers(0, 1), life=st.sampled_from(LIVES), back=st.integers(0, 1))
    def endpoint_grants_again(self, which: int, life: float, back: int) -> None:
        self.give(pick(self.posts, which), f"token-{max(self.count - back, 1)}", life)

    def give(self, post: Post, value: str, life: float) -> None:
        rejected_at = self.model.rejected_at.get(value, inf)
        if rejected_at <= post.requested_at:
            del self.model.rejected_at[value]  # the endpoint issued it again: for later requests it is valid
        is_outdated = post.requested_at <= self.model.held_since and self.clock.monotonic() >= self.model.held_until
        is_rejected = post.requested_at < rejected_at < inf
        post.renewal.begins_anew = is_outdated or is_rejected
        self.model.is_granted(value, post.requested_at, life)
        post.reply.set_result(grant(value, life))
        self.settle()

    @precondition(lambda self: self.posts)
    @rule(which=st.integers(0, 1), reply=st.sampled_from(REFUSALS))
    def endpoint_refuses(self, which: int, reply: Reply) -> None:
        pick(self.posts, which).reply.set_result(reply)
        self.settle()

    @precondition(lambda self: self.posts)
    @rule(which=st.integers(0, 1), how=st.sampled_from(BREAKS))
    def connection_breaks(self, which: int, how: Callable[[], Exception]) -> None:
        pick(self.posts, which).reply.set_exception(how())
        self.settle()

    @precondition(lambda self: self.handed_out)
    @rule(back=st.integers(0, 4))
    def api_rejects(self, back: int) -> None:
        """A 401 arrives for one of the last tokens, however late."""
        token = self.handed_out[-1 - min(back, len(self.handed_out) - 1)]
        self.model.is_rejected(token.value, is_replaced=self.provider.invalidate(token))

    @rule(seconds=st.sampled_from(PAUSES))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.model.held is not None)
    @rule(part=st.sampled_from([LEAST_FIRST_DUE, 0.8, 0.84, 0.9, 1]), early=st.sampled_from([-(2.0**-10), 0, 2.0**-10]))
    def time_passes_until(self, part: float, early: float) -> None:
        """Stop next to the instants at which a token's state changes."""
        now = self.clock.monotonic()
        assert self.model.held is not None
        left = self.model.given[self.model.held].expires_at - now
        self.pass_time(max(left * part - early, 0))

    @rule(seconds=st.sampled_from(PAUSES), step=st.sampled_from([0.0, 0.0, -3_600.0, -59.0, -1.0, 59.0, 3_600.0]))
    def machine_sleeps(self, seconds: float, step: float) -> None:
        """Suspend the machine: loops stop, the monotonic clock advances, and the wall clock may be set."""
        self.clock.advance(seconds)
        self.clock.step_wall(step)
        self.model.stepped_back += max(-step, 0)

    @rule(mode=st.sampled_from(["works", "raises", "hangs"]))
    def cache_changes(self, mode: str) -> None:
        self.cache.mode = mode

    @rule(life=st.sampled_from([None, *LIVES]))
    def other_process_renews(self, life: float | None) -> None:
        """Take a free lock; otherwise store another process's token, if any, and release the lock."""
        if self.cache.holder is None:
            self.cache.holder = self
            return
        if life is not None:
            self.count += 1
            value, now = f"token-{self.count}", self.clock.time()
            at = self.clock.monotonic()
            self.model.given[value] = Given(at, at + life, self.model.stepped_back)
            token = AccessToken(value, issued_at=now, expires_at=now + life)
            self.loops[0].run_until_complete(MemoryTokenCache.set(self.cache, self.cache.key, token))
        if self.cache.holder is self:
            self.cache.holder = None
        self.settle()

    @precondition(lambda self: not self.model.is_closed)
    @rule(loop=st.integers(0, LOOPS - 1))
    def operator_closes(self, loop: int) -> None:
        self.model.is_closed = True
        closing = self.loops[loop].create_task(self.provider.aclose())
        self.settle()
        assert closing.done()
        assert not closing.exception()
        assert not self.pending()
        assert not self.posts

    @precondition(lambda self: self.model.is_closed)
    @rule()
    def operator_starts_anew(self) -> None:
        self.handed_out = []
        self.open()

    @rule()
    def endpoint_is_silent(self) -> None:
        """Every caller has an outcome in time, even if endpoint or cache hang."""
        self.pass_time(PATIENCE_SECONDS)
        assert not self.pending()

    @invariant()
    def all_is_right(self) -> None:
        if not hasattr(self, "violations"):
            return
        assert not self.violations
        assert not [loop.complaints for loop in self.loops if loop.complaints]
        self.step += 1
        for caller in self.callers:
            if caller.task.done():
                assert caller.task.cancelled() <= caller.is_cancelled
                assert caller.task.cancelled() or caller.task.exception() is None
        self.callers = self.pending()

    def teardown(self) -> None:
        if not hasattr(self, "loops"):
            return
        try:
            self.endpoint_is_silent()
            if not self.model.is_closed:
                self.operator_closes(0)
            self.all_is_right()
            assert not [asyncio.all_tasks(loop) for loop in self.loops if asyncio.all_tasks(loop)]
        finally:
            for loop in self.loops:
                loop.close()


def pick(those: Sequence[Any], which: int) -> Any:
    return those[which % len(those)]


def play(examples: int) -> None:
    """Run new random schedules."""
    run_state_machine_as_test(
        Schedules,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_some_schedules(caplog: pytest.LogCaptureFixture) -> None:
    """Every schedule conforms to `Model` and `Schedules.all_is_right`."""
    caplog.set_level(logging.CRITICAL, "simplestore_async")  # pytest would keep the log of every schedule
    play(30)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, EXAMPLES, PART))
def test_many_schedules(start: int, caplog: pytest.LogCaptureFixture) -> None:
    """As `test_some_schedules`, with enough schedules to include rare ones."""
    caplog.set_level(logging.CRITICAL, "simplestore_async")
    play(min(PART, EXAMPLES - start))
