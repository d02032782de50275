"""Helpers for tests of the provider: instants of a token, calls that must not wait, running renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from simplestore_async import RenewalPolicy, TokenProvider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simplestore_async import AccessToken
    from simplestore_async.events import Event
    from simplestore_async.sandbox import HeldResponses, Sandbox

Provide: TypeAlias = Callable[..., TokenProvider]
"""The type of the fixture `provide`."""

# The shortest step of the clock in tests: a power of two, so that sums are exact.
TICK = 2.0**-10
# A token of one hour is due at 3 024 s at the latest.
LIFE, DUE, HARD = 3_600, 3_100, 3_570
# Waits of ten minutes, for tests in which a wait must not time out.
PATIENT = RenewalPolicy(max_wait_seconds=600)


class Panic(BaseException):
    """A BaseException, like those that extension modules in Rust raise."""


def get_at_once(provider: TokenProvider) -> AccessToken:
    """Return the token of a call that must complete without suspending."""
    call = provider.get_token()
    try:
        call.send(None)
    except StopIteration as end:
        token: AccessToken = end.value
        return token
    finally:
        call.close()
    raise AssertionError("get_token() waits")


def find_renewals() -> list[asyncio.Task[Any]]:
    """Return the tasks of renewals."""
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    return [
        task
        for task, code in codes.items()
        if code and "simplestore_async" in code.co_filename and code.co_name not in {"get_token", "aclose"}
    ]


async def renewal_ends() -> None:
    """Wait for the background renewals."""
    await asyncio.wait(find_renewals())


async def begin(provider: TokenProvider) -> asyncio.Task[AccessToken]:
    """Return the task of a caller that waits."""
    caller = asyncio.create_task(provider.get_token())
    await asyncio.sleep(0)
    assert not caller.done()
    return caller


async def begin_held(sandbox: Sandbox, provider: TokenProvider, *, callers: int = 1) -> tuple[Any, ...]:
    """Return the held response to a renewal, and the task of each caller that waits for it."""
    held = sandbox.token_endpoint.hold()
    tasks = [await begin(provider) for _ in range(callers)]
    await held.wait_for_requests()
    return held, *tasks


async def renew_in_background(sandbox: Sandbox, provider: TokenProvider) -> HeldResponses:
    """Return the held response to the renewal that a call with a due token has started."""
    held = sandbox.token_endpoint.hold()
    get_at_once(provider)
    await held.wait_for_requests()
    return held


def of_kind(kind: type[Event], events: Iterable[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]
