"""The access token. Rule: a value that may go into a header, and shows itself nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self

import attrs

from simplestore_async.errors import ConfigurationError

from .redaction import RedactedStr, conceal, show_fields
from .validation import is_number

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LONGEST_LIFETIME_SECONDS", "AccessToken", "TokenSource", "is_visible_ascii", "split_scope"]

# What claims to live longer is not believed.
LONGEST_LIFETIME_SECONDS: Final = 24 * 3600.0

# RFC 6749 App. A.12 without the space: servers issue more than RFC 6750's b64token, such as `Atza|…` or `00D…!…`.
_VISIBLE: Final = re.compile(r"[!-~]+")


def is_visible_ascii(value: str) -> bool:
    """Return whether *value* may stand behind `Bearer` in a header."""
    return _VISIBLE.fullmatch(value) is not None


def _check_value(_token: AccessToken, _field: object, value: Any) -> None:
    # The text is not in the message: it may well be a real token that was damaged on its way.
    if not isinstance(value, str) or not is_visible_ascii(value):
        raise ConfigurationError(
            "AccessToken value is not visible ASCII (RFC 6749 A.12): pass the token alone, as a string without spaces"
        )


def _check_token_type(_token: AccessToken, _field: object, value: Any) -> None:
    if value != "Bearer":
        raise ConfigurationError('AccessToken token_type must be "Bearer": this package sends no other kind')


def _check_instant(_token: AccessToken, field: attrs.Attribute[float], value: Any) -> None:
    if not is_number(value):
        raise ConfigurationError(f"AccessToken {field.name} must be POSIX seconds, an int or float that is finite")


def _check_flag(_token: AccessToken, field: attrs.Attribute[bool], value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"AccessToken {field.name} must be True or False")


def split_scope(scope: Any) -> list[Any]:
    """Return the items of *scope*; a string is the wire's own form: names with spaces between them (RFC 6749 3.3)."""
    if isinstance(scope, str):
        return list(scope.split())
    return list(scope) if hasattr(scope, "__iter__") else [scope]


def _scope_names(scope: Any) -> tuple[str, ...]:
    names = split_scope(scope)
    if not all(isinstance(name, str) for name in names):
        raise ConfigurationError("AccessToken scope must be a string or strings (RFC 6749 3.3)")
    return tuple(names)


@attrs.frozen(init=False, repr=False)
class AccessToken:
    """A bearer token (RFC 6749 5.1) with its life in POSIX seconds.

    Immutable, redacted in every `repr`, copied as itself, and refused by pickle. The instants are for people and
    caches: while a provider holds the token, its own clock decides, which no step of the wall clock moves.

    Attributes:
        value: the token itself. It is a `str`; only its `repr` hides it.
        token_type: always `"Bearer"`.
        issued_at: when the token was asked for, in POSIX seconds.
        expires_at: when it must no longer be used, in POSIX seconds.
        scope: what was granted, in the server's order (RFC 6749 3.3); empty if neither side named a scope.
        is_replacement: whether it was asked for because the API rejected another. Processes that share a cache know by
            it that an API which rejects this one too will hardly accept a third.
        authorization: `"Bearer …"`, the value of an Authorization header, for clients other than aiohttp. Also a
            `str` whose `repr` hides it.

    Raises:
        ConfigurationError: if a field is not what it must be. The text of *value* is not in the message.
    """

    value: str = attrs.field(validator=_check_value)
    token_type: str = attrs.field(validator=_check_token_type)
    issued_at: float = attrs.field(validator=_check_instant)
    expires_at: float = attrs.field(validator=_check_instant)
    scope: tuple[str, ...]
    is_replacement: bool = attrs.field(validator=_check_flag)
    authorization: str = attrs.field(init=False, repr=False)

    def __init__(  # noqa: PLR0913 - the fields of RFC 6749 5.1
        self,
        value: str,
        *,
        token_type: str = "Bearer",  # noqa: S107 - a kind of token, no token
        issued_at: float,
        expires_at: float,
        scope: str | Iterable[str] = (),
        is_replacement: bool = False,
    ) -> None:
        value = conceal(value)
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs writes it
            value, token_type, issued_at, expires_at, _scope_names(scope), is_replacement
        )

    def __attrs_post_init__(self) -> None:
        if self.expires_at <= self.issued_at:
            raise ConfigurationError("AccessToken expires_at must be later than issued_at")
        # Built once and whole: "Bearer " + value would be a plain string that shows itself.
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
    """Where `BearerAuthMiddleware` gets its tokens; `TokenProvider` is one, and so is any object with these methods."""

    async def get_token(self) -> AccessToken:
        """Return a token that may be sent now.

        Raises:
            SimpleStoreError: if none can be had; the request is then not sent.
        """
        ...

    def invalidate(self, token: AccessToken) -> bool:
        """Note that *token* was rejected, without I/O; return whether `get_token()` may now give another one."""
        ...
