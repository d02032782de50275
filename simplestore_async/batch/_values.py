"""What goes through a batch. Rule: frozen values; a repr shows no header and no body, in which secrets may stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import attrs

from simplestore_async._core.validation import is_number
from simplestore_async.errors import ConfigurationError

__all__ = ["OUTCOMES", "SAFE_METHODS", "BatchPolicy", "BatchRequest", "BatchResult", "BatchSummary", "Outcome"]

Outcome: TypeAlias = Literal["succeeded", "refused", "failed", "unknown"]

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

# RFC 9110 9.2.1. TRACE, which is safe, too, would show the token.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@attrs.frozen(kw_only=True)
class BatchRequest:
    """One request of a batch.

    Attributes:
        id: what its result is known by.
        line: its number in the file, from 1; a journal knows it by that.
        method: the HTTP method, in upper case.
        path: relative to the session's base URL, with or without a slash at its start; or a whole URL.
        headers: names and values; one name may come again.
        body: what is sent, if anything.
    """

    id: str | int
    line: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)

    @property
    def is_safe(self) -> bool:
        """Whether it only reads, and so may be sent again at any time (RFC 9110 9.2.1)."""
        return self.method in SAFE_METHODS


@attrs.frozen(kw_only=True)
class BatchResult:
    """What came of one request.

    Attributes:
        id: the request's.
        line: the request's.
        outcome: `"succeeded"`: the API answered 2xx. `"refused"`: it answered anything else. `"failed"`: no complete
            answer came to a request that changes nothing. `"unknown"`: none came to one that may have changed
            something.
        status: the HTTP status, if an answer came.
        location: where the API says that something new is, if it does (RFC 9110 10.2.2).
        body: the answer's body: the value if it is JSON, else the text, else base64; None if it is empty.
        body_format: which of them: `"json"`, `"text"` or `"base64"`; None if there is none.
        error_type: the kind of the error, if there was one.
        error_message: what it says.
        attempts: how many times it was sent, or may have been.
        duration_seconds: how long it took, pauses included.
    """

    id: str | int
    line: int
    outcome: Outcome
    status: int | None = None
    location: str | None = attrs.field(default=None, repr=False)
    body: Any = attrs.field(default=None, repr=False)
    body_format: Literal["json", "text", "base64"] | None = None
    error_type: str | None = None
    error_message: str | None = None
    attempts: int = 0
    duration_seconds: float = 0.0


@attrs.frozen(kw_only=True)
class BatchSummary:
    """How a batch stands, over all of its runs.

    Attributes:
        counts: how many requests had each outcome.
        remaining: how many a `--resume` would send; None if how many there are is not known, without a journal.
        is_stopped: whether it was asked to end early.
    """

    counts: Mapping[Outcome, int]
    remaining: int | None
    is_stopped: bool

    @property
    def done(self) -> int:
        """How many requests have a result."""
        return sum(self.counts.values())


def _check_positive(_policy: object, field: attrs.Attribute[Any], value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise ConfigurationError(f"{field.name} is {value!r}: set a number above 0")


def _check_count(_policy: object, field: attrs.Attribute[int], value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{field.name} is {value!r}: set a whole number, 1 or more")


def _check_rate(policy: object, field: attrs.Attribute[float | None], value: Any) -> None:
    if value is not None:
        _check_positive(policy, field, value)


@attrs.frozen(kw_only=True)
class BatchPolicy:
    """How a batch is sent.

    Args:
        concurrency: how many requests are under way at once, at most.
        rate: how many are sent in a second, at most and evenly; None for as many as go.
        attempts: how many times a request that only reads is sent, until an answer comes that is not 408, 429 or 5xx.
        backoff_seconds: the pause before the second attempt, or of the whole batch when nothing can be sent; each
            further one is twice as long, up to 30 s.
        timeout_seconds: how long one attempt may take, its token included.
        patience_seconds: how long the batch waits, while it can send nothing, for the API or the token endpoint to come
            back, or for the end of a Retry-After; then it ends, and can be resumed.
        grace_seconds: how long requests under way may still take when the batch is asked to end.
        has_leave_to_resend: whether to send what may have been done already: requests that change something, and whose
            outcome is unknown.

    Raises:
        ConfigurationError: names the argument, what was wrong and what to set.
    """

    concurrency: int = attrs.field(default=20, validator=_check_count)
    rate: float | None = attrs.field(default=None, validator=_check_rate)
    attempts: int = attrs.field(default=4, validator=_check_count)
    backoff_seconds: float = attrs.field(default=0.5, validator=_check_positive)
    timeout_seconds: float = attrs.field(default=300.0, validator=_check_positive)
    patience_seconds: float = attrs.field(default=600.0, validator=_check_positive)
    grace_seconds: float = attrs.field(default=10.0, validator=_check_positive)
    has_leave_to_resend: bool = False
