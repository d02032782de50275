"""The cache contracts: a sound cache passes, and a broken one fails with each rule."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from textwrap import dedent
from typing import Any, TypeAlias

import pytest

from simplestore_async import MemoryTokenCache
from simplestore_async.testing import SharedTokenCacheContract, _cache_contract, _running
from simplestore_async.testing import _shared_cache_contract as _shared_contract
from simplestore_async.testing._running import run
from tests.testing import broken_caches as broken

MakeCache: TypeAlias = Callable[[], object]

# A test of the contracts, and a cache that fails it.
CASES: list[tuple[str, MakeCache]] = [
    ("is_a_token_cache", object),
    ("unknown_key", broken.AlwaysFull),
    ("what_is_set_is_got", broken.Forgetful),
    ("what_is_set_is_got", broken.ReadOnce),
    ("what_is_set_is_got", broken.changing("value", str.upper)),
    ("what_is_set_is_got", broken.changing("issued_at", round)),
    ("what_is_set_is_got", broken.changing("expires_at", round)),
    ("what_is_set_is_got", broken.changing("scope", lambda scope: scope[::-1])),
    ("what_is_set_is_got", broken.changing("is_replacement", lambda _: False)),
    ("the_last_one_counts", broken.FirstCounts),
    ("expired_tokens", broken.IgnoresExpired),
    ("expired_tokens", broken.KeepsExpired),
    ("keys_are_independent", broken.FoldsCase),
    ("keys_are_independent", broken.Small),
    ("odd_keys", broken.IgnoresPaths),
    ("many_tasks_with_keys_of_their_own", broken.SharedVariable),
    ("many_tasks_with_one_key", broken.TornWrites),
    ("a_cancelled_call", broken.when_cancelled(broken.never)),
    ("a_cancelled_call", broken.when_cancelled(broken.fail)),
    ("a_cancelled_call", broken.StaysBusy),
    ("a_cancelled_call", broken.DeletesFirst),
    ("threads_at_once", partial(broken.FirstLoopOnly, broken.never)),
    ("threads_at_once", partial(broken.FirstLoopOnly, broken.result)),
    ("loops_after_each_other", partial(broken.FirstLoopOnly, broken.never)),
    ("loops_after_each_other", partial(broken.FirstLoopOnly, broken.result)),
    ("shows_no_token", broken.ShowsBytes),
    ("providers_share_it", broken.Forgetful),
    ("providers_of_other_credentials_do_not", broken.OneForAll),
    ("is_a_shared_token_cache", MemoryTokenCache),
    ("one_task_at_a_time", broken.NoLock),
    ("one_task_at_a_time", partial(broken.Stingy, 2)),
    ("one_thread_at_a_time", broken.NoLock),
    ("one_thread_at_a_time", partial(broken.Stingy, 1)),
    ("threads_take_turns", broken.NoLockAmongThreads),
    ("threads_take_turns", partial(broken.Stingy, 0)),
    ("locks_on_loops_after_each_other", partial(broken.Stingy, 3)),
    ("locks_are_independent", broken.OneLockForAll),
    ("holder_uses_the_cache", broken.while_locked(broken.never)),
    ("holder_uses_the_cache", broken.while_locked(broken.result)),
    ("odd_locks", partial(broken.Stingy, 1)),
    ("is_released_after_an_error", broken.kept_after(ZeroDivisionError)),
    ("is_released_by_a_cancelled_holder", partial(broken.Stingy, 0)),
    ("is_released_by_a_cancelled_holder", broken.kept_after(asyncio.CancelledError)),
    ("is_released_by_a_cancelled_holder", broken.flawed(renewal_lock=broken.lock_that_reinterprets)),
    ("is_released_by_a_cancelled_holder", broken.flawed(renewal_lock=broken.lock_that_never_ends)),
    ("is_free_after_a_cancelled_wait", broken.KeepsWhenLate),
]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "what_is_set_is_got": {"changes": {}},
    "odd_keys": {"key": "../x"},
    "a_cancelled_call": {"operation": "set"},
    "odd_locks": {"key": ""},
    "is_free_after_a_cancelled_wait": {"is_held": False},
}


class TestSoundCache(SharedTokenCacheContract):
    @pytest.fixture
    def cache(self) -> broken.SoundCache:
        return broken.SoundCache()


class Impatient(SharedTokenCacheContract):
    patience_seconds = 0.5


def rules_of(test: str) -> set[str]:
    """Return the rule of each check in a test, with those of a method that the test for cancelled holders calls."""
    methods = [f"test_{test}", *["_assert_cancelled"] * (test == "is_released_by_a_cancelled_holder")]
    checks = {"check", "check_equal", "fail", "within", "self._assert_free"}
    return {
        str(node.args[-1].value)
        for method in methods
        for node in ast.walk(ast.parse(dedent(inspect.getsource(getattr(SharedTokenCacheContract, method)))))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in checks and isinstance(node.args[-1], ast.Constant)
    }


def use(test: str, cache: object) -> None:
    coroutine = getattr(Impatient(), f"test_{test}")(cache, **ARGUMENTS.get(test, {}))
    if coroutine is not None:
        run(coroutine)


@pytest.mark.parametrize("test", [name.removeprefix("test_") for name in dir(Impatient) if name.startswith("test_")])
def test_rules(test: str) -> None:
    """Each rule of a test is the message of its failure for some broken cache."""
    failures = set()
    for name, make_cache in CASES:
        if name == test:
            with pytest.raises(AssertionError) as caught:
                use(test, make_cache())
            failures.add(str(caught.value).partition(": expected")[0])
    assert rules_of(test) == failures != set()


@pytest.mark.parametrize(
    ("test", "make_cache", "error"),
    [
        ("expired_tokens", broken.RefusesExpired, ConnectionError),
        ("locks_on_loops_after_each_other", broken.LoopLock, RuntimeError),
        ("is_released_after_an_error", broken.flawed(renewal_lock=broken.lock_that_swallows), pytest.fail.Exception),
    ],
)
def test_errors(test: str, make_cache: MakeCache, error: type[BaseException]) -> None:
    """A test also fails if the cache raises, or if its lock swallows the error of the holder."""
    with pytest.raises(error):
        use(test, make_cache())


def test_optimized_python() -> None:
    """The contracts use no `assert`, which `python -O` would leave out."""
    for module in (_cache_contract, _shared_contract, _running):
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(inspect.getsource(module))))
