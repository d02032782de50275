"""Builders of `ProviderState` and its parts, for the tests of the provider's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from simplestore_async import AccessToken, RenewalPolicy
from simplestore_async._core.state import ProviderState
from simplestore_async.errors import InvalidClientError, TokenEndpointError, TokenTransportError

if TYPE_CHECKING:
    from simplestore_async._core.policy import HeldToken

POLICY: Final = RenewalPolicy()
SENT: Final = 1_000.0  # on the monotonic clock
WALL: Final = 1_700_000_000.0  # POSIX seconds

PASSING: Final = TokenTransportError("passing")
TERMINAL: Final = InvalidClientError("terminal", status=401, error="invalid_client")


def token(value: str = "token", life: float = 3600.0) -> AccessToken:
    return AccessToken(value, issued_at=WALL, expires_at=WALL + life)


def hold(
    value: str = "token",
    *,
    sent: float = SENT,
    life: float = 3600.0,
    is_first: bool = False,
    is_unproven: bool = False,
    draw: float = 0.5,
) -> HeldToken:
    return POLICY.hold(
        token(value, life), requested_at=sent, is_first=is_first, is_unproven=is_unproven, random=lambda: draw
    )


def holding(held: HeldToken, **changes: Any) -> ProviderState:
    return attrs.evolve(ProviderState().with_token(held, held.requested_at), **changes)


def reject(state: ProviderState, now: float, value: str = "token") -> tuple[ProviderState, bool]:
    """Return the state after a rejection of the token, and whether the request may be resent."""
    after, (verdict, _) = state.rejects(token(value), now)
    return after, verdict.allows_resend


def refused(retry_after: float | None, status: int = 503) -> TokenEndpointError:
    return TokenEndpointError("refused", status=status, retry_after=retry_after)
