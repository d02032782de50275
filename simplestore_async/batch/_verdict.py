"""What follows an attempt. Rule: pure; a request that may have taken effect is repeated only if that does no harm.

RFC 9110 9.2.2 also allows to repeat idempotent requests, for clients that know that no one else changes the same
resource. A batch does not know, and repeats requests that are safe (9.2.1), that carry an idempotency key, that were
not sent, or that the API put off (429, RFC 6585 4).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import aiohttp
import attrs

from simplestore_async.errors import SimpleStoreError

from ._sending import Response
from ._values import Outcome

__all__ = ["Verdict", "judge"]

Action: TypeAlias = Literal["end", "wait", "retry", "halt"]


@attrs.frozen
class Verdict:
    """What follows an attempt.

    Attributes:
        action: `"end"`: it has its result. `"wait"`: it had no effect, and is sent again. `"retry"`: it is repeated as
            long as attempts are left. `"halt"`: the whole batch ends.
        outcome: its outcome, if that is its result.
        is_failure: whether the server failed, rather than the request.
        is_general: whether that concerns the whole batch.
    """

    action: Action
    outcome: Outcome = "failed"
    is_failure: bool = False
    is_general: bool = False


def judge(end: Response | Exception, *, has_left: bool, is_safe: bool, may_repeat: bool) -> Verdict:
    """Return what follows an attempt.

    Args:
        end: how it ended.
        has_left: whether the request may have reached the API.
        is_safe: whether it only reads.
        may_repeat: whether it does no harm to send it again.
    """
    if isinstance(end, Response):
        return _judge_status(end.head.status, is_safe=is_safe, may_repeat=may_repeat)
    if isinstance(end, SimpleStoreError):
        # A token is obtained before the request is sent; also after a rejection, which precedes any effect.
        return Verdict("wait" if end.retryable else "halt", is_failure=True, is_general=True)
    if isinstance(end, aiohttp.ClientConnectorCertificateError):
        return Verdict("halt")
    if has_left:
        return Verdict("retry" if may_repeat else "end", "failed" if is_safe else "unknown", is_failure=True)
    if isinstance(end, aiohttp.ClientError | TimeoutError) and not isinstance(end, ValueError):
        return Verdict("wait", is_failure=True, is_general=True)
    return Verdict("end")  # an impossible URL; a file that cannot be opened


def _judge_status(status: int, *, is_safe: bool, may_repeat: bool) -> Verdict:
    if 200 <= status < 300:
        return Verdict("end", "succeeded")
    if status == 429:
        return Verdict("wait", "refused", is_failure=True, is_general=True)
    if status == 401:  # the token was replaced already, and that one rejected, too
        return Verdict("end", "refused", is_failure=True)
    if status == 408 or (status >= 500 and status not in {501, 505}):
        # 408 and 503 say that the request was not handled; 500, a gateway's 502 and 504, and others do not.
        was_refused = is_safe or status in {408, 503}
        return Verdict("retry" if may_repeat else "end", "refused" if was_refused else "unknown", is_failure=True)
    return Verdict("end", "refused")
