"""Redaction. Rule: a secret shows as `***` wherever Python shows values, and text that is secret cannot be pickled.

A `RedactedStr` still *is* the value: it must travel through aiohttp, urllib and json unchanged. Only its `repr`
differs, because loggers, tracebacks with locals, debuggers and `request_info` use `repr`.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn, Protocol, Self, SupportsIndex, TypeVar, cast, overload

import attrs
from yarl import URL

__all__ = ["MASK", "RedactedBytes", "RedactedStr", "SupportsSecretValue", "conceal", "kind_of", "reveal", "show_fields"]

T = TypeVar("T")

MASK: Final = "***"


class SupportsSecretValue(Protocol):
    """A secret that hides its text, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> str:
        """Return the text."""
        ...


class RedactedStr(str):
    """A string whose `repr` hides it. `+` and f-strings return plain strings, so build it as a whole."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __getitem__(self, key: SupportsIndex | slice) -> Self:
        # reprlib and rich slice long strings before they show them.
        return type(self)(super().__getitem__(key))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret or token cannot be pickled: let each process read or request its own")


class RedactedBytes(bytes):
    """Bytes whose `repr` hides them. They are real bytes, so HTTP recorders can filter a form."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"b'{MASK}'"

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | Self:
        # aiohttp slices a body before it writes it.
        item = super().__getitem__(key)
        return item if isinstance(item, int) else type(self)(item)


def conceal(value: T) -> T:
    """Return text redacted (a URL as text), and anything else unchanged.

    Constructors that take a secret call it first, so that the traceback of a later error shows no plain text.
    """
    redacted = RedactedStr(value) if isinstance(value, str | URL) else value
    return cast("T", RedactedBytes(redacted) if isinstance(redacted, bytes) else redacted)


def reveal(value: Any) -> tuple[Any, str]:
    """Return *value* redacted, or the problem; an object with `get_secret_value()`, such as `SecretStr`, is read.

    An exception is named by its type, because its text may contain the secret.
    """
    read = None if isinstance(value, type) else getattr(value, "get_secret_value", None)
    if not callable(read):
        return conceal(value), ""
    try:
        return conceal(read()), ""
    except Exception as error:  # noqa: BLE001 - the text of any exception may contain the secret
        return None, f"cannot be read: get_secret_value() raised {type(error).__name__}"


def show_fields(self: attrs.AttrsInstance) -> str:
    """`__repr__` for attrs classes; works on partially initialised instances.

    attrs would compile a method for each class, which is most of the package's import time. When a constructor fails,
    the instance is among the locals of its frames, which a traceback shows.
    """
    shown: list[str] = []
    for field in attrs.fields(type(self)):
        if field.repr and hasattr(self, field.name):
            show = field.repr if callable(field.repr) else repr
            shown.append(f"{field.name}={show(getattr(self, field.name))}")
    return f"{type(self).__name__}({', '.join(shown)})"


def kind_of(value: object) -> str:
    """Return the name of the type that the user passed, even if the value is redacted."""
    return "bytes" if isinstance(value, bytes) else type(value).__name__
