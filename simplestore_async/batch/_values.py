"""Values of a batch. Rule: frozen; a repr shows no header and no body, which may hold secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs

from simplestore_async._core.headers import find_header_problem, is_header_name
from simplestore_async._core.target import METHODS
from simplestore_async._core.validation import check_number, type_error
from simplestore_async.errors import ConfigurationError

__all__ = ["OUTCOMES", "BatchPolicy", "BatchRequest", "BatchResult", "BatchSummary", "Outcome"]

Outcome: TypeAlias = Literal["succeeded", "refused", "failed", "unknown"]

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

# RFC 9110 9.2.1. TRACE is not among METHODS.
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Headers of the connection, and those by which servers choose another host, path or method.
_FOREIGN_HEADERS: Final = re.compile(
    r"host|expect|connection|keep-alive|te|trailer|upgrade|proxy-.*|forwarded|x-forwarded-(host|proto)|"
    r"x-(original|rewrite)-url|x-http-method|x(-http)?-method-override",
    re.IGNORECASE,
)


def _check_headers(_request: object, _field: object, headers: Any) -> None:
    pairs = cast("Iterable[object]", headers) if isinstance(headers, list | tuple) else [headers]
    for pair in pairs:
        if not isinstance(pair, tuple) or len(cast("tuple[object, ...]", pair)) != 2:
            raise ConfigurationError("headers", "must be pairs of name and value", 'such as (("If-Match", "7"),)')
        name, value = cast("tuple[object, object]", pair)
        if not is_header_name(name):
            # Not shown: it may be a value in the wrong place.
            raise ConfigurationError("headers", "must have header names as keys")
        if not isinstance(value, str):
            raise ConfigurationError("headers", f"must have text for the value of {name}")
        if problem := find_header_problem(name, value):
            raise ConfigurationError("headers", f"cannot be sent: {problem}")
        if _FOREIGN_HEADERS.fullmatch(name):
            raise ConfigurationError("headers", f"must not hold {name}, which would lead the request elsewhere")


def _check_method(_request: object, _field: object, method: Any) -> None:
    if method not in METHODS:
        raise ConfigurationError("method", f"must be one of {', '.join(METHODS)}")


def _check_id(_request: object, field: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int and not (isinstance(value, str) and value):
        raise ConfigurationError(field.name, "must be text or a whole number, and not empty")


def _check_body(_request: object, _field: object, body: Any) -> None:
    if body is not None and not isinstance(body, bytes | Path):
        raise type_error("body", body, "bytes or a Path", "for JSON pass json.dumps(…).encode() and a Content-Type")


def _check_text(_request: object, field: attrs.Attribute[Any], text: Any) -> None:
    if not isinstance(text, str) or not text.isprintable():
        raise ConfigurationError(field.name, "must be text without line breaks or control characters")


@attrs.frozen(kw_only=True)
class BatchRequest:
    """One request of a batch.

    Attributes:
        id: identifies its result; unique within the batch.
        method: the HTTP method, in upper case.
        path: relative to the session's base URL, or a URL below it.
        headers: names and values; a name may be repeated.
        body: what is sent, if anything; a path is a file that is streamed.
        key: requests of one key are sent in order, one at a time.
        data: the program's own data, returned with the result and never sent.
        line: its number in the file, from 1.

    Raises:
        ConfigurationError: if a field cannot be sent; names it.
    """

    id: str | int = attrs.field(validator=_check_id)
    method: str = attrs.field(validator=_check_method)
    path: str = attrs.field(validator=_check_text)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False, validator=_check_headers)
    body: bytes | Path | None = attrs.field(default=None, repr=False, validator=_check_body)
    key: str | int | None = attrs.field(default=None, validator=attrs.validators.optional(_check_id))
    data: Any = attrs.field(default=None, repr=False, eq=False)
    line: int = 0

    @property
    def is_safe(self) -> bool:
        """Whether it only reads, and may be sent any number of times (RFC 9110 9.2.1)."""
        return self.method in _SAFE_METHODS

    @property
    def size(self) -> int:
        """Bytes of its body in memory."""
        return len(self.body) if isinstance(self.body, bytes) else 0


@attrs.frozen(kw_only=True)
class BatchResult:
    """Result of one request.

    Attributes:
        request: the request.
        outcome: `"succeeded"`: the API responded 2xx. `"refused"`: it responded otherwise, and did nothing.
            `"failed"`: no complete response to a request that only reads. `"unknown"`: the request may have taken
            effect: no complete response, or 500, 502 or 504.
        status: the HTTP status, if a response came.
        headers: the response headers that were chosen.
        body_text: the response's body: JSON or other text as it came, else base64; None if it is empty.
        body_format: `"json"`, `"text"`, `"base64"` or None.
        error_type: the class of the error, if there was one.
        error_message: its text.
        attempts: how many times it was sent, or may have been.
        started_at: POSIX time of the first attempt.
        duration_seconds: time from the first attempt to the result, pauses included.
    """

    request: BatchRequest
    outcome: Outcome
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    body_text: str | None = attrs.field(default=None, repr=False)
    body_format: Literal["json", "text", "base64"] | None = None
    error_type: str | None = None
    error_message: str | None = None
    attempts: int = 0
    started_at: float = 0.0
    duration_seconds: float = 0.0

    @property
    def body(self) -> Any:
        """The response's body: the value if it is JSON, else `body_text`."""
        if self.body_text is None or self.body_format != "json":
            return self.body_text
        try:
            return json.loads(self.body_text)
        except (ValueError, RecursionError):  # thousands of digits, or of brackets
            return self.body_text

    @property
    def id(self) -> str | int:
        """The request's id."""
        return self.request.id

    @property
    def line(self) -> int:
        """The request's line."""
        return self.request.line

    @property
    def key(self) -> str | int | None:
        """The request's key."""
        return self.request.key

    @property
    def data(self) -> Any:
        """The program's own data."""
        return self.request.data


