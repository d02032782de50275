"""Files of a batch, and what stands in the file of its results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from simplestore_async.batch import RequestFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BASE_URL = "http://127.0.0.1:1/api/"


def make_line(number: int, method: str = "GET", **changes: Any) -> dict[str, Any]:
    body = {} if method in {"GET", "HEAD", "OPTIONS", "DELETE"} else {"json": {"number": number}}
    return {"id": number, "method": method, "path": f"orders/{number}"} | body | changes


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def write_requests(
    folder: Path, lines: Iterable[dict[str, Any]], *, base_url: str = BASE_URL, name: str = "orders.jsonl"
) -> RequestFile:
    """Write a file, and check it."""
    return RequestFile.check(write_lines(folder / name, lines), base_url=base_url)


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the results in a file, each of which must be whole."""
    text = path.read_text("utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]
