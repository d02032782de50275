"""A line of a batch's file. Rule: pure; a problem names fields and never shows their values, which may be secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec

from simplestore_async._core.target import check_target, find_target
from simplestore_async.errors import ConfigurationError

from ._values import BatchRequest

if TYPE_CHECKING:
    from pathlib import Path

    from yarl import URL

__all__ = ["MOST_BYTES", "check_path", "describe_file", "find_url", "parse_line"]

MOST_BYTES: Final = 16 << 20
"""Maximum length of a line."""

_KINDS: Final = {
    "array": "a list",
    "float": "a number",
    "int": "a whole number",
    "object": "an object",
    "str": "text",
}
_JSON_TYPE: Final = ("Content-Type", "application/json")
_PLAIN_PATH: Final = re.compile(r"/?[\w-]+(?:/[\w-]+)*", re.ASCII)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    id: int | str
    method: str
    path: str
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body: str | msgspec.UnsetType = msgspec.UNSET
    body_file: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str | list[str]] | msgspec.UnsetType = msgspec.UNSET
    key: str | int | None = None


_decode: Final = msgspec.json.Decoder(_Line).decode


def parse_line(
    text: bytes, *, number: int, base_url: URL, directory: Path, finds_files: bool = True
) -> BatchRequest | str:
    """Return the request of a line, or what is wrong with it.

    Args:
        text: with its line break or without.
        number: its number in the file.
        base_url: the API's address; a path must stay below it.
        directory: what names of body files are relative to.
        finds_files: whether these must be there already.
    """
    if len(text) > MOST_BYTES:
        return f"is longer than {MOST_BYTES >> 20} MiB; put the body into a file of its own, named by body_file"
    try:
        text.decode()
        line = _decode(text)
        check_path(line.path, base_url=base_url)
        return BatchRequest(
            id=line.id,
            method=line.method.upper(),
            path=line.path,
            headers=_headers_of(line),
            body=_body_of(line, directory, finds_files=finds_files),
            key=line.key,
            line=number,
        )
    except UnicodeDecodeError:
        return "is not UTF-8"
    except RecursionError:
        return "is nested too deeply"
    except ConfigurationError as error:
        return str(error)
    except msgspec.MsgspecError as error:
        return _describe(error)


def _describe(error: msgspec.MsgspecError) -> str:
    """Return msgspec's problem with a line, in terms of its fields."""
    problem = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return f"is not valid JSON: {problem}"
    if found := re.fullmatch(r"Object missing required field `(.+)`", problem):
        return f"{found[1]} is missing"
    if found := re.fullmatch(r"Object contains unknown field `(.+)`", problem):
        return f"{found[1]!r} is not a field"
    if found := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.(\w+).*`)?", problem):
        expected, given = (" or ".join(_KINDS.get(kind, kind) for kind in found[side].split(" | ")) for side in (1, 2))
        return f"{found[3] or 'it'} must be {expected}, got {given}"
    return problem


def _headers_of(line: _Line) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if line.headers:
        for name, given in line.headers.items():
            headers += [(name, value.strip()) for value in ([given] if isinstance(given, str) else given)]
    if line.json is not msgspec.UNSET and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(_JSON_TYPE)
    return tuple(headers)


def _body_of(line: _Line, directory: Path, *, finds_files: bool) -> bytes | Path | None:
    if [line.json, line.body, line.body_file].count(msgspec.UNSET) < 2:
        raise ConfigurationError("body", "must be given once: as json, body or body_file")
    if isinstance(line.json, msgspec.Raw):
        return bytes(line.json)
    if isinstance(line.body, str):
        return line.body.encode()
    if isinstance(line.body_file, str):
        path = directory / line.body_file
        if not finds_files:
            return path
        try:
            if path.is_file():
                with path.open("rb"):
                    return path
        except (OSError, ValueError):
            pass
        raise ConfigurationError("body_file", "must name a file that can be read")
    return None


def find_url(path: str, *, base_url: URL) -> URL:
    """Return the URL of a path that was checked."""
    if _PLAIN_PATH.fullmatch(path):
        # The same, in a quarter of the time.
        return base_url.with_path(base_url.raw_path + path.lstrip("/"), encoded=True)
    return base_url.join(find_target(path))


def check_path(path: str, *, base_url: URL) -> None:
    """Check that a path leads to the base URL or below it, however a server decodes it.

    Raises:
        ConfigurationError: if it does not.
    """
    if _PLAIN_PATH.fullmatch(path):
        return
    check_target("path", path, base_url=base_url)
    try:
        url = find_url(path, base_url=base_url)
    except ValueError:
        raise ConfigurationError("path", "is not a URL path") from None
    if "#" in path:
        raise ConfigurationError("path", "must not have a fragment (#), which is never sent", "write %23")
    plain, before = re.split(r"[?]", path, maxsplit=1)[0], ""
    while plain != before:
        plain, before = unquote(plain), plain
    if ".." in re.split(r"[/\\]", plain) or not url.raw_path.startswith(base_url.raw_path):
        raise ConfigurationError("path", f"must lead to {base_url} or below it", "leave out ..")


def describe_file(start: bytes) -> str:
    """Return why a file that begins so holds no lines of JSON objects, by the name of its format; "" if it may."""
    first = start.lstrip()
    line = first.partition(b"\n")[0].rstrip()
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:64]:
        return "is UTF-16 or UTF-32; convert it to UTF-8, for example with iconv -t UTF-8"
    if first.startswith(b"["):
        return "is a JSON array; write one object per line, for example with jq -c '.[]'"
    if line == b"{":
        return "holds JSON objects over several lines; write one object per line, for example with jq -c ."
    if line and not line.startswith(b"{") and re.search(rb"[,;\t]", line):
        return "looks like CSV; write one JSON object per line"
    return ""
