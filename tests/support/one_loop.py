"""The tests that do not apply to a cache for one event loop, as with a caller's own client."""

from __future__ import annotations

from simplestore_async.testing import SharedTokenCacheContract


class OnOneLoop(SharedTokenCacheContract):
    test_threads_at_once = None  # type: ignore[assignment]  # left out, as the contract says it
    test_loops_after_each_other = None  # type: ignore[assignment]  # as the first
    test_one_thread_at_a_time = None  # type: ignore[assignment]  # as the first
    test_threads_take_turns = None  # type: ignore[assignment]  # as the first
    test_locks_on_loops_after_each_other = None  # type: ignore[assignment]  # as the first
