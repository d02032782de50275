"""Formats, checks and changes of the input: `simplestore_async.batch.RequestFile`."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.batch import RequestFile
from simplestore_async.batch._lines import MOST_BYTES
from simplestore_async.errors import BatchFileError, ConfigurationError
from tests.support.batches import BASE_URL, make_line, write_lines, write_requests
from tests.support.platforms import needs_posix_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(path: Path) -> BatchFileError:
    with pytest.raises(BatchFileError) as caught:
        RequestFile(path, base_url=BASE_URL).check()
    return caught.value


def test_check(tmp_path: Path) -> None:
    """Blank lines are counted and skipped; a byte order mark and a missing last line break are accepted."""
    path = write_lines(tmp_path / "orders", [make_line(1), make_line(2, "POST")])
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes() + b" \r\n" + json.dumps(make_line(3, id="3")).encode())
    file = RequestFile(path, base_url=BASE_URL)
    file.check()

    assert (3, 5, hashlib.sha256(path.read_bytes()).hexdigest()) == (file.count, file.line_count, file.sha256)
    assert [(1, 2), (2, 3), ("3", 5)] == [(request.id, request.line) for request in file]
    assert [3] == [request.line for chunk in file.chunks(lambda number: number == 3) for request in chunk]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_empty(tmp_path: Path, content: bytes) -> None:
    """An empty file has no requests."""
    (tmp_path / "orders").write_bytes(content)
    file = RequestFile(tmp_path / "orders", base_url=BASE_URL)
    file.check()
    assert (0, []) == (file.count, [*file])


@pytest.mark.parametrize("base_url", ["https://store.example/v1", "https://store.example/v1/"])
def test_base_path(tmp_path: Path, base_url: str) -> None:
    """A base URL means the same with and without its last slash; with a query it is refused."""
    path = write_lines(tmp_path / "orders", [make_line(1, path="orders?state=open")])
    file = RequestFile(path, base_url=base_url)
    file.check()
    assert "https://store.example/v1/" == str(file.base_url)
    with pytest.raises(ConfigurationError, match="query"):
        RequestFile(path, base_url=f"{base_url}?page=1")


def test_gzip(tmp_path: Path) -> None:
    """Gzip is detected by content; the digest is that of the decompressed file; a truncated file is refused."""
    plain = write_requests(tmp_path, [make_line(n) for n in range(1_000)])
    compressed = gzip.compress(plain.path.read_bytes())
    (tmp_path / "packed").write_bytes(compressed)
    file = RequestFile(tmp_path / "packed", base_url=BASE_URL)
    assert plain.sha256 == file.sha256
    assert [*plain] == [*file]
    (tmp_path / "packed").write_bytes(compressed[:-9])
    assert "damaged or cut short" in str(refused(tmp_path / "packed"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,method\n1,GET\n", "CSV"),
        (b"id\tmethod\n", "CSV"),
        (b' [{"id": 1}]', "JSON array"),
        (b'{\n  "id": 1\n}', "several lines"),
        ('{"id": 1}\n'.encode("utf-16"), "UTF-16"),
        ('{"id": 1}\n'.encode("utf-16-le"), "UTF-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_format(tmp_path: Path, content: bytes, says: str) -> None:
    """The error for CSV, JSON arrays, pretty-printed JSON and UTF-16 names the format."""
    (tmp_path / "orders").write_bytes(content)
    assert says in refused(tmp_path / "orders").problem


def test_problems(tmp_path: Path) -> None:
    """All lines are checked: the first twenty problems are listed by line, the rest counted."""
    lines: list[dict[str, Any]] = [make_line(number) for number in range(1, 61)]
    lines[0] = {"oops": 1}
    lines[4]["id"] = 4  # that of line 4
    for number in range(30, 60):
        lines[number]["id"] = 3
    error = refused(write_lines(tmp_path / "orders", lines))

    assert (32, 20) == (error.count, len(error.problems))
    assert (1, "'oops' is not a field") == error.problems[0]
    assert (5, "id is already used in line 4") == error.problems[1]
    assert (31, "id is already used in line 3") == error.problems[2]
    assert "32 of 60 lines of " in str(error)
    assert "; line 1: " in str(error)


def test_ids_of_both_types(tmp_path: Path) -> None:
    """The number 7 and the text "7" are different ids, at any length."""
    ids = [7, "7", 10**30, f"{10**30}", 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, "a\0b", "a\0c", "é"]
    file = write_requests(tmp_path, [make_line(1, id=each) for each in ids])
    file.check()
    assert 11 == file.count


@pytest.mark.parametrize("id_", [7, 2**63, -(10**30), "7", "a\0b", "é"])
def test_duplicate_id(tmp_path: Path, id_: int | str) -> None:
    """Duplicate ids of any type and length are found."""
    problems = refused(write_lines(tmp_path / "orders", [make_line(1, id=id_), make_line(1, id=id_)])).problems
    assert ((2, "id is already used in line 1"),) == problems


def test_long_line(tmp_path: Path) -> None:
    """A line beyond 16 MiB is one problem, and does not shift the numbers of later lines."""
    path = tmp_path / "orders"
    path.write_bytes(b'"' + b"x" * (2 * MOST_BYTES + 10) + b'"\n' + b"{}\n")
    assert ["is longer than 16 MiB", "id is missing"] == [
        problem.partition(";")[0] for _, problem in refused(path).problems
    ]


@needs_posix_files
def test_pipe(tmp_path: Path) -> None:
    """A pipe is copied, and can be iterated repeatedly."""
    os.mkfifo(tmp_path / "pipe")
    text = write_requests(tmp_path, [make_line(1), make_line(2)]).path.read_bytes()
    writing = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(text,))
    writing.start()
    file = RequestFile(tmp_path / "pipe", base_url=BASE_URL)
    writing.join()
    file.check()
    assert [1, 2] == [request.id for request in file] == [request.id for request in file]


def test_body_file(tmp_path: Path) -> None:
    """`body_file` is relative to the directory of the file, must exist, and excludes other bodies."""
    (tmp_path / "image").write_bytes(b"x")
    (request,) = write_requests(tmp_path, [make_line(1, body_file="image")])
    assert tmp_path / "image" == request.body
    for changes in {"body_file": "gone"}, {"body_file": "."}, {"body_file": "image", "body": "x"}:
        assert "body" in refused(write_lines(tmp_path / "orders.jsonl", [make_line(1, **changes)])).problems[0][1]


def test_missing_file(tmp_path: Path) -> None:
    """A missing file raises FileNotFoundError with its name."""
    with pytest.raises(FileNotFoundError, match="gone"):
        RequestFile(tmp_path / "gone", base_url=BASE_URL)


def test_base_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base URL defaults to the environment; plain http needs `allow_insecure_http`."""
    path = write_lines(tmp_path / "orders", [make_line(1)])
    with pytest.raises(ConfigurationError, match="SIMPLESTORE_BASE_URL is not set"):
        RequestFile(path)
    with pytest.raises(ConfigurationError, match="base_url must be"):
        RequestFile(path, base_url="")
    monkeypatch.setenv("SIMPLESTORE_BASE_URL", "http://api.example/")
    with pytest.raises(ConfigurationError, match="SIMPLESTORE_BASE_URL uses plain http"):
        RequestFile(path)
    assert "http://api.example/" == str(RequestFile(path, allow_insecure_http=True).base_url)


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
    """Any change of the file after it was opened is an error."""
    file = write_requests(tmp_path, [make_line(1), make_line(2)])
    file.path.write_text(change(file.path.read_text()))
    with pytest.raises(BatchFileError, match="was changed while its requests were sent"):
        list(file)
