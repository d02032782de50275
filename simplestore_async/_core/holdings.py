"""What a provider holds. Rule: one immutable snapshot, read without a lock and replaced under one, by nobody else.

The lock is a `threading.Lock`, because several event loops may share a provider; nothing is awaited or told while it is
held. How one snapshot follows from another is decided in `_renewal`.
"""

from __future__ import annotations

import copy
import random
import threading
from typing import TYPE_CHECKING, Final, Literal

import attrs

from simplestore_async.errors import ProviderClosedError

from .redaction import show_fields
from .state import Lease, Memory
from .token import LONGEST_LIFETIME_SECONDS, AccessToken

if TYPE_CHECKING:
    from simplestore_async.errors import SimpleStoreError

    from .clock import Clock
    from .endpoint import Receipt
    from .state import RenewalPolicy

__all__ = ["Commit", "Holdings"]

# A stored token from further in the future was written by a clock that cannot be trusted.
_LARGEST_CLOCK_SKEW: Final = 60.0


@attrs.frozen(eq=False, repr=False)
class Commit:
    """What became of a token that came from the endpoint or a cache.

    Attributes:
        token: the token to serve.
        source: where it came from; `memory` if another event loop renewed it meanwhile.
        expires_at: until when it may be used, on the deciding clock.
        is_kept: whether it is now the held one.
        is_unchanged: whether it was so before.
        outage_began_at: when the outage began that it ended, if any.
    """

    token: AccessToken
    source: Literal["cache", "endpoint", "memory"]
    expires_at: float
    is_kept: bool = False
    is_unchanged: bool = False
    outage_began_at: float | None = None

    __repr__ = show_fields


class Holdings:
    """The snapshot and its steps, each on the deciding clock's reading at that moment."""

    def __init__(self, policy: RenewalPolicy, clock: Clock) -> None:
        self.memory = Memory()
        self.is_closed = False
        self.now: Final = clock.monotonic
        self._policy = policy
        self.wall_now: Final = clock.time
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget everything, and take nothing more."""
        with self._lock:
            self.is_closed = True
            self.memory = Memory()

    def reject(self, token: AccessToken) -> tuple[Lease | None, bool]:
        """Note that the API rejected *token*.

        Returns:
            The lease that was rejected, if *token* is the held one; and whether a replacement may be asked for now.
        """
        with self._lock:
            if self.is_closed:
                return None, False
            held = self.memory.lease
            self.memory, is_replaced = self.memory.after_rejection(token, self.now(), self._policy)
        return held if held is not None and held.token.value == token.value else None, is_replaced

    def accept(self, token: AccessToken) -> None:
        """Note that the API accepted *token*."""
        with self._lock:
            self.memory = self.memory.after_acceptance(token)

    def fail(self, error: SimpleStoreError) -> tuple[Memory, Memory]:
        """Note that a renewal failed; return the snapshots before and after.

        Raises:
            ProviderClosedError: if it was closed meanwhile.
        """
        with self._lock:
            before = self.memory
            # A copy, which has no traceback: its frames would keep the event loop, and much else, alive.
            self._replace(before.after_failure(copy.copy(error), self.now(), self._policy))
            return before, self.memory

    def adopt(self, stored: AccessToken) -> Commit | None:
        """Hold a token from a cache, if it is better than what is held; None if not.

        Raises:
            ProviderClosedError: if it was closed meanwhile.
        """
        now, wall_now = self.now(), self.wall_now()
        lifetime = stored.expires_at - stored.issued_at
        if stored.issued_at > wall_now + _LARGEST_CLOCK_SKEW or lifetime > LONGEST_LIFETIME_SECONDS:
            return None
        # From the wall clock to the deciding one. A writer whose clock is ahead of ours must not lengthen the life.
        age = max(wall_now - stored.issued_at, 0.0)
        with self._lock:
            lease = self._lease(stored, now - age)
            return self._keep(lease, now, "cache") if self.memory.wants_cached(lease, now) else None

    def take(self, receipt: Receipt, *, is_replacement: bool) -> Commit | None:
        """Hold a token from the endpoint, if it is still the newest; None if it was rejected before it came.

        Args:
            receipt: what came.
            is_replacement: whether it was asked for because another was rejected.

        Raises:
            ProviderClosedError: if it was closed meanwhile.
        """
        now = self.now()
        with self._lock:
            memory, token = self.memory, receipt.token
            if is_replacement or memory.is_replacing:
                token = attrs.evolve(token, is_replacement=True)
            lease = self._lease(token, receipt.requested_at)
            if now >= lease.hard_at:
                # So short-lived, or so late, that it serves those who wait for it, and nobody else.
                return Commit(token, source="endpoint", expires_at=lease.expires_at)
            if memory.accepts(lease):
                return self._keep(lease, now, "endpoint")
            if memory.lease is None or now >= memory.lease.expires_at:
                return None
            return Commit(memory.lease.token, source="memory", expires_at=memory.lease.expires_at)

    def renewed_since(self, seen: Lease | None, *, may_be_due: bool = False) -> Commit | None:
        """Return the held token if it is fresh and came after *seen* was held: then another event loop renewed it."""
        now, lease = self.now(), self.memory.lease
        if lease is None or lease is seen or now >= (lease.expires_at if may_be_due else lease.due_at):
            return None
        return Commit(lease.token, source="memory", expires_at=lease.expires_at)

    def can_serve(self, commit: Commit) -> bool:
        """Return whether the token can still be used, although those who wait for it get it after it was stored.

        Meanwhile the machine may have been suspended, and others, who have it already, may have seen it rejected.
        """
        return self.now() < commit.expires_at and not self.memory.is_rejected(commit.token)

    def _lease(self, token: AccessToken, requested_at: float) -> Lease:
        return self._policy.lease(
            token,
            requested_at=requested_at,
            is_first=not self.memory.has_renewed,
            is_replacement=token.is_replacement or self.memory.is_replacing,
            random=random.random,
        )

    def _keep(self, lease: Lease, now: float, source: Literal["cache", "endpoint"]) -> Commit:
        before = self.memory
        self._replace(before.after_token(lease, now, self._policy))
        return Commit(
            lease.token,
            source=source,
            expires_at=lease.expires_at,
            is_kept=True,
            is_unchanged=before.is_unchanged(lease, now),
            outage_began_at=before.outage_began_at,
        )

    def _replace(self, memory: Memory) -> None:
        if self.is_closed:
            raise ProviderClosedError
        self.memory = memory
