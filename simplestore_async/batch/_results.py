"""Results on their way out. Rule: a result is written whole or not at all, and never twice."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from operator import attrgetter
from typing import IO, Any, Final, Literal, cast

import attrs

from simplestore_async.errors import JournalError

from ._durable import DurableFile
from ._json import NoJSONError, read_json, write_line
from ._values import OUTCOMES, BatchResult, Outcome

__all__ = ["ResultsFile", "ResultsStream", "read_body", "result_line"]

_FIELDS: Final = tuple(field.name for field in attrs.fields(BatchResult))
_values_of: Final = attrgetter(*_FIELDS)


def result_line(result: BatchResult) -> bytes:
    """Return a result as a line of JSON."""
    return write_line(dict(zip(_FIELDS, _values_of(result), strict=True)))


def read_body(body: bytes, *, content_type: str) -> tuple[Any, Literal["json", "text", "base64"]]:
    """Return what a body holds that is not empty, and how it is to be read."""
    if content_type == "application/json" or content_type.endswith("+json"):
        with suppress(NoJSONError):  # it is what it is
            return read_json(body), "json"
    try:
        return body.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


class ResultsStream:
    """Results that go to a pipe or a terminal: what is written is out of reach."""

    synced_size: Final = None

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream

    def append(self, lines: bytes) -> None:
        """Write whole lines, if there is a stream."""
        if self._stream and lines:
            self._stream.write(lines)
            self._stream.flush()

    def sync(self) -> None:
        """Do nothing: what is written is gone."""

    def close(self) -> None:
        """Leave the stream to whoever opened it."""


class ResultsFile(DurableFile):
    """Results in a file."""

    def mend(self, size: int | None) -> list[tuple[int, Outcome]]:
        """Take off what a power cut left, and return the line and outcome of each result that the journal lacks.

        Args:
            size: how much of the file the journal tells of; None if it knows of no file.

        Raises:
            JournalError: if something else stands in the file.
        """
        if size is None and self.size:
            raise JournalError(f"{self.path} holds something already: name another file for the results, or remove it")
        size = size or 0
        # What was written ended with a line break.
        if self.size < size or (size and next(self.lines(size - 1)) != b"\n"):
            raise self._changed()
        found: list[tuple[int, Outcome]] = []
        whole: list[bytes] = []
        for line in self.lines(size):
            if result := _read_result(line):
                found.append(result)
                whole.append(line)
            elif line.endswith(b"\n") and b"\0" not in line:  # with which file systems fill what they have lost
                raise self._changed()
        self.cut(size)
        self.append(b"".join(whole))
        return found

    def _changed(self) -> JournalError:
        return JournalError(
            f"{self.path} is not as the batch left it: name the file that its results went to, and take back what was "
            "changed in it"
        )


def _read_result(line: bytes) -> tuple[int, Outcome] | None:
    """Return what a line tells, or None if it is no whole result."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
        number, outcome = fields["line"], fields["outcome"]
    except (ValueError, TypeError, KeyError):
        return None
    is_result = type(number) is int and outcome in OUTCOMES
    return (number, cast("Outcome", outcome)) if is_result else None
