"""Secrets from outside. Rule: a secret is redacted from the moment it is read, and errors about it do not show it.

Nor do they show a path in a setting unless the file or its directory exists: the path may be a misplaced secret.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from simplestore_async.errors import ConfigurationError

from .redaction import MASK, RedactedBytes, RedactedStr, SupportsSecretValue, conceal, reveal
from .text import find_odd_character, trim
from .validation import is_coroutine_function, type_error

if TYPE_CHECKING:
    from .worker import Worker

__all__ = [
    "Secret",
    "SecretFile",
    "SupportsSecretValue",
    "ask_secret",
    "check_secret_text",
    "read_secret_file",
    "read_secret_text",
    "reveal",
    "show_path",
]


Secret: TypeAlias = str | Callable[[], str | SupportsSecretValue | Awaitable[str | SupportsSecretValue]]

_MAX_BYTES: Final = 1 << 16
# O_NONBLOCK: do not wait for the writer of a pipe. O_NOCTTY: do not acquire a terminal.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_COPY: Final = "copy it from the Control Panel"


def check_secret_text(field: str, value: Any, *, keep_spaces: bool = True, where: str = "") -> str:
    """Return *value*, redacted, without invisible characters around it.

    Raises:
        ConfigurationError: if it is not a string, is empty or blank, or has a character that cannot be seen.
    """
    if not isinstance(value, str):
        hint = "pass the function, not its coroutine" if inspect.isawaitable(value) else ""
        raise type_error(field, value, "a string", hint)
    text = RedactedStr(trim(value, keep_spaces=keep_spaces))
    if not text.strip():
        raise ConfigurationError(field, f"is empty{where}", _COPY)
    if odd := find_odd_character(text):
        raise ConfigurationError(field, f"must be one line of visible text, got {odd}{where}", f"{_COPY} again")
    return text


def read_secret_text(path: Path) -> tuple[str, str]:
    """Return the text of a regular file of at most 64 KiB, redacted, or the problem, which is not raised.

    The text may be UTF-8, with or without a byte order mark, or UTF-16 with one.
    """
    data, problem = _read_bytes(path)
    if problem:
        return "", problem
    try:
        return RedactedStr(data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")), ""
    except UnicodeDecodeError:
        return "", "it is not UTF-8 text"


def _read_bytes(path: Path) -> tuple[RedactedBytes, str]:
    nothing = RedactedBytes()
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        # Windows opens no directory. Not by Path.is_dir(), which raises if the name is too long.
        is_directory = os.path.isdir(path)  # noqa: PTH112
        return nothing, "it is a directory" if is_directory else error.strerror or type(error).__name__
    except ValueError:
        return nothing, "it contains a null character"
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return nothing, "it is a directory" if stat.S_ISDIR(mode) else "it is not a regular file"
        parts: list[RedactedBytes] = []
        # One read may return only a part, and the size of a file in /proc is 0.
        while (size := sum(map(len, parts))) <= _MAX_BYTES and (part := os.read(descriptor, _MAX_BYTES + 1 - size)):
            parts.append(RedactedBytes(part))
            del part
    except OSError as error:
        return nothing, error.strerror or type(error).__name__
    finally:
        os.close(descriptor)
    if size > _MAX_BYTES:
        return nothing, f"it is longer than {_MAX_BYTES >> 10} KiB"
    return RedactedBytes(b"".join(parts)), ""


def show_path(path: str | os.PathLike[str]) -> str:
    """Return *path* for a message, or `***`: a path that does not exist may be a secret in the wrong setting."""
    text, parts = os.fspath(path), Path(path).parts
    # An absolute path is shown if its first directory exists: a missing mount is a common mistake.
    is_below_top = len(parts) > 2 and Path(path).is_absolute()
    known = Path(*parts[:2]) if is_below_top else path
    return text if text.isprintable() and os.path.lexists(known) else MASK


def _as_path(value: Any) -> Path:
    value = conceal(value)
    path = None
    with suppress(TypeError):
        path = cast("str | bytes", os.fspath(value))
    if not isinstance(path, str):
        raise type_error("path", value, "a str or os.PathLike")
    if not path:
        raise ConfigurationError("path", "is empty", "name the file")
    plain = Path(path)
    if plain.parts[:1] != ("~",):
        return plain  # not `~user`: Windows expands any name, which would show a secret in the wrong setting
    try:
        return plain.expanduser()
    except RuntimeError:
        return plain  # no home directory; reading it reports that there is no such file


@attrs.frozen(repr=False)
class SecretFile:
    """A client secret in a file that may be replaced while the program runs, such as a Kubernetes mount.

    Pass it as `client_secret`. The file is read for every renewal. Invisible characters around the text are stripped:
    a line break at its end, a byte order mark, zero-width and no-break spaces. Only a regular file of at most 64 KiB is
    read.

    Args:
        path: the file's path; `~` is the home directory.

    Raises:
        ConfigurationError: if *path* is not a path. When called, if the file cannot be read, is empty, or is not one
            line of visible text.
    """

    path: Path = attrs.field(converter=_as_path)

    def __repr__(self) -> str:
        # A traceback with locals may show a partially initialised instance.
        shown = show_path(self.path) if hasattr(self, "path") else ""
        return f"{type(self).__name__}({shown if shown in {'', MASK} else repr(shown)})"

    def __call__(self) -> str:
        """Return the current content of the file."""
        return read_secret_file("client_secret", self)


def read_secret_file(
    field: str, file: SecretFile, *, keep_spaces: bool = True, check: Callable[[str], str] | None = None
) -> str:
    """Return the text of the file in *field*, as *check* returns it.

    Raises:
        ConfigurationError: if the file cannot be read; without *check* if it is empty or has more than one line.
    """
    # The path is not a local of a frame that a traceback shows.
    text, problem = read_secret_text(file.path)
    shown = show_path(file.path)
    if problem and shown == MASK:
        raise ConfigurationError(field, f"cannot be read: {problem}", "it must be the path of a file, not a secret")
    if problem:
        raise ConfigurationError(field, f"cannot be read from {shown}: {problem}", "check the path and its permissions")
    if check is not None:
        return check(text)
    return check_secret_text(field, text, keep_spaces=keep_spaces, where=f" in {shown}")


async def ask_secret(
    secret: Callable[[], Any],
    worker: Worker,
    *,
    check: Callable[[Any], str] = lambda value: check_secret_text("client_secret", value),
) -> tuple[str, str]:
    """Return the secret of a callable, redacted, or the problem; an async callable runs here, a plain one in *worker*.

    An exception of the callable is named by its type, because its text may contain the secret.
    """
    value: Any
    problem = ""
    try:
        if is_coroutine_function(secret):
            value = await secret()
        else:
            # Dropped if its renewal has ended: otherwise calls would queue up behind one that blocks.
            value, problem = await worker.run(lambda: _call(secret), droppable=True)
            # A plain callable may return a coroutine: `lambda: vault.read()`.
            value = await value if inspect.isawaitable(value) else value
        if not problem:
            value, problem = reveal(value)
        return ("", problem) if problem else (check(value), "")
    except asyncio.CancelledError:
        # Unless this task is being cancelled, it is the callable's own failure.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return "", "the callable raised CancelledError"
    except ConfigurationError as error:
        return "", str(error)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a callable may raise anything, and its values must not be shown
        return "", f"the callable raised {type(error).__name__}"


def _call(secret: Callable[[], object]) -> tuple[Any, str]:
    try:
        return conceal(secret()), ""
    except ConfigurationError as error:
        return None, str(error)
    except BaseException as error:  # noqa: BLE001 - it must not end the thread
        return None, f"the callable raised {type(error).__name__}"
