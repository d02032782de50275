"""What stands in a journal. Rule: pure; a record is a line that is whole or no record at all.

The first line tells which file the journal is about. Each further one says what became of some of its lines: `begun`
before their requests were sent, an outcome after they were, `kept` if they were not sent after all. A line begins with
a checksum of the rest, so that what a power cut left of it is told from what was written.
"""

from __future__ import annotations

import enum
import json
import zlib
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from ._values import OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["FORMAT", "Header", "State", "in_order", "pack_header", "pack_marks", "read_header", "read_marks", "unpack"]

FORMAT: Final = 1

_CHECKSUM_LENGTH: Final = 8


class State(enum.IntEnum):
    """How a line stands; a byte for each is all that is in memory."""

    WAITING = 0
    BEGUN = 1
    SUCCEEDED = 2
    REFUSED = 3
    FAILED = 4
    UNKNOWN = 5

    @classmethod
    def of(cls, outcome: Outcome) -> State:
        """Return the state of a line that has a result."""
        return _STATES[outcome]


# By the word that stands in a record.
_STATES: Final[Mapping[str, State]] = {
    "kept": State.WAITING,
    "begun": State.BEGUN,
    **dict(zip(OUTCOMES, list(State)[State.SUCCEEDED :], strict=True)),
}
_WORDS: Final = {state: word for word, state in _STATES.items()}


@attrs.frozen
class Header:
    """Which file a journal is about."""

    sha256: str
    line_count: int


def _pack(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def unpack(line: bytes) -> dict[str, Any] | None:
    """Return what a line says, or None if it is not as it was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    return cast("dict[str, Any]", json.loads(text))


def pack_header(header: Header) -> bytes:
    """Return the first line."""
    return _pack({"simplestore_batch": FORMAT, "sha256": header.sha256, "lines": header.line_count})


def read_header(record: Mapping[str, Any] | None) -> Header | None:
    """Return what the first line says, or None if it is not that of a journal that this release can read."""
    if record is None or record.get("simplestore_batch") != FORMAT:
        return None
    return Header(record["sha256"], record["lines"])


def in_order(states: Iterable[State]) -> list[State]:
    """Return states in the order in which a line may come to them: begun first, not sent after all last."""
    return sorted(states, key=lambda state: (state is State.WAITING, state))


def pack_marks(marks: Mapping[State, Sequence[int]], *, size: int | None) -> bytes:
    """Return a record of how some lines stand now, and how long the file of results is, if there is one."""
    named = {_WORDS[state]: marks[state] for state in in_order(marks)}
    return _pack(named if size is None else {**named, "size": size})


def read_marks(record: Mapping[str, Any]) -> dict[State, Sequence[int]]:
    """Return how the lines of a record stand."""
    return {_STATES[word]: numbers for word, numbers in record.items() if word in _STATES}
