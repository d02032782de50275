"""JSON as a batch reads and writes it: `simplestore_async.batch._json`."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplestore_async.batch import BatchResult
from simplestore_async.batch._json import NoJSONError, read_json, write_json
from simplestore_async.batch._results import read_body, result_line

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
)


@given(VALUES)
def test_values(value: Any) -> None:
    """What Python's own JSON writes is read as the same, and so the other way round; long numbers, too."""
    assert value == read_json(json.dumps(value).encode())
    assert value == json.loads(write_json(value))


@given(st.binary() | st.text(alphabet='[]{}",:0123456789.eE-+ \\ud8nultr').map(str.encode))
def test_what_is_no_json(text: bytes) -> None:
    """What is read Python can read, too, to the same end; all else is no JSON, and the error holds nothing of it."""
    try:
        value = read_json(text)
    except NoJSONError as error:
        found = error
    else:
        assert value == json.loads(text)
        return
    assert ((), None, None) == (found.args, found.__cause__, found.__context__)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", r'"\ud800"', "[" * 100_000, "1" * 5_000, "1 2", ""])
def test_what_not_every_program_can_read(text: str) -> None:
    """Nor is what Python would read, or write, all alone."""
    with pytest.raises(NoJSONError):
        read_json(text.encode())
    assert (text, "text") == read_body(text.encode(), content_type="application/json")


def test_nesting() -> None:
    """However deep a value is nested, if it can be read its line can be written."""
    depth = 1
    while True:
        try:
            value = read_json(b"[" * depth + b"]" * depth)
        except NoJSONError:
            break
        result_line(BatchResult(id=1, line=1, outcome="succeeded", body=value))
        depth = depth + 1 if depth < 1_200 else depth * 2
    assert depth > 200


def test_line() -> None:
    """A result's fields stand in the order of its class, without anything that could move a cursor."""
    said = "é\x1b\x85\u202e"
    line = result_line(BatchResult(id=said, line=1, outcome="failed", error_message=said, duration_seconds=0.25))
    assert line.isascii()
    assert line.startswith(b'{"id":"')
    assert line.endswith(b'"attempts":0,"duration_seconds":0.25}\n')
    assert (said, said) == (json.loads(line)["id"], json.loads(line)["error_message"])


def test_half_a_character() -> None:
    """What the system says may hold bytes that are no text, which Python shows as lone surrogates."""
    line = result_line(BatchResult(id=1, line=1, outcome="failed", error_message="\udcff"))
    assert "\udcff" == json.loads(line)["error_message"]


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the import says what to install."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.delitem(sys.modules, "simplestore_async.batch._json")
    with pytest.raises(ImportError) as caught:
        importlib.import_module("simplestore_async.batch._json")
    assert 'simplestore_async.batch needs msgspec: pip install "simplestore-async[batch]"' == str(caught.value)