@attrs.frozen(kw_only=True)
class BatchSummary:
    """State of a batch, over all of its runs.

    Attributes:
        counts: number of requests with each outcome.
        statuses: number of results with each HTTP status.
        remaining: number of requests without a result; None where the number of requests is not known.
        is_stopped: whether the run was asked to end early.
        elapsed_seconds: duration of this run.
        sent: number of results of this run.
    """

    counts: Mapping[Outcome, int]
    statuses: Mapping[int, int]
    remaining: int | None
    is_stopped: bool
    elapsed_seconds: float = attrs.field(default=0.0, eq=False)
    sent: int = 0

    @property
    def done(self) -> int:
        """Number of requests with a result."""
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Results per second of this run."""
        return self.sent / self.elapsed_seconds if self.elapsed_seconds else 0.0


def _check_positive(_policy: object, field: attrs.Attribute[Any], value: Any) -> None:
    check_number(field.name, value, above=0)


def _check_count(_policy: object, field: attrs.Attribute[Any], value: Any) -> None:
    check_number(field.name, value, at_least=1, is_whole=True)


def _check_resend(_policy: object, _field: object, resend: Any) -> None:
    if not isinstance(resend, frozenset):
        raise ConfigurationError("resend", "must be a frozenset")
    for item in cast("frozenset[object]", resend):
        if item not in OUTCOMES[1:] and not (type(item) is int and 100 <= item <= 599):
            raise ConfigurationError("resend", "must hold refused, failed, unknown or HTTP statuses")


def _check_header_name(_policy: object, field: attrs.Attribute[Any], name: Any) -> None:
    if not is_header_name(name) or re.fullmatch(r"(?i)content-.*|authorization|cookie|host", name):
        raise ConfigurationError(field.name, "must be a header name that nothing else sets, such as Idempotency-Key")


def _check_names(_policy: object, field: attrs.Attribute[Any], names: Any) -> None:
    if not isinstance(names, list | tuple) or not all(map(is_header_name, cast("Iterable[object]", names))):
        raise ConfigurationError(field.name, "must hold names of headers")


@attrs.frozen(kw_only=True)
class BatchPolicy:
    """Limits and retries of a batch.

    Args:
        concurrency: maximum concurrent requests.
        rate: maximum requests per second, evenly spread; None for no limit.
        attempts: maximum attempts of a request that may be repeated.
        backoff_seconds: pause before the second attempt, or of the whole batch in an outage; doubled each time, up to
            30 s.
        timeout_seconds: time limit of one attempt, token included.
        patience_seconds: how long an outage, or a Retry-After, may last before the batch ends; it can be continued.
        grace_seconds: how long requests in flight may take once the batch is asked to end.
        stop_after: end the batch after this many failures in a row: 5xx, lost connections, rejected tokens.
        resend: outcomes and statuses of an earlier run that are sent again, such as
            `frozenset({"unknown", 503})`.
        idempotency_key: name of a header that identifies each request to the API; it makes every request repeatable.
        response_headers: names of response headers that results hold; Location always is.
        bytes_in_flight: maximum bytes of bodies in memory, of requests and of results that are not reported yet; a
            single larger one is sent alone.

    Raises:
        ConfigurationError: names the argument.
    """

    concurrency: int = attrs.field(default=20, validator=_check_count)
    rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(_check_positive))
    attempts: int = attrs.field(default=4, validator=_check_count)
    backoff_seconds: float = attrs.field(default=0.5, validator=_check_positive)
    timeout_seconds: float = attrs.field(default=300.0, validator=_check_positive)
    patience_seconds: float = attrs.field(default=600.0, validator=_check_positive)
    grace_seconds: float = attrs.field(default=10.0, validator=_check_positive)
    stop_after: int | None = attrs.field(default=None, validator=attrs.validators.optional(_check_count))
    resend: frozenset[str | int] = attrs.field(default=frozenset[str | int](), validator=_check_resend)
    idempotency_key: str | None = attrs.field(default=None, validator=attrs.validators.optional(_check_header_name))
    response_headers: tuple[str, ...] = attrs.field(default=(), validator=_check_names)
    bytes_in_flight: int = attrs.field(default=32 << 20, validator=_check_count)

    def may_repeat(self, request: BatchRequest) -> bool:
        """Return whether a request may be sent again although it may have taken effect."""
        return request.is_safe or self.idempotency_key is not None
