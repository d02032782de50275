"""Checks of arguments. Rule: an error names the argument and the type of its value; it shows no value but a number."""

from __future__ import annotations

import inspect
import sys
from types import NoneType, UnionType
from typing import Any, Final, TypeGuard, cast, get_args

from simplestore_async.errors import ConfigurationError

__all__ = [
    "check_callable",
    "check_flag",
    "check_number",
    "check_type",
    "is_coroutine_function",
    "is_number",
    "is_plain_text",
    "type_error",
    "type_name",
]

_INFINITY: Final = float("inf")


def type_name(value: object) -> str:
    """Return the name of the type that a user passed; a redacted `str` or `bytes` counts as its base class."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return next((kind.__name__ for kind in (str, bytes) if isinstance(value, kind)), type(value).__name__)


def type_error(field: str, value: object, expected: str, hint: str = "") -> ConfigurationError:
    """Return the error for a *value* that is not *expected*; a class gets the hint to pass an instance."""
    if isinstance(value, type):
        hint = f"pass an instance: {value.__name__}(…)"
    return ConfigurationError(field, f"must be {expected}, got {type_name(value)}", hint)


def check_type(field: str, value: object, kind: type | UnionType, *, expected: str = "", hint: str = "") -> None:
    """Check that *value* is an instance of *kind*, such as `str | URL` or `Clock | None`; a class is never one.

    Args:
        field: the argument's name.
        value: the argument.
        kind: a class, a runtime-checkable protocol, or a union of them.
        expected: noun phrase for the message; by default the names of *kind*.
        hint: what to pass instead.

    Raises:
        ConfigurationError: if it is not.
    """
    if isinstance(value, kind) and not isinstance(value, type):
        return
    raise type_error(field, value, expected or _describe_kind(kind), hint)


def check_flag(field: str, value: object) -> None:
    """Check that *value* is True or False: the string `"false"` would count as true.

    Raises:
        ConfigurationError: if it is neither.
    """
    if not isinstance(value, bool):
        raise type_error(field, value, "True or False")


def check_number(  # noqa: PLR0913 - one argument for each bound
    field: str,
    value: Any,
    *,
    above: float = -_INFINITY,
    at_least: float = -_INFINITY,
    at_most: float = _INFINITY,
    is_whole: bool = False,
) -> None:
    """Check that *value* is a finite number within bounds, and an int if *is_whole*.

    Raises:
        ConfigurationError: if it is not.
    """
    is_kind = is_number(value) and (isinstance(value, int) or not is_whole)
    if is_kind and above < value <= at_most and value >= at_least:
        return
    bounds = [(" above", above), (" of at least", at_least), (" of at most", at_most)]
    wanted = " and".join(f"{words} {bound:g}" for words, bound in bounds if abs(bound) != _INFINITY)
    shown = repr(value) if isinstance(value, float) else f"{value:g}" if is_number(value) else type_name(value)
    raise ConfigurationError(field, f"must be a {'whole' if is_whole else 'finite'} number{wanted}, got {shown}")


def check_callable(field: str, value: Any, *, arguments: int, is_plain: bool = False) -> None:
    """Check that *value* can be called with the given number of positional arguments.

    Args:
        field: the argument's name.
        value: the argument.
        arguments: the number of positional arguments it is called with.
        is_plain: refuse coroutine functions, whose result would never be awaited.

    Raises:
        ConfigurationError: if it cannot, or is a class.
    """
    if not callable(value) or isinstance(value, type):
        raise type_error(field, value, "a plain function" if is_plain else "a function")
    if is_plain and is_coroutine_function(value):
        raise ConfigurationError(
            field, "must be a plain function, got a coroutine function", "start a task in a plain one instead"
        )
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return  # some builtins have no signature
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        noun = "argument" if arguments == 1 else "arguments"
        raise ConfigurationError(field, f"must be callable with {arguments or 'no'} positional {noun}") from None


def is_coroutine_function(value: Any) -> bool:
    """Return whether calling *value* returns a coroutine: async functions, partials and callable objects."""
    call = getattr(cast("object", value), "__call__", None)  # noqa: B004 - an object with an async __call__
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) for function in (value, call)
    )


def is_number(value: object) -> TypeGuard[float]:
    """Return whether *value* is an int or float that is finite as a float; a bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Compared, not converted: an int may be too large for a float, and comparisons with NaN are false.
    return -sys.float_info.max <= value <= sys.float_info.max


def is_plain_text(text: str) -> bool:
    """Return whether *text* is one line that UTF-8 can encode: no control characters, no lone surrogates."""
    return not any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F or 0xD800 <= ord(char) <= 0xDFFF for char in text)


def _describe_kind(kind: type | UnionType) -> str:
    kinds = cast("tuple[type, ...]", get_args(kind) or (kind,))
    names = [member.__name__ for member in kinds if member is not NoneType]
    return f"{'an' if names[0][0].lower() in 'aeio' else 'a'} {' or '.join(names)}"
