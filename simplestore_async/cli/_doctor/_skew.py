"""This machine's clock and the server's. Rule: a request that anybody may make, and no more claimed than it tells."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp

from ._check import Outcome, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

__all__ = ["compare_clocks"]

# Half of what makes a stored token a miss for others: one that was issued in the future by their clock.
_TOLERATED_SECONDS: Final = 30.0
# A Date has whole seconds, rounded down (RFC 9110 5.6.7).
_DATE_STEP_SECONDS: Final = 1.0


async def compare_clocks(token_url: URL, *, patience_seconds: float) -> Outcome:
    """Compare with the Date of a reply (RFC 9110 6.6.1).

    To a HEAD of the host's root: it carries nothing, changes nothing, and is no token request, which the endpoint might
    count as a failed one.
    """
    root = token_url.origin()
    try:
        timeout = aiohttp.ClientTimeout(total=patience_seconds)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout) as session:
            began_at = time.time()
            async with session.head(root, allow_redirects=False, headers={"Cache-Control": "no-cache"}) as response:
                ended_at = time.time()
    except (aiohttp.ClientError, OSError):
        return skipped(f"HEAD {root}/ has no answer whose Date could be compared")
    date = _read_date(response.headers)
    if date is None:
        return skipped("the server does not say what time it is")
    # The server wrote it at some instant in between, and cut off the fraction.
    ahead_seconds = (began_at + ended_at) / 2 - (date + _DATE_STEP_SECONDS / 2)
    uncertainty = (ended_at - began_at + _DATE_STEP_SECONDS) / 2
    facts = {"ahead_seconds": ahead_seconds, "uncertainty_seconds": uncertainty}
    if abs(ahead_seconds) <= uncertainty:
        return ok(f"this machine's and the server's agree (within {uncertainty:.1f} s)", **facts)
    order = "ahead of" if ahead_seconds > 0 else "behind"
    told = f"this machine's is {abs(ahead_seconds):.1f} s {order} the server's (± {uncertainty:.1f} s)"
    if abs(ahead_seconds) - uncertainty <= _TOLERATED_SECONDS:
        return ok(told, **facts)
    return warning(
        told,
        advice="set this machine's clock by NTP: no machine takes a token from a cache that was issued in its future",
        **facts,
    )


def _read_date(headers: Mapping[str, str]) -> float | None:
    """Return the instant in POSIX seconds; None if there is none, or a cache on the way answered for the server."""
    if headers.get("Age", "0").strip() != "0":
        return None
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
