"""`simplestore batch` in pipes, terminals and on full disks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter

import pytest

from simplestore_async.sandbox import Late, Status
from tests.support.batches import Directory, read_results
from tests.support.command import finish, read_line, shell
from tests.support.platforms import needs_posix
from tests.support.terminals import in_terminal


class TestOutput:
    async def test_closed_pipe(self, directory: Directory) -> None:
        """A closed output pipe ends the batch cleanly, and stderr shows the command that continues it."""
        directory.write(*["GET"] * 3_000)
        reading, writing = os.pipe()
        process = await directory.start_on_stdout(writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert await asyncio.to_thread(pipe.readline)
        outcome = await finish(process)

        assert 75 == outcome.code
        assert f"continue with: simplestore batch {directory.file}\n" in outcome.stderr
        assert outcome.stderr.endswith("simplestore: output pipe closed\n")
        assert directory.sandbox.counters.api_requests < 3_000

    @needs_posix
    @pytest.mark.slow
    @pytest.mark.parametrize("blocks", [16, 64, 256])
    async def test_full_disk(self, directory: Directory, blocks: int) -> None:
        """On a full disk only requests that can be recorded are sent; with space the same command continues."""
        directory.write(*["POST"] * 300)
        script = f'ulimit -f {blocks}; simplestore batch "$1" -o "$2" --concurrency 3'
        paths = str(directory.file), str(directory.results)
        outcome = await shell(script, *paths, environment=directory.sandbox.environment)

        assert 1 == outcome.code
        assert "simplestore: " in outcome.stderr.splitlines()[-1]
        sent = directory.sandbox.counters.api_requests
        assert sent < 300

        outcome = await directory.run("--resume")
        results = read_results(directory.results)
        assert list(range(1, 301)) == directory.lines
        counts = Counter(result["outcome"] for result in results)
        assert {"succeeded", "unknown"} >= counts.keys()
        assert counts["unknown"] <= 3
        assert 300 - counts["unknown"] <= directory.sandbox.counters.api_requests <= 300

    async def test_plain(self, directory: Directory) -> None:
        """Without a terminal, a pause is reported in one line without control characters."""
        directory.write("GET")
        directory.sandbox.api.fail_next(1, Status(429, retry_after=0.01))
        outcome = await directory.run()
        assert (0, "waiting 0.01 s: the API responded 429\n") == (outcome.code, outcome.stderr)


class TestTerminal:
    @needs_posix
    @pytest.mark.parametrize("no_color", ["", pytest.param("1", marks=pytest.mark.slow)])
    async def test_bar(self, directory: Directory, no_color: str) -> None:
        """In a terminal a progress bar shows count, rate, failures and time left, with messages above it."""
        directory.write(*["GET"] * 30)
        directory.sandbox.api.fail_next(1, Status(429, retry_after=0.3))
        environment = directory.sandbox.environment | {"NO_COLOR": no_color}
        async with in_terminal(*directory.command, environment=environment, columns=100) as terminal:
            assert 0 == await terminal.wait()
        for text in "30/30", "/s", "0 unsuccessful", "left", "waiting 0.3 s: the API responded 429", "30 succeeded":
            assert text in terminal.shown
        assert bool(no_color) != ("\x1b[3" in terminal.shown or "\x1b[38" in terminal.shown)
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")  # the cursor is back

    @needs_posix
    async def test_plain(self, directory: Directory) -> None:
        """Without --output, or with --plain, there is no bar."""
        directory.write("GET")
        for options in ["batch", str(directory.file)], [*directory.command, "--plain"]:
            async with in_terminal(*options, environment=directory.sandbox.environment, columns=100) as terminal:
                assert 0 == await terminal.wait()
            assert "1 succeeded" in terminal.shown
            assert "\x1b" not in terminal.shown

    @pytest.mark.slow
    async def test_progress_in_lines(self, directory: Directory) -> None:
        """Without a terminal a line every ten seconds has the progress and the remaining time."""
        directory.write(*["GET"] * 25)
        outcome = await directory.run("--rate", "2")

        assert 0 == outcome.code
        line, *others = outcome.stderr.splitlines()
        assert re.fullmatch(r"2[01] of 25, 2/s, 0 unsuccessful, 0:00:0[1-3] left", line)
        assert not others

    @needs_posix
    async def test_ctrl_c(self, directory: Directory) -> None:
        """Ctrl-C stops the batch and shows the command that continues it; a second aborts. The cursor is restored."""
        directory.write(*["POST"] * 10)
        directory.sandbox.api.fail_next(2, Late(3_600))
        command = *directory.command, "--concurrency", "2"
        async with in_terminal(*command, environment=directory.sandbox.environment, columns=100) as terminal:
            await directory.requests_arrive(2)
            terminal.type(b"\x03")
            await terminal.wait_for(lambda shown: "stopping; " in shown)
            terminal.type(b"\x03")
            assert 130 == await terminal.wait()
        assert "8 remaining" in terminal.shown
        assert "continue with: simplestore batch" in terminal.shown
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")

    @needs_posix
    @pytest.mark.slow  # results of the last requests have 5 s to be written
    async def test_full_pipe(self, directory: Directory) -> None:
        """A full output pipe does not block the second signal."""
        directory.write(*["GET"] * 1_000)
        reader, writer = os.pipe()
        process = await directory.start_on_stdout(writer)
        os.close(writer)
        await directory.requests_arrive(200)  # their results exceed the pipe
        process.send_signal(signal.SIGTERM)
        assert "stopping" in await read_line(process.stderr)
        process.send_signal(signal.SIGTERM)
        assert 75 == (await finish(process)).code
        os.close(reader)
