"""`simplestore sandbox`: environment, options, signals and shells."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from simplestore_async import ClientCredentials, SecretFile, TokenProvider, open_session
from simplestore_async.errors import InvalidClientError
from tests.support.command import COMMAND, Outcome, Process, finish, read_line, start, start_simplestore
from tests.support.platforms import needs_bash, needs_posix
from tests.support.ports import held_port
from tests.support.programs import wait_for_end
from tests.support.terminals import in_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Serving:
    """A serving sandbox and its printed environment."""

    def __init__(self, process: Process, printed: str) -> None:
        self.process = process
        self.printed = printed

    @property
    def environment(self) -> dict[str, str]:
        if os.name == "nt":
            return dict(map(read_assignment, self.printed.splitlines()))
        words = [shlex.split(line) for line in self.printed.splitlines()]
        assert {"export"} == {word for word, _ in words}
        return dict(setting.split("=", 1) for _, setting in words)

    async def stop(self, number: signal.Signals) -> Outcome:
        self.process.send_signal(number)
        return await finish(self.process)


def read_assignment(line: str) -> tuple[str, str]:
    """Read an assignment of PowerShell, in whose strings each quote, straight or typographic, is doubled."""
    found = re.fullmatch(r"\$env:(\w+) = '((?:[^'\u2018-\u201b]|(['\u2018-\u201b])\3)*)'", line)
    assert found is not None, line
    return found[1], re.sub(r"(['\u2018-\u201b])\1", r"\1", found[2])


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[Serving]:
    process = await start_simplestore("sandbox", *arguments)
    try:
        printed = ""
        while "SIMPLESTORE_CLIENT_SECRET_FILE" not in printed:
            line = await read_line(process.stdout)
            assert line, await finish(process)
            printed += line
        yield Serving(process, printed)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


class TestServing:
    @needs_posix
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_environment(self, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program with the printed environment, which unsets a secret file, reaches it; a signal ends it with 0."""
        async with serving() as sandbox:
            for name, value in sandbox.environment.items():
                monkeypatch.setenv(name, value)
            async with open_session() as session, session.get("orders/1") as response:
                assert (200, "/api/orders/1") == (response.status, (await response.json())["path"])
            outcome = await sandbox.stop(number)

        base_url = sandbox.environment["SIMPLESTORE_BASE_URL"]
        root = base_url.removesuffix("/api/")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", root)
        assert {
            "SIMPLESTORE_CLIENT_ID": "sandbox-client",
            "SIMPLESTORE_CLIENT_SECRET": "sandbox-secret",
            "SIMPLESTORE_TOKEN_URL": f"{root}/connect/token",
            "SIMPLESTORE_BASE_URL": base_url,
            "SIMPLESTORE_CLIENT_SECRET_FILE": "",
        } == sandbox.environment
        pid = sandbox.process.pid
        assert Outcome(0, "", f"Serving {base_url} (process {pid}); stop it with Ctrl-C\n") == outcome

    async def test_json(self) -> None:
        """`--json` prints the environment as one object on one line."""
        async with serving("--json") as sandbox:
            environment = json.loads(sandbox.printed)

        assert 1 == sandbox.printed.count("\n")
        assert "sandbox-client" == environment["SIMPLESTORE_CLIENT_ID"]
        assert 5 == len(environment)

    async def test_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Options set port, lifetime and latency."""
        with held_port() as port:
            async with serving("--port", str(port), "--lifetime", "20", "--latency", "0.2") as sandbox:
                for name, value in sandbox.environment.items():
                    monkeypatch.setenv(name, value)
                loop = asyncio.get_running_loop()
                started_at = loop.time()
                async with TokenProvider() as provider:
                    token = await provider.get_token()

        assert loop.time() - started_at >= 0.199
        assert 20 == pytest.approx(token.expires_at - token.issued_at, abs=1e-3)
        assert f"http://127.0.0.1:{port}/api/" == sandbox.environment["SIMPLESTORE_BASE_URL"]

    async def test_secret_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a secret file the environment names the file, and the secret is not printed."""
        monkeypatch.setenv("PYTHONUTF8", "1")  # on Windows a pipe has a code page otherwise
        path = tmp_path / "it's a secret"
        path.write_text("hush-hush\n", "utf-8")
        async with serving("--client", "my shop", "--secret-file", str(path)) as sandbox:
            environment = sandbox.environment
            token_url = environment["SIMPLESTORE_TOKEN_URL"]
            right = ClientCredentials(client_id="my shop", client_secret=SecretFile(path), token_url=token_url)
            wrong = ClientCredentials(client_id="my shop", client_secret="sandbox-secret", token_url=token_url)
            async with TokenProvider(right) as provider:
                await provider.get_token()
            async with TokenProvider(wrong) as provider:
                with pytest.raises(InvalidClientError):
                    await provider.get_token()
            outcome = await sandbox.stop(signal.SIGTERM)

        assert ("my shop", "") == (environment["SIMPLESTORE_CLIENT_ID"], environment["SIMPLESTORE_CLIENT_SECRET"])
        assert str(path) == environment["SIMPLESTORE_CLIENT_SECRET_FILE"]
        assert "hush" not in sandbox.printed + outcome.stderr

    @needs_posix
    async def test_eval(self, tmp_path: Path) -> None:
        """A POSIX shell that evaluates the output in the background continues with the environment set."""
        facts = tmp_path / "facts"
        command = shlex.join(COMMAND)
        script = f'eval "$({command} sandbox &)"; {command} token >{shlex.quote(str(facts))}; echo "ended with $?" >&2'
        before = {"SIMPLESTORE_CLIENT_SECRET_FILE": "/from/before"}
        process = await start("/bin/sh", "-c", script, environment=before)
        try:
            lines = [await read_line(process.stderr) for _ in range(2)]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        number = re.search(r"\(process (\d+)\)", lines[0])
        assert number is not None
        os.kill(int(number[1]), signal.SIGTERM)  # not in the shell's process group
        outcome = await finish(process)

        assert "ended with 0\n" == lines[1]
        assert re.fullmatch(r"Serving \S+ \(process (\d+)\); stop it with: kill \1\n", lines[0])
        assert re.search(r"^type +Bearer$", facts.read_text("utf-8"), re.MULTILINE)
        assert ("", "") == (outcome.stdout, outcome.stderr)


