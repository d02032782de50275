"""Dynamic secrets: `SecretFile` and callables."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from simplestore_async import ClientCredentials, SecretFile
from simplestore_async._core.secret import show_path
from simplestore_async.errors import ConfigurationError, TokenError
from tests.support.platforms import needs_posix_files
from tests.support.tracebacks import everything_shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

SECRET = "canary-secret"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_secret(secret: Any) -> ClientCredentials:
    return ClientCredentials(client_id="app", client_secret=secret)


class TestSecretFile:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"secret", "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n\n", "secret"),
            (b"\xef\xbb\xbfsecret\r\n", "secret"),
            ("secret\r\n".encode("utf-16"), "secret"),
            ("\ufeffsecret".encode("utf-16-be"), "secret"),
            ("\u200bsecret\xa0\u2028".encode(), "secret"),
            (b" secret \n", " secret "),
            ("s\u00e9cret\n".encode(), "s\u00e9cret"),
            (b'+&=%: "', '+&=%: "'),
            (b"x" * (1 << 16), "x" * (1 << 16)),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, expected: str) -> None:
        """Byte order marks, line breaks and other invisible characters around the secret are stripped."""
        assert expected == SecretFile(write(tmp_path / "secret", content))()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b" \r\n\n", "is empty in {}"),
            (b"canary\nsecond", "must be one line of visible text, got a line break (U+000A) in {}"),
            (b"canary\xff", "cannot be read from {}: it is not UTF-8 text"),
            (b"\xff\xfecanary!", "cannot be read from {}: it is not UTF-8 text"),
            (b"canary!!" * (1 << 13) + b"!", "cannot be read from {}: it is longer than 64 KiB"),
        ],
        ids=["empty", "two lines", "latin-1", "half utf-16", "long"],
    )
    def test_wrong_content(self, tmp_path: Path, content: bytes, problem: str) -> None:
        """Content that cannot be a secret raises an error with the file's name; no traceback shows the content."""
        path = write(tmp_path / "secret", content)

        with pytest.raises(ConfigurationError) as caught:
            SecretFile(path)()

        assert ("client_secret", problem.format(path)) == (caught.value.field, caught.value.problem)
        assert "canary" not in everything_shown(caught.value)

    @pytest.mark.parametrize(
        ("kind", "problem"),
        [
            ("directory", "it is a directory"),
            pytest.param("fifo", "it is not a regular file", marks=needs_posix_files),
            pytest.param("zero", "it is not a regular file", marks=needs_posix_files),
            pytest.param("socket", "No such device or address", marks=needs_posix_files),
            pytest.param("loop", "Too many levels of symbolic links", marks=needs_posix_files),
            ("missing", "No such file or directory"),
        ],
    )
    def test_no_regular_file(self, tmp_path: Path, kind: str, problem: str) -> None:
        """Only regular files are read: a pipe without a writer would block, and a device may never end."""
        path = tmp_path / "secret"
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as unix_socket:
                unix_socket.bind(os.path.relpath(path))
        elif kind in {"zero", "loop"}:
            path.symlink_to("/dev/zero" if kind == "zero" else path)

        with pytest.raises(ConfigurationError) as caught:
            SecretFile(path)()

        assert f"cannot be read from {path}: {problem}" == caught.value.problem

    def test_show_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path is shown if it exists or, if it is absolute, its first directory; all others may be secrets."""
        monkeypatch.chdir(tmp_path)
        Path("a", "b").mkdir(parents=True)
        top = Path(*tmp_path.parts[:2])
        shown = [Path("a"), Path("a", "b"), top, top / "missing", top / "missing" / "x"]
        hidden = [Path("missing"), Path("a", "b", "missing"), Path(tmp_path.anchor, "missing"), Path("a\0")]

        assert [*map(str, shown)] == [show_path(path) for path in shown]
        assert ["***"] * 4 == [show_path(path) for path in hidden]

    @pytest.mark.parametrize("make_path", [str, Path])
    def test_path(self, tmp_path: Path, make_path: Callable[[str], str | Path]) -> None:
        """The path may be a string or a path object, and the repr shows it."""
        secret_file = SecretFile(make_path(str(tmp_path / "secret")))

        assert tmp_path / "secret" == secret_file.path
        assert f"SecretFile({str(tmp_path / 'secret')!r})" == repr(secret_file)
        assert "SecretFile()" == repr(SecretFile.__new__(SecretFile))  # as a traceback of the constructor shows it

    @pytest.mark.parametrize("path", [None, 5, b"canary", [], "", Path, SecretStr("canary")])
    def test_wrong_path(self, path: Any) -> None:
        """Anything else is refused as a path."""
        with pytest.raises(ConfigurationError) as caught:
            SecretFile(path)

        assert "path" == caught.value.field
        assert "canary" not in str(caught.value)

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`~` expands to the home directory."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))

        assert tmp_path / "secret" == SecretFile("~/secret").path


class AsyncVault:
    async def __call__(self) -> str:
        return SECRET


class LaterSecret:
    """An awaitable that is not a coroutine."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return SECRET


