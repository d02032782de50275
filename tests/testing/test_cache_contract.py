"""The cache contracts: a sound cache passes, and each broken one fails."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from simplestore_async import MemoryTokenCache
from simplestore_async.testing import SharedTokenCacheContract, _cache_contract, _running
from simplestore_async.testing import _shared_cache_contract as _shared_contract
from simplestore_async.testing._running import run
from tests.support import broken_caches as broken

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen
class Case:
    """A broken cache, the test that it fails, and the message of the failure."""

    test: str
    make_cache: Callable[[], object]
    words: str
    error: type[BaseException] = attrs.field(default=AssertionError, kw_only=True)
    arguments: dict[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)


def changed(make_cache: Callable[[], object], words: str) -> Case:
    """Return the case of a cache that loses or changes a token."""
    return Case("test_what_is_set_is_got", make_cache, words, arguments={"changes": {}})


AGAIN = "get() returns the AccessToken that was set, again and again"
INSTANTS = "a token keeps its instants to the microsecond"
CANCELLED: list[tuple[str, Callable[[], object], str]] = [
    ("get", partial(broken.Cancelled, broken.never), "ends"),
    ("get", partial(broken.Cancelled, broken.fail), "raises nothing but CancelledError"),
    ("get", broken.StaysBusy, "does not block the next one"),
    ("set", broken.DeletesFirst, "leaves a whole token behind"),
]
CASES = [
    Case("test_is_a_token_cache", object, "a cache has the coroutines get(key) and set(key, token)"),
    Case("test_unknown_key", broken.AlwaysFull, "get() of a key that was never set returns None"),
    changed(broken.Forgetful, AGAIN),
    changed(broken.ReadOnce, AGAIN),
    changed(partial(broken.Changing, value=str.upper), "a token keeps its value"),
    changed(partial(broken.Changing, issued_at=round), INSTANTS),
    changed(partial(broken.Changing, expires_at=round), INSTANTS),
    changed(partial(broken.Changing, scope=lambda scope: scope[::-1]), "a token keeps its scope, in its order"),
    changed(partial(broken.Changing, is_replacement=lambda _: False), "a token keeps is_replacement"),
    Case("test_the_last_one_counts", broken.FirstCounts, "get() returns the token that was set last, whole"),
    Case("test_expired_tokens", broken.RefusesExpired, "invalid expire time", error=ValueError),
    Case(
        "test_expired_tokens",
        broken.IgnoresExpired,
        "get() returns a token that has expired, or None, and never an older one",
    ),
    Case("test_expired_tokens", broken.BuriesExpired, "a token can be set where an expired one was"),
    Case("test_keys_are_independent", broken.FoldsCase, "a key is not confused with a similar one"),
    Case("test_keys_are_independent", broken.Small, "each key keeps its own token"),
    Case("test_odd_keys", broken.IgnoresPaths, "any text is a key", arguments={"key": "../x"}),
    Case(
        "test_many_tasks_with_keys_of_their_own",
        broken.SharedVariable,
        "concurrent tasks with their own keys do not affect each other",
    ),
    Case("test_many_tasks_with_one_key", broken.TornWrites, "a get during sets returns one of their tokens, whole"),
    *(
        Case("test_a_cancelled_call", make_cache, f"a cancelled call {words}", arguments={"operation": operation})
        for operation, make_cache, words in CANCELLED
    ),
    Case(
        "test_threads_at_once",
        partial(broken.FirstThreadOnly, returns=False),
        "a cache works on event loops in several threads at once",
    ),
    Case(
        "test_threads_at_once",
        partial(broken.FirstThreadOnly, returns=True),
        "event loops in several threads at once do not affect each other",
    ),
    Case(
        "test_loops_after_each_other",
        partial(broken.FirstLoopOnly, returns=False),
        "a cache works on each event loop, after others were closed",
    ),
    Case(
        "test_loops_after_each_other",
        partial(broken.FirstLoopOnly, returns=True),
        "a token set on one event loop is found there and on the next",
    ),
    Case("test_shows_no_token", broken.ShowsBytes, "a cache does not show the tokens that it keeps"),
    Case("test_providers_share_it", broken.Forgetful, "a provider uses the token that another one stored"),
    Case(
        "test_providers_of_other_credentials_do_not",
        broken.OneForAll,
        "a provider does not take the token of other credentials",
    ),
    Case("test_is_a_shared_token_cache", MemoryTokenCache, "a shared cache also has the method renewal_lock(key)"),
    Case("test_one_task_at_a_time", broken.NoLock, "one task at a time holds a key's lock"),
    Case(
        "test_one_task_at_a_time", partial(broken.Stingy, times=2), "each task that waits for the lock gets it in turn"
    ),
    Case("test_one_thread_at_a_time", broken.NoLock, "one event loop at a time holds a key's lock, in any thread"),
    Case(
        "test_one_thread_at_a_time",
        partial(broken.Stingy, times=1),
        "a lock that another event loop held is free afterwards",
    ),
    Case("test_threads_take_turns", broken.NoLockAmongThreads, "one thread at a time holds a key's lock"),
    Case(
        "test_threads_take_turns",
        partial(broken.Stingy, times=0),
        "each thread that waits for the lock gets it in turn",
    ),
    Case(
        "test_locks_on_loops_after_each_other",
        broken.LoopLock,
        "is bound to a different event loop",
        error=RuntimeError,
    ),
    Case(
        "test_locks_on_loops_after_each_other",
        partial(broken.Stingy, times=3),
        "a lock works on each event loop, after others were closed",
    ),
    Case("test_locks_are_independent", broken.OneLockForAll, "one key's lock does not block another's"),
    Case(
        "test_holder_uses_the_cache",
        partial(broken.Locked, returns=False),
        "the cache is read and written while its lock is held",
    ),
    Case(
        "test_holder_uses_the_cache",
        partial(broken.Locked, returns=True),
        "a token set while the lock is held is found",
    ),
    Case(
        "test_odd_locks", partial(broken.Stingy, times=1), "any text has a lock, again and again", arguments={"key": ""}
    ),
    Case("test_is_released_after_an_error", broken.Swallows, "DID NOT RAISE", error=pytest.fail.Exception),
    Case(
        "test_is_released_after_an_error",
        partial(broken.Held, ZeroDivisionError),
        "an error of its holder releases a lock",
    ),
    Case("test_is_released_by_a_cancelled_holder", partial(broken.Stingy, times=0), "a free lock is acquired"),
    Case(
        "test_is_released_by_a_cancelled_holder",
        partial(broken.Held, asyncio.CancelledError),
        "the cancellation of its holder releases a lock",
    ),
    Case(
        "test_is_released_by_a_cancelled_holder",
        broken.ReinterpretsEnd,
        "a caller cancelled at a lock gets CancelledError, and nothing else",
    ),
    Case("test_is_released_by_a_cancelled_holder", broken.NeverEnds, "a caller cancelled at a lock ends"),
    Case(
        "test_is_free_after_a_cancelled_wait",
        broken.KeepsWhenLate,
        "a caller cancelled while waiting does not keep the lock",
        arguments={"is_held": False},
    ),
]


class TestSoundCache(SharedTokenCacheContract):
    @pytest.fixture
    def cache(self) -> broken.SoundCache:
        return broken.SoundCache()


class Impatient(SharedTokenCacheContract):
    patience_seconds = 0.5


@pytest.mark.parametrize("case", CASES, ids=[f"{case.test}-{number}" for number, case in enumerate(CASES)])
def test_broken_cache(case: Case) -> None:
    """A cache that breaks a rule fails the test of that rule, with the rule as message."""

    def prove() -> None:
        coroutine = getattr(Impatient(), case.test)(case.make_cache(), **case.arguments)
        if coroutine is not None:
            run(coroutine)

    with pytest.raises(case.error, match=re.escape(case.words)):
        prove()


def rules_in(source: str) -> Iterator[str]:
    """Yield the rule of each check in a contract."""
    checks = {"check", "check_equal", "fail", "within", "self._assert_free"}
    for node in ast.walk(ast.parse(source)):
        words = node.args[-1] if isinstance(node, ast.Call) and ast.unparse(node.func) in checks and node.args else None
        if isinstance(words, ast.Constant):
            yield str(words.value)


def test_every_rule_has_a_broken_cache() -> None:
    """Each test and each assertion of the contracts is failed by some broken cache."""
    tests = {name for name in dir(SharedTokenCacheContract) if name.startswith("test_")}
    rules = {words for module in (_cache_contract, _shared_contract) for words in rules_in(inspect.getsource(module))}
    assert len(tests) > 20
    assert len(rules) > 40
    assert tests == {case.test for case in CASES}
    assert rules == {case.words for case in CASES if case.error is AssertionError}


def test_optimized_python() -> None:
    """The contracts use no `assert`, which `python -O` would leave out."""
    for module in (_cache_contract, _shared_contract, _running):
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(inspect.getsource(module))))