@needs_bash
async def test_prompt() -> None:
    """In the background of an interactive shell, Ctrl-C at the prompt does not end it; the shell's end does."""
    environment = {"PS1": "ready$ ", "TERM": "dumb", "HISTFILE": ""}
    bash = "bash", "--norc", "--noprofile", "-i"
    async with in_terminal(program=bash, environment=environment) as terminal:
        await terminal.wait_for(lambda shown: "ready$ " in shown)
        terminal.type(f'eval "$({shlex.join(COMMAND)} sandbox &)"; echo "at" "$SIMPLESTORE_BASE_URL"\n'.encode())
        # The lines of the shell and of the sandbox come in any order.
        await terminal.wait_for(lambda shown: re.search(r"^at http", shown, re.MULTILINE))
        serving = re.compile(r"Serving (\S+) \(process (\d+)\); stop it with: kill")
        await terminal.wait_for(serving.search)
        await terminal.wait_for(lambda shown: shown.count("ready$ ") > 1)
        found = serving.search(terminal.shown)
        assert found is not None
        try:
            # Enter as well: a signal right before readline's read() is handled only at the next key.
            terminal.type(b"\x03\n")
            await terminal.wait_for(lambda shown: shown.count("ready$ ") > 2)
            async with aiohttp.ClientSession() as session, session.get(found[1]) as response:
                assert 401 == response.status
            terminal.type(b"exit\n")
            await wait_for_end(int(found[2]))
        finally:
            with suppress(ProcessLookupError):
                os.kill(int(found[2]), signal.SIGKILL)


class TestErrors:
    async def test_closed_pipe(self) -> None:
        """A closed output pipe ends the sandbox silently with exit code 1."""
        reading, writing = os.pipe()
        os.close(reading)
        process = await start_simplestore("sandbox", stdout=writing)
        os.close(writing)

        assert Outcome(1, "", "") == await finish(process)

    @needs_posix
    async def test_closed_output(self) -> None:
        """Started without a standard output it still serves, and exits with 0."""
        process = await start("/bin/sh", "-c", f"exec {shlex.join(COMMAND)} sandbox >&-")
        words = await read_line(process.stderr)
        found = re.search(r"Serving (\S+)", words)
        assert found is not None, words
        async with aiohttp.ClientSession() as session, session.get(found[1]) as response:
            assert 401 == response.status
        process.terminate()

        assert Outcome(0, "", "") == await finish(process)