async def read_vault(secret: str = SECRET) -> str:
    await asyncio.sleep(0)
    return secret


def fail_with(error: BaseException) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


async def fail_later_with(error: BaseException) -> str:
    raise error


class TestReadSecret:
    @pytest.mark.parametrize(
        "secret",
        [
            *(SECRET, lambda: SECRET, lambda: f"{SECRET}\n", lambda: SecretStr(SECRET)),
            *(read_vault, functools.partial(read_vault, SECRET), lambda: read_vault(SECRET)),
            *(functools.partial(LaterSecret), AsyncVault(), AsyncVault().__call__),
        ],
        ids=["literal", "plain", "line", "pydantic", "async", "partial", "lambda", "awaitable", "object", "method"],
    )
    async def test_every_kind(self, secret: str | Callable[[], str | Awaitable[str]]) -> None:
        """The secret may be a string or any kind of callable, and the result is redacted."""
        read = await with_secret(secret).read_secret()

        assert read == SECRET
        assert "'***'" == repr(read)

    async def test_read_once_each_time(self, tmp_path: Path) -> None:
        """Each read calls the callable once, or reads the file again."""
        secrets = iter(["first", "second"])
        path = tmp_path / "secret"
        for credentials in (with_secret(lambda: next(secrets)), with_secret(SecretFile(path))):
            write(path, b"first\n")
            first = await credentials.read_secret()
            write(path, b"second\n")

            assert ("first", "second") == (first, await credentials.read_secret())

    @pytest.mark.parametrize("secret", [AsyncVault(), AsyncVault().__call__], ids=["object", "method"])
    async def test_async_callable_needs_no_thread(self, secret: Callable[[], Awaitable[str]]) -> None:
        """An async callable runs on the caller's event loop, without a thread."""
        reading = asyncio.create_task(with_secret(secret).read_secret())
        await asyncio.sleep(0)
        is_done = reading.done()

        assert (True, SECRET) == (is_done, await reading)

    @pytest.mark.parametrize(
        ("secret", "problem"),
        [
            (fail_with(LookupError(SECRET)), "the callable raised LookupError"),
            (fail_with(StopIteration(SECRET)), "the callable raised StopIteration"),
            (fail_with(SystemExit(SECRET)), "the callable raised SystemExit"),
            (fail_with(KeyboardInterrupt(SECRET)), "the callable raised KeyboardInterrupt"),
            (fail_with(asyncio.CancelledError(SECRET)), "the callable raised CancelledError"),
            (functools.partial(fail_later_with, LookupError(SECRET)), "the callable raised LookupError"),
            (functools.partial(fail_later_with, asyncio.CancelledError(SECRET)), "the callable raised CancelledError"),
            (lambda: fail_later_with(OSError(SECRET)), "the callable raised OSError"),
            (lambda: fail_later_with(asyncio.CancelledError(SECRET)), "the callable raised CancelledError"),
            (SecretFile("\0"), "client_secret cannot be read: it contains a null character"),
            (SecretFile("nowhere"), "client_secret cannot be read: No such file or directory"),
            (lambda: None, "client_secret must be a string, got None"),
            (SECRET.encode, "client_secret must be a string, got bytes"),
            (lambda: "", "client_secret is empty"),
            (lambda: f"{SECRET}\nx", "client_secret must be one line of visible text, got a line break"),
        ],
        ids=[
            *("raises", "stop iteration", "exit", "interrupt", "cancelled", "async raises", "async cancelled"),
            *("awaitable raises", "awaitable cancelled", "null character", "file", "none", "bytes", "empty", "line"),
        ],
    )
    async def test_no_secret(self, secret: Callable[..., Any], problem: str) -> None:
        """A callable that raises or returns no valid secret causes a `TokenError` without the original exception."""
        with pytest.raises(TokenError) as caught:
            await with_secret(secret).read_secret()

        error = caught.value
        assert ("secret-unavailable", True) == (error.code, error.retryable)
        assert error.problem.startswith(f"the client secret cannot be read: {problem}")
        assert "canary" not in f"{error} {error!r}"
        assert (None, None) == (error.__cause__, error.__context__)

    async def test_cancelled(self) -> None:
        """Cancelling a read cancels the async callable, and CancelledError is not wrapped."""
        started, ended = asyncio.Event(), asyncio.Event()

        async def read() -> str:
            started.set()
            try:
                return await asyncio.Future()
            finally:
                ended.set()

        reading = asyncio.create_task(with_secret(read).read_secret())
        await started.wait()
        reading.cancel()

        with pytest.raises(asyncio.CancelledError):
            await reading
        assert ended.is_set()


async def test_blocking_callable() -> None:
    """Reads that time out share one daemon thread, and those still queued never call the callable."""
    go_on = threading.Event()
    calls: list[threading.Thread] = []

    def block() -> str:
        calls.append(threading.current_thread())
        assert go_on.wait(10)
        return SECRET

    credentials = with_secret(block)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await credentials.read_secret()
    go_on.set()

    assert SECRET == await credentials.read_secret()
    assert 2 == len(calls)
    assert [True] == [thread.daemon for thread in set(calls)]
