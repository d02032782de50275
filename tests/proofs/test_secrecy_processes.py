"""Processes that share a directory show neither secret nor token, neither while they run nor in their files."""
# ruff: noqa: ASYNC240 - this test is about files, and its loop runs nothing else

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support import swarm
from tests.support.platforms import needs_proc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import ApiServer, TokenServer

SECRET = "canary-secret"
PROCESSES = 4


def words_of_processes(first: int) -> Iterator[str]:
    """Yield command line, environment and thread names of a process and its children, as in `ps` and `top`."""
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    assert PROCESSES == len(children)
    for pid in (first, *map(int, children)):
        directory = Path(f"/proc/{pid}")
        yield from (directory.joinpath(name).read_bytes().decode() for name in ("cmdline", "environ"))
        for path in [*directory.glob("task/*/comm"), *directory.glob("fd/*")]:
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended, a file that was closed
                yield path.read_text() if path.name == "comm" else str(path.readlink())


@needs_proc
async def test_sweep(token_server: TokenServer, api_server: ApiServer, tmp_path: Path) -> None:
    """Environments, command lines, names, logs and tracebacks with locals show neither secret nor token.

    Four processes whose secret is in a file use an endpoint that echoes it and an API that rejects a token. Only the
    cache's file contains a token, and only the user's file the secret.
    """
    secret_file, directory, temporary = tmp_path / "mounted", tmp_path / "cache", tmp_path / "tmp"
    secret_file.write_text(SECRET)
    temporary.mkdir()
    echo: dict[str, Any] = {"error": "invalid_request", "error_description": f"<{SECRET}>", "title": SECRET}
    token_server.replies = [web.json_response(echo, status=503) for _ in range(2)]
    token_server.gate.clear()
    api_server.rejected = {"canary-token-1"}
    running = await swarm.start(
        "show_everything",
        directory=directory,
        environment={
            "SIMPLESTORE_CLIENT_ID": "app",
            "SIMPLESTORE_CLIENT_SECRET_FILE": str(secret_file),
            "SIMPLESTORE_TOKEN_URL": token_server.token_url,
            "TMPDIR": str(temporary),
        },
        retry={"attempts": 1},
        api_url=api_server.url,
        processes=PROCESSES,
    )
    await token_server.arrived.wait()
    shown = list(words_of_processes(running.pid))
    token_server.gate.set()
    stdout, stderr = await swarm.output_of(running)

    # A failure, a rejection and a replacement have happened.
    for words in ("invalid_request", "Traceback", "the API rejected a token", "token received from cache"):
        assert words in stderr
    assert "canary-token-2" in token_server.issued
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != secret_file]
    (token_file,) = directory.glob("*.json")
    (lock_file,) = directory.glob("*.lock")
    assert {token_file, lock_file} == set(files)
    assert b"" == lock_file.read_bytes()
    assert SECRET not in token_file.read_text()
    assert "canary-token" in token_file.read_text()
    shown += [*stdout.splitlines(), *stderr.splitlines(), *map(str, files)]
    assert [] == [words for words in shown if "canary" in words]
