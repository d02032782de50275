"""`TokenEndpoint`: attempts, pauses and the budget, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from simplestore_async import AccessToken, RetryPolicy, TokenEndpoint
from simplestore_async.errors import TokenEndpointError, TokenError, TokenTimeoutError
from tests.support.clocks import FakeClock
from tests.support.production import CREDENTIALS, run
from tests.support.virtual_wire import Reply, VirtualEndpoint, grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from simplestore_async.sandbox import Sandbox
    from tests.support.virtual_loop import VirtualLoop

SILENCE = None
TOKEN = grant("canary-token", 3600)


@attrs.frozen
class Course:
    """Outcome of a token request, and the seconds from its start to each POST and to its end."""

    outcome: AccessToken | TokenError
    posted_at: list[float]
    ended_at: float

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.posted_at)]


def request(
    policy: RetryPolicy,
    *replies: Reply | None,
    may_retry: Callable[[], bool] = lambda: True,
    deadline_seconds: float | None = None,
    **options: Any,
) -> Course:
    """Request a token from an endpoint that sends these responses, where None means no response."""
    unread = list(replies)
    posted_at: list[float] = []

    async def simulate(loop: VirtualLoop) -> Course:
        began_at = loop.time()

        async def answer() -> Reply:
            posted_at.append(loop.time() - began_at)
            reply = unread.pop(0)
            if reply is None:
                await asyncio.Future()
            return cast("Reply", reply)

        endpoint = VirtualEndpoint(CREDENTIALS, policy=policy, answer=answer, **options)
        seconds = policy.budget_seconds if deadline_seconds is None else deadline_seconds
        outcome: AccessToken | TokenError
        try:
            outcome, _ = await endpoint.fetch(deadline=began_at + seconds, may_retry=may_retry)
        except TokenError as error:
            outcome = error
        return Course(outcome, posted_at, loop.time() - began_at)

    return run(simulate, seed=0)


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
def test_attempts_are_limited(attempts: int) -> None:
    """After the policy's number of attempts the error of the last one is raised."""
    course = request(RetryPolicy(attempts=attempts), *[Reply(503)] * (attempts - 1), Reply(502))

    assert isinstance(course.outcome, TokenEndpointError)
    assert (502, attempts) == (course.outcome.status, len(course.posted_at))


def test_pauses() -> None:
    """The first pause is between half of retry_seconds and all of it, and each further pause doubles."""
    first, second = request(RetryPolicy(retry_seconds=0.25), *[Reply(503)] * 3).pauses

    assert 0.125 <= first <= 0.25
    assert 0.25 <= second <= 0.5


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("7", 7), ("Tue, 14 Nov 2023 22:13:27 GMT", 7), ("0.01", 2)],
    ids=["seconds", "date", "less than the pause"],
)
def test_retry_after(retry_after: str, pause: float) -> None:
    """Retry-After, in seconds or as a date, may lengthen the pause and never shortens it."""
    busy = Reply(429, headers={"Retry-After": retry_after})
    (waited,) = request(RetryPolicy(retry_seconds=4), busy, TOKEN, clock=FakeClock(wall=1_700_000_000)).pauses

    assert pause <= waited <= max(pause, 4)


@pytest.mark.parametrize(("retry_after", "posted_at"), [("29.5", [0, 29.5]), ("30", [0]), ("3600", [0])])
def test_retry_after_and_budget(retry_after: str, posted_at: list[float]) -> None:
    """A Retry-After beyond the budget fails the request at once, and the error has it as an attribute."""
    busy = Reply(429, headers={"Retry-After": retry_after})
    course = request(RetryPolicy(budget_seconds=30), busy, busy)

    assert isinstance(course.outcome, TokenEndpointError)
    assert (posted_at, posted_at[-1]) == (course.posted_at, course.ended_at)
    assert float(retry_after) == course.outcome.retry_after


def test_pause_beyond_deadline() -> None:
    """If the next pause would outlast the deadline, the request fails at once."""
    course = request(RetryPolicy(retry_seconds=20), Reply(503), deadline_seconds=9)

    assert ([0], 0) == (course.posted_at, course.ended_at)


async def test_deadline_has_passed(sandbox: Sandbox) -> None:
    """After the deadline nothing is sent."""
    deadline = asyncio.get_running_loop().time() - 1
    with pytest.raises(TokenTimeoutError, match=r"no complete response within 0 s$"):
        await TokenEndpoint(sandbox.credentials).fetch(deadline=deadline, may_retry=lambda: True)

    assert () == sandbox.requests


@pytest.mark.parametrize(
    ("policy", "posts", "seconds"),
    [
        (RetryPolicy(attempts=1, attempt_seconds=2, budget_seconds=30), 1, 2),
        (RetryPolicy(attempts=1, attempt_seconds=60, budget_seconds=10), 1, 10),
        (RetryPolicy(attempts=2, attempt_seconds=2, budget_seconds=30), 2, 2),
    ],
    ids=["attempt", "budget", "second attempt"],
)
def test_silence(policy: RetryPolicy, posts: int, seconds: float) -> None:
    """Without a response the attempt or the budget times out, whichever is first, and the error names the limit."""
    course = request(policy, *[SILENCE] * posts)

    assert TokenTimeoutError is type(course.outcome)
    assert str(course.outcome).endswith(f"no complete response within {seconds} s")
    assert posts == len(course.posted_at)
    assert 0 <= course.ended_at - posts * seconds < 1  # the pauses


@pytest.mark.parametrize("decisions", [[False], [True, False], [True, True, True]])
def test_may_retry(decisions: list[bool]) -> None:
    """`may_retry` decides before each further attempt whether it is made."""
    attempts = len(decisions)
    course = request(RetryPolicy(), *[Reply(500)] * 3, may_retry=lambda: decisions.pop(0))

    assert attempts == len(course.posted_at)


@pytest.mark.parametrize("reply", [TOKEN, Reply(400)], ids=["token", "refusal"])
def test_may_retry_is_not_called(reply: Reply) -> None:
    """`may_retry` is not called after an attempt that succeeds or fails terminally."""
    course = request(RetryPolicy(), reply, may_retry=lambda: pytest.fail("it was called"))

    assert [0] == course.posted_at
