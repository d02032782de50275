"""A file of requests: `simplestore_async.batch.RequestFile`."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.batch import RequestFile
from simplestore_async.batch._lines import MOST_BYTES
from simplestore_async.errors import BatchFileError, ConfigurationError
from tests.support.batches import BASE_URL, make_line, write_lines, write_requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(path: Path) -> BatchFileError:
    with pytest.raises(BatchFileError) as caught:
        RequestFile.check(path, base_url=BASE_URL)
    return caught.value


def test_check(tmp_path: Path) -> None:
    """A file that is right is known by its digest and the number of its lines, and tells each request."""
    told: list[int] = []
    path = write_lines(tmp_path / "orders", [make_line(1), make_line(2, "POST"), make_line(3, id="3")])
    file = RequestFile.check(path, base_url=BASE_URL, on_line=told.append)

    assert (path, 3, hashlib.sha256(path.read_bytes()).hexdigest()) == (file.path, file.line_count, file.sha256)
    assert [1, 2, 3] == told
    assert [(1, 1), (2, 2), ("3", 3)] == [(request.id, request.line) for request in file]
    assert [2] == [request.line for request in file.select(lambda number: number == 2)]


def test_last_line_without_break(tmp_path: Path) -> None:
    """A file may end without a line break."""
    (tmp_path / "orders").write_text(json.dumps(make_line(1)))
    assert 1 == len([*RequestFile.check(tmp_path / "orders", base_url=BASE_URL)])


def test_problems(tmp_path: Path) -> None:
    """All lines are looked at: the first twenty problems are told by number, the others counted."""
    lines: list[dict[str, Any]] = [make_line(number) for number in range(1, 61)]
    lines[0] = {"oops": 1}
    lines[4]["id"] = 4  # that of line 4
    for number in range(30, 60):
        lines[number]["id"] = 3
    error = refused(write_lines(tmp_path / "orders", lines))

    assert (32, 20) == (error.count, len(error.problems))
    assert (1, '"oops" is no field of a request; these are: id, method, path, json, body, headers') == error.problems[0]
    assert (5, "id is that of line 4, too") == error.problems[1]
    assert (31, "id is that of line 3, too") == error.problems[2]
    assert "nothing was sent: 32 of 60 lines of " in str(error)
    assert "the first is line 1: " in str(error)


def test_many_problems(tmp_path: Path) -> None:
    """However many there are, twenty are told."""
    error = refused(write_lines(tmp_path / "orders", [{}] * 100))
    assert (100, list(range(1, 21))) == (error.count, [line for line, _ in error.problems])


def test_ids_of_two_kinds(tmp_path: Path) -> None:
    """The number 7 and the text "7" are two ids, however long they are."""
    ids = [7, "7", 10**30, f"{10**30}", 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, "a\0b", "a\0c", "é"]
    assert 11 == write_requests(tmp_path, [make_line(1, id=each) for each in ids]).line_count


@pytest.mark.parametrize("id_", [7, 2**63, -(10**30), "7", "a\0b", "é"])
def test_id_comes_again(tmp_path: Path, id_: int | str) -> None:
    """Whatever an id is, it is found when it comes again."""
    problems = refused(write_lines(tmp_path / "orders", [make_line(1, id=id_), make_line(1, id=id_)])).problems
    assert ((2, "id is that of line 1, too"),) == problems


def test_many_ids(tmp_path: Path) -> None:
    """An id that comes again thousands of lines later is found."""
    lines = [make_line(number) for number in range(2_500)]
    lines[-1]["id"] = 0
    assert ((2_500, "id is that of line 1, too"),) == refused(write_lines(tmp_path / "orders", lines)).problems


def test_long_line(tmp_path: Path) -> None:
    """A line that is too long is one problem, however long it is, and the next one keeps its number."""
    path = tmp_path / "orders"
    path.write_bytes(b'"' + b"x" * (2 * MOST_BYTES + 10) + b'"\n' + b"{}\n")
    assert [(1, "it is longer than 16 MiB"), (2, "id is missing")] == [*refused(path).problems]


def test_empty(tmp_path: Path) -> None:
    """An empty file is none of requests."""
    (tmp_path / "orders").touch()
    assert f"{tmp_path / 'orders'} is empty: it should hold one request a line" == str(refused(tmp_path / "orders"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_no_regular_file(tmp_path: Path, kind: str) -> None:
    """A directory or pipe is refused, without waiting for a writer."""
    path = tmp_path / "orders"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    assert "is no regular file" in str(refused(tmp_path / "orders"))


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is the system's error, with its name."""
    with pytest.raises(FileNotFoundError, match="gone"):
        RequestFile.check(tmp_path / "gone", base_url=BASE_URL)


def test_base_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's address comes from the environment, if it is not passed; plain http needs leave."""
    path = write_lines(tmp_path / "orders", [make_line(1)])
    with pytest.raises(ConfigurationError, match="SIMPLESTORE_BASE_URL is not set"):
        RequestFile.check(path)
    with pytest.raises(ConfigurationError, match="base_url is not set"):
        RequestFile.check(path, base_url="")
    monkeypatch.setenv("SIMPLESTORE_BASE_URL", "http://api.example/")
    with pytest.raises(ConfigurationError, match="SIMPLESTORE_BASE_URL uses plain http"):
        RequestFile.check(path)
    assert 1 == RequestFile.check(path, allow_insecure_http=True).line_count


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + text.replace("1", "9"),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("orders/1", "orders/9"),
        lambda text: "x" + text,
    ],
    ids=["longer", "shorter", "other", "broken"],
)
def test_changed(tmp_path: Path, change: Callable[[str], str]) -> None:
    """A file that is not the one that was checked is an error."""
    file = write_requests(tmp_path, [make_line(1), make_line(2)])
    file.path.write_text(change(file.path.read_text()))
    with pytest.raises(BatchFileError, match="was changed while its requests were sent"):
        list(file)
