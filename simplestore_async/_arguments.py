"""What callers pass. Rule: an argument of a wrong type is named, with the type that it has, and never shown."""

from __future__ import annotations

from .errors import ConfigurationError

__all__ = ["check_type"]


def check_type(field: str, value: object, kind: type) -> None:
    """Refuse what is neither None nor a *kind*.

    Raises:
        ConfigurationError: names the argument and its type.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{field} must be a {kind.__name__}, which {type(value).__name__} is not")
