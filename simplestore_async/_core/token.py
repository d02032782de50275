"""Access tokens. Rule: the value is sent in a header and never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn, Protocol, Self, cast

import attrs

from simplestore_async.errors import ConfigurationError

from .redaction import RedactedStr, conceal, show_fields
from .validation import check_flag, check_number, check_type, type_error

__all__ = ["LONGEST_LIFETIME_SECONDS", "AccessToken", "TokenSource", "is_visible_ascii", "split_scope"]

# Longer lifetimes are not trusted.
LONGEST_LIFETIME_SECONDS: Final = 24 * 3600.0

# RFC 6749 §A.12 without the space: more than RFC 6750 §2.1 allows in a header, because servers send it.
_ACCESS_TOKEN: Final = re.compile(r"[!-~]+")


def is_visible_ascii(value: str) -> bool:
    """Return whether *value* is visible ASCII without spaces, which may follow `Bearer` in a header."""
    return _ACCESS_TOKEN.fullmatch(value) is not None


def _check_value(_token: AccessToken, _field: object, value: Any) -> None:
    # The text is not in the message: it may be a real token that was damaged.
    check_type("value", value, str, expected="a string")
    if not is_visible_ascii(value):
        raise ConfigurationError(
            "value", "must be a token of visible ASCII characters (RFC 6749 A.12)", "pass it alone, without spaces"
        )


def _check_token_type(_token: AccessToken, _field: object, value: Any) -> None:
    if not isinstance(value, str) or value != "Bearer":
        raise ConfigurationError("token_type", 'must be "Bearer"', "this package sends no other kind")


def _check_instant(_token: AccessToken, field: attrs.Attribute[float], value: Any) -> None:
    check_number(field.name, value)


def _check_flag(_token: AccessToken, field: attrs.Attribute[bool], value: Any) -> None:
    check_flag(field.name, value)


def split_scope(scope: Any) -> tuple[Any, ...]:
    """Return the items of *scope*; a string has the form of RFC 6749 §3.3: names separated by spaces.

    Raises:
        ConfigurationError: if it is neither a string nor an iterable.
    """
    if isinstance(scope, str):
        return tuple(scope.split())
    if not isinstance(scope, Iterable) or isinstance(scope, bytes | type):
        raise type_error("scope", scope, "a string or strings")
    return tuple(cast("Iterable[object]", scope))


def _read_scope(scope: object) -> tuple[str, ...]:
    names = split_scope(scope)
    if not all(isinstance(name, str) and name.split() == [name] for name in names):
        raise ConfigurationError("scope", "must be names without white space (RFC 6749 §3.3)")
    return names


@attrs.frozen(init=False, repr=False)
class AccessToken:
    """A bearer token (RFC 6749 §5.1) and its lifetime in POSIX seconds.

    Immutable and redacted in every `repr`. Copying returns the same object, and pickling is refused. The timestamps are
    for people and caches: a provider uses its own monotonic clock, which steps of the wall clock do not affect.

    Attributes:
        value: the token, a `str` whose `repr` hides it.
        token_type: always `"Bearer"`.
        issued_at: time of the token request, in POSIX seconds.
        expires_at: end of the token's lifetime, in POSIX seconds.
        scope: the granted scope, in the server's order (RFC 6749 §3.3); empty if neither side named one.
        is_replacement: whether it was requested because the API rejected another. Processes that share a cache
            need it to recognise a second rejection in a row.
        authorization: `"Bearer …"`, the value of an Authorization header, for clients other than aiohttp; also a
            `str` whose `repr` hides it.

    Raises:
        ConfigurationError: if a field is wrong. The text of *value* is not in the message.
    """

    value: str = attrs.field(validator=_check_value)
    token_type: str = attrs.field(validator=_check_token_type)
    issued_at: float = attrs.field(validator=_check_instant)
    expires_at: float = attrs.field(validator=_check_instant)
    scope: tuple[str, ...]
    is_replacement: bool = attrs.field(validator=_check_flag)
    authorization: str = attrs.field(init=False, repr=False)

    def __init__(  # noqa: PLR0913 - the fields of RFC 6749 §5.1
        self,
        value: str,
        *,
        token_type: str = "Bearer",  # noqa: S107 - a type, not a token
        issued_at: float,
        expires_at: float,
        scope: str | Iterable[str] = (),
        is_replacement: bool = False,
    ) -> None:
        value = conceal(value)
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs writes it
            value, token_type, issued_at, expires_at, _read_scope(scope), is_replacement
        )

    def __attrs_post_init__(self) -> None:
        if self.expires_at <= self.issued_at:
            raise ConfigurationError("expires_at", "must be later than issued_at")
        # Built as a whole: "Bearer " + value would be a plain string with a revealing repr.
        object.__setattr__(self, "authorization", RedactedStr(f"Bearer {self.value}"))

    __repr__ = show_fields

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "an AccessToken cannot be pickled: give each process its own TokenProvider, "
            "and let them share a FileTokenCache"
        )


class TokenSource(Protocol):
    """Source of tokens for `BearerAuthMiddleware`: a `TokenProvider`, or any object with these methods."""

    async def get_token(self) -> AccessToken:
        """Return a token that may be sent now.

        Raises:
            SimpleStoreError: if none can be obtained; the request is then not sent.
        """
        ...

    def invalidate(self, token: AccessToken) -> bool:
        """Record that *token* was rejected, without I/O; return whether `get_token()` may now return another one."""
        ...
