"""The contract of a cache that serves one event loop, such as one with a caller's client."""

from __future__ import annotations

from simplestore_async.testing import SharedTokenCacheContract


class OnOneLoop(SharedTokenCacheContract):
    test_threads_at_once = None  # type: ignore[assignment]  # omitted as the contract describes
    test_loops_after_each_other = None  # type: ignore[assignment]  # as the first
    test_one_thread_at_a_time = None  # type: ignore[assignment]  # as the first
    test_threads_take_turns = None  # type: ignore[assignment]  # as the first
    test_locks_on_loops_after_each_other = None  # type: ignore[assignment]  # as the first
