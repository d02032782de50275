"""The packages httpx2 and httpx. Rule: each client gets objects of its own package; httpx2 is preferred."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

__all__ = ["find_package", "package_of", "require_package"]

_NAMES: Final = ("httpx2", "httpx")


def require_package() -> None:
    """Check that one of the packages is installed, without importing it.

    Raises:
        ImportError: if none is.
    """
    if not any(find_spec(name) for name in _NAMES):
        raise ImportError('simplestore_async.httpx needs httpx2 or httpx: pip install "simplestore-async[httpx]"')


def find_package() -> Any:
    """Return httpx2 if it is installed, else httpx."""
    return import_module(next(name for name in _NAMES if find_spec(name)))


def package_of(value: object) -> Any:
    """Return the package of *value* or its class, or None if it is from neither."""
    return _find_package_of(value if isinstance(value, type) else type(value))


@lru_cache  # each request is looked up several times
def _find_package_of(kind: type) -> Any:
    names = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((import_module(name) for name in names if name in _NAMES), None)
