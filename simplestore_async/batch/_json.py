"""JSON as a batch reads and writes it. Rule: what is read can be written again, and means the same to every program.

Python's own reads and writes numbers that no other program could (`NaN`, 1e999), and takes ten times as long: where the
API answers at once, that is a tenth of all that a batch takes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

try:
    import msgspec
except ImportError as _missing:
    raise ModuleNotFoundError(
        'simplestore_async.batch needs msgspec: pip install "simplestore-async[batch]"', name="msgspec"
    ) from _missing

__all__ = ["NoJSONError", "read_json", "write_json", "write_line"]

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode

_ROOM: Final = 100
"""How much deeper in the stack, or in another value, it must be possible to write what was read."""


class NoJSONError(Exception):
    """It does not say why: what does holds the text."""


def read_json(text: bytes) -> Any:
    """Return the value that UTF-8 holds.

    Raises:
        NoJSONError: if it is no JSON (RFC 8259), or a number, the nesting or a lone surrogate goes too far.
    """
    try:
        value = _decode(text)
        if text.count(b"[") + text.count(b"{") > _ROOM:
            _encode(_nest(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return value
    raise NoJSONError


def _nest(value: Any) -> Any:
    for _ in range(_ROOM):
        value = [value]
    return value


def write_json(value: Any) -> bytes:
    """Return what was read as UTF-8 again."""
    return _encode(value)


def write_line(fields: Mapping[str, Any]) -> bytes:
    """Return a line of ASCII only, so that no terminal is moved by it."""
    with suppress(UnicodeEncodeError):  # lone surrogates, which what the system says may hold
        line = _encode(fields)
        if line.isascii():
            return line + b"\n"
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
