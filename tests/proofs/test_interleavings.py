"""Every order in which a loop may run two or three callers, a renewal, and a disturbance.

The order is chosen by depth-first search: asyncio runs ready callbacks first in, first out, but no outcome may depend
on it. The schedule decides when the endpoint responds; there is no I/O outside its control.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest

from simplestore_async import AccessToken, ClientCredentials, RenewalPolicy, TokenEndpoint, TokenProvider
from simplestore_async.errors import ProviderClosedError, TokenEndpointError
from tests.support.clocks import FakeClock
from tests.support.virtual_loop import every_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Disturb: TypeAlias = "Callable[[Scene], Coroutine[Any, Any, None]]"

CREDENTIALS = ClientCredentials(client_id="app", client_secret="secret")


class ScheduledEndpoint(TokenEndpoint):
    """An endpoint that takes one step of the loop for each response and first fails a given number of times."""

    def __init__(self, clock: FakeClock, failures: int) -> None:
        super().__init__(CREDENTIALS, clock=clock)
        self.failures = failures
        self.responses = 0
        self.in_flight = 0

    async def fetch(self, *, deadline: float, may_retry: Callable[[], bool]) -> tuple[AccessToken, float]:
        assert 0 == self.in_flight
        self.in_flight += 1
        requested_at, issued_at = self.clock.monotonic(), self.clock.time()
        try:
            await asyncio.sleep(0)
            self.responses += 1
            if self.responses <= self.failures:
                raise TokenEndpointError("refused", status=400)
        finally:
            self.in_flight -= 1
        token = AccessToken(f"token-{self.responses}", issued_at=issued_at, expires_at=issued_at + 3600)
        return token, requested_at


@attrs.define
class Scene:
    """One run: a provider, and the outcomes of its callers."""

    callers: int
    failures: int
    clock: FakeClock = attrs.field(factory=FakeClock)
    endpoint: ScheduledEndpoint = attrs.field(init=False)
    provider: TokenProvider = attrs.field(init=False)
    tasks: list[asyncio.Task[AccessToken]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.endpoint = ScheduledEndpoint(self.clock, self.failures)
        self.provider = TokenProvider(endpoint=self.endpoint, policy=RenewalPolicy(rejection_seconds=1e-6))

    async def run(self, disturb: Disturb) -> list[Any]:
        names = ["the first", *["another"] * (self.callers - 1)]
        self.tasks = [asyncio.create_task(self.provider.get_token(), name=name) for name in names]
        disturber = asyncio.create_task(disturb(self))
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        await disturber
        await self.provider.aclose()
        return outcomes


async def leave_alone(_scene: Scene) -> None:
    pass


async def cancel_one(scene: Scene) -> None:
    scene.tasks[0].cancel()


async def cancel_all(scene: Scene) -> None:
    for task in scene.tasks:
        task.cancel()


async def close(scene: Scene) -> None:
    await scene.provider.aclose()


async def reject(scene: Scene) -> None:
    """Reject the first token, and call again."""
    token = await scene.provider.get_token()
    scene.clock.advance(1)
    assert scene.provider.invalidate(token)
    assert token.value != (await scene.provider.get_token()).value


@attrs.frozen
class Disturbance:
    """A disturbance: its action, permitted outcomes, failures of the endpoint, and maximum of requests.

    Attributes:
        schedules: minimum number of orders for each number of callers; a task that rejects a token is a further caller.
    """

    disturb: Disturb
    outcomes: set[type]
    schedules: dict[int, int]
    failures: int = 0
    requests: int = 1


TOKEN, CANCELLED, FAILED, CLOSED = AccessToken, asyncio.CancelledError, TokenEndpointError, ProviderClosedError
SCENES = {
    "no disturbance": Disturbance(leave_alone, {TOKEN}, {2: 400, 3: 15_000}),
    "it fails": Disturbance(leave_alone, {FAILED}, {2: 400, 3: 18_000}, failures=1),
    "one is cancelled": Disturbance(cancel_one, {TOKEN, CANCELLED}, {2: 800, 3: 20_000}),
    "one is cancelled, and it fails": Disturbance(cancel_one, {FAILED, CANCELLED}, {2: 600, 3: 20_000}, failures=1),
    "all are cancelled": Disturbance(cancel_all, {TOKEN, CANCELLED}, {2: 6_000, 3: 240_000}),
    "it is closed": Disturbance(close, {TOKEN, CLOSED}, {2: 3_500, 3: 180_000}),
    "it is closed, and it fails": Disturbance(close, {FAILED, CLOSED}, {2: 3_500, 3: 200_000}, failures=1),
    "a token is rejected": Disturbance(reject, {TOKEN}, {1: 280, 2: 45_000}, requests=2),
}
LARGE, HUGE = 3_000, 40_000


def all_scenes() -> list[Any]:
    scenes = []
    for name, scene in SCENES.items():
        for callers, schedules in scene.schedules.items():
            mark = pytest.mark.soak if schedules > HUGE else pytest.mark.slow
            marks = [mark] if schedules > LARGE or scene.failures else []
            scenes.append(pytest.param(name, callers, schedules, id=f"{name}, {callers} callers", marks=marks))
    return scenes


@pytest.mark.parametrize(("name", "callers", "least"), all_scenes())
def test_every_order(name: str, callers: int, least: int) -> None:
    """In every order each caller gets a permitted outcome, and no two token requests overlap."""
    disturbance = SCENES[name]
    seen: set[type] = set()

    async def scenario() -> None:
        scene = Scene(callers, disturbance.failures)
        outcomes = await scene.run(disturbance.disturb)
        assert {type(outcome) for outcome in outcomes} <= disturbance.outcomes
        assert scene.endpoint.responses <= disturbance.requests
        assert 0 == scene.endpoint.in_flight
        seen.update(map(type, outcomes))

    visited = sum(1 for _ in every_schedule(scenario))
    sys.stdout.write(f"{visited} schedules\n")
    assert visited >= least
    assert disturbance.outcomes == seen
