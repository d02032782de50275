"""Helpers for tests of the provider: instants of a 60-minute token, calls that must not wait, running renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from simplestore_async import RenewalPolicy, TokenProvider

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simplestore_async import AccessToken
    from simplestore_async.events import Event

Provide: TypeAlias = Callable[..., TokenProvider]
"""The fixture `provide`."""

# The least step of the clock here: a power of two, so that sums of it are exact.
TICK = 2.0**-10
# A token of an hour is due by 3 024 s at the latest.
LIFE, DUE, HARD = 3_600, 3_100, 3_570
# A wait that a test could not sit through, where it must not happen.
PATIENT = RenewalPolicy(max_wait_seconds=600)


class Panic(BaseException):
    """Like the exception that extension modules in Rust raise."""


def get_at_once(provider: TokenProvider) -> AccessToken:
    """Return the token of a call that does not wait: it ends with its first step."""
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
    """Return the tasks that run code of the package and were started by the package."""
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    return [
        task
        for task, code in codes.items()
        if code and "simplestore_async" in code.co_filename and code.co_name not in {"get_token", "aclose"}
    ]


def find_renewal() -> asyncio.Task[Any]:
    """Return the only one of these tasks."""
    (renewal,) = find_renewals()
    return renewal


async def renewal_ends() -> None:
    """Wait for the renewal that runs in the background."""
    await asyncio.wait(find_renewals())


async def begin(provider: TokenProvider) -> asyncio.Task[AccessToken]:
    """Return a caller that has run until it waits."""
    caller = asyncio.create_task(provider.get_token())
    await asyncio.sleep(0)
    assert not caller.done()
    return caller


def of_kind(kind: type[Event], events: Iterable[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]
