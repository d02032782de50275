"""`simplestore demo` and `simplestore token`, usage and version."""
# ruff: noqa: ASYNC240 - some tests are about files, and their loop runs nothing else

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cattrs import unstructure

from simplestore_async.cli._demo_worker import Plan, Share
from tests.support.command import (
    Outcome,
    Process,
    assert_one_line,
    finish,
    patched,
    read_line,
    simplestore,
    start,
    start_simplestore,
)
from tests.support.platforms import needs_posix, needs_posix_files, needs_proc
from tests.support.programs import is_alive, wait_for_end

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox


async def start_long_demo(processes: int) -> tuple[Process, list[int]]:
    """Start a demo that would take ten minutes; return it and the ids of its processes once they are at work."""
    process = await start_simplestore("demo", "--plain", "--duration", "600", "--processes", str(processes))
    assert "token" in await read_line(process.stdout)
    workers = [*map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    assert processes == len(workers)
    return process, workers


def read_table(stdout: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"\| (?:- )?([\w ()]+?) +\| +(\d+) ", stdout)}


def at_home(sandbox: Sandbox, home: Path) -> dict[str, str]:
    return sandbox.environment | {"HOME": str(home), "XDG_CACHE_HOME": ""}


class TestDemo:
    @pytest.mark.slow
    async def test_numbers(self) -> None:
        """A short run meets both faults, loses no request, and its table adds up."""
        outcome = await simplestore("demo", "--requests", "300", "--duration", "3", "--plain")
        table = read_table(outcome.stdout)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert 4 == table["processes"]
        # At the start, when it is due, after the revocation: one token each time, for all four processes. While the
        # endpoint fails, each of them may see so for itself.
        assert 3 == table["token issued"]
        assert table["failed with 503"] >= 3
        assert table["token requests"] == table["token issued"] + table["failed with 503"] + table["refused"]
        assert 0 == table["refused"]
        assert table["rejected (401)"] >= 4
        assert 300 + table["rejected (401)"] == table["API requests"]
        assert (300, 300, 0) == (table["requests"], table["succeeded"], table["failed"])
        # The callers waited for two refused attempts after the revocation, with a pause after each.
        assert table["slowest"] >= 1500
        for news in "endpoint responds 503", "renewed in the background", "all tokens revoked", "of another process":
            assert news in outcome.stdout
        # The sandbox's tokens are 43 characters of this alphabet.
        assert not re.search(r"sandbox-secret|\b[\w-]{43}\b", outcome.stdout)

    async def test_too_few_requests_for_the_faults(self) -> None:
        """A run too short for the faults reports that.

        Without a terminal its lines are plain, even with colour forced, fit 80 columns, and have a positive rate.
        """
        forced = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "20", "PYTHONIOENCODING": "ascii"}
        outcome = await patched("", "demo", "--requests", "1", "--processes", "1", environment=forced)
        lines, _, _ = outcome.stdout.partition("\nNext, ")

        assert 0 == outcome.code
        assert "ended before the second fault" in lines
        assert "all tokens revoked" not in lines
        assert "\x1b" not in outcome.stdout
        assert 1 == read_table(lines)["succeeded"]
        assert re.search(r"1 requests in [\d.]+ s \([1-9]\d*/s\)", lines)
        assert re.search(r"1 of 1 requests, [1-9]\d*/s, 0 failed", lines)
        assert max(map(len, lines.splitlines())) <= 80

    @needs_proc
    async def test_interrupted(self) -> None:
        """Ctrl-C ends the demo and its processes at once, with exit code 130 and no traceback."""
        process, workers = await start_long_demo(1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        outcome = await finish(process)

        assert (130, "") == (outcome.code, outcome.stderr.strip())
        assert not any(map(is_alive, workers))

    @needs_proc
    async def test_killed(self) -> None:
        """If the demo is killed, its processes exit."""
        process, workers = await start_long_demo(1)
        process.kill()
        await finish(process)
        for worker in workers:
            await wait_for_end(worker)

    @needs_proc
    @pytest.mark.slow
    async def test_process_that_dies(self) -> None:
        """If one process dies, the demo names it, ends the others and exits with 1."""
        process, workers = await start_long_demo(2)
        os.kill(workers[0], signal.SIGKILL)
        outcome = await finish(process)

        assert 1 == outcome.code
        assert re.fullmatch(r"simplestore: process [12] ended with exit code -9\n", outcome.stderr)
        assert not any(map(is_alive, workers))

    @pytest.mark.slow
    async def test_process_without_reader(self) -> None:
        """If the demo ends while one of its processes starts, that process exits without a traceback."""
        plan = Plan(requests=1, concurrency=1, duration_seconds=3, processes=1, is_debug=False)
        share = json.dumps(unstructure(Share(plan=plan, number=0, directory="")))
        reading, writing = os.pipe()
        os.close(reading)
        worker = sys.executable, "-m", "simplestore_async.cli._demo_worker"
        process = await start(*worker, stdin=asyncio.subprocess.PIPE, stdout=writing)
        os.close(writing)

        assert Outcome(1, "", "") == await finish(process, stdin=f"{share}\n".encode())

    @needs_posix
    @pytest.mark.slow
    async def test_closed_pipe(self) -> None:
        """A closed output pipe ends the demo without a traceback."""
        reading, writing = os.pipe()
        process = await start_simplestore("demo", "--plain", "--duration", "10", "--processes", "1", stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert b"token" in await asyncio.to_thread(pipe.readline)

        assert Outcome(1, "", "") == await finish(process)


class TestToken:
    async def test_metadata(self, sandbox: Sandbox, tmp_path: Path) -> None:
        """The facts are printed, the secret is not, and nothing is stored."""
        outcome = await simplestore("token", environment=at_home(sandbox, tmp_path))
        facts = dict(re.split(r"  +", line, maxsplit=1) for line in outcome.stdout.splitlines())

        assert (0, "") == (outcome.code, outcome.stderr)
        assert ["type", "issued", "expires", "lifetime left", "scope"] == list(facts)
        assert ("Bearer", "(none named)") == (facts["type"], facts["scope"])
        assert re.fullmatch(r"0:59:5\d", facts["lifetime left"])
        assert facts["issued"] < facts["expires"]
        assert "sandbox-secret" not in outcome.stdout
        assert 1 == sandbox.counters.tokens_issued
        assert [] == list(tmp_path.iterdir())

    async def test_show(self, sandbox: Sandbox) -> None:
        """`--show` also prints the token; scopes from the environment are requested and printed."""
        environment = sandbox.environment | {"SIMPLESTORE_SCOPE": "orders products"}
        outcome = await simplestore("token", "--show", environment=environment)
        token = re.search(r"^token +(\S+)$", outcome.stdout, re.MULTILINE)

        assert 0 == outcome.code
        assert token is not None
        assert sandbox.revoke(token[1])
        assert re.search(r"^scope +orders products$", outcome.stdout, re.MULTILINE)

    async def test_header(self, sandbox: Sandbox) -> None:
        """`--header` prints a header with a valid token, and nothing else."""
        outcome = await simplestore("token", "--header", environment=sandbox.environment)
        header = re.fullmatch(r"Authorization: Bearer (\S+)\n", outcome.stdout)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert header is not None
        assert sandbox.revoke(header[1])

    async def test_json(self, sandbox: Sandbox) -> None:
        """`--json` prints the facts as an object, and the token only with `--show`."""
        environment = sandbox.environment | {"SIMPLESTORE_SCOPE": "orders products"}
        facts = (await simplestore("token", "--json", environment=environment)).json
        shown = (await simplestore("token", "--json", "--show", environment=environment)).json

        assert {"token_type", "issued_at", "expires_at", "life_seconds", "scope"} == facts.keys()
        assert ("Bearer", ["orders", "products"]) == (facts["token_type"], facts["scope"])
        assert pytest.approx(3600) == facts["expires_at"] - facts["issued_at"]
        assert 3_500 < facts["life_seconds"] <= 3_600
        assert {"value"} == shown.keys() - facts.keys()
        assert sandbox.revoke(shown["value"])

    @needs_posix_files
    async def test_cache_that_fails(self, sandbox: Sandbox, tmp_path: Path) -> None:
        """An unusable directory is a warning; the token is printed."""
        environment = at_home(sandbox, tmp_path)
        directory = Path((await simplestore("cache", "path", environment=environment)).stdout.strip())
        directory.mkdir(parents=True)
        (directory / "notes.txt").touch()  # with another program's file its mode is not repaired
        directory.chmod(0o777)
        outcome = await simplestore("token", "--header", "--cache", environment=environment)

        assert 0 == outcome.code
        assert outcome.stdout.startswith("Authorization: Bearer ")
        assert all(line.startswith("simplestore: warning: ") for line in outcome.stderr.splitlines())
        assert "mode 0777 gives other users access" in outcome.stderr

    async def test_refused(self, sandbox: Sandbox) -> None:
        """Wrong credentials: exit code 1 and one line that names the Control Panel, without the secret."""
        environment = sandbox.environment | {"SIMPLESTORE_CLIENT_SECRET": "wr0ng-s3cr3t"}
        outcome = await simplestore("token", environment=environment)

        assert_one_line(outcome, code=1, says="Control Panel")
        assert "wr0ng-s3cr3t" not in outcome.stderr
        assert 1 == sandbox.counters.refusals
        in_json = await simplestore("token", "--json", environment=environment)
        assert (1, "", "InvalidClientError") == (in_json.code, in_json.stdout, in_json.error["type"])


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["tokens"], "No such command"),
            (["token", "--header", "--show"], "leave out --show and --json"),
            *(
                (["request", method, "x"], "'METHOD'") for method in ("TRACE", "CONNECT", "G\nT")
            ),  # TRACE shows the token
            (["request", "GET", "a\nb"], "must not contain a line break"),
            (["request", "POST", "x", "--content-type", "a\nb"], "must not contain a line break"),
            (["batch", "gone.jsonl"], "gone.jsonl"),
            (["batch", "-", "--rate", "0"], "--rate"),
            (["batch", "-", "--concurrency", "0"], "--concurrency"),
            (["batch", "-", "--resend", "succeeded"], "--resend"),
            (["batch", "-", "--response-header", "a b"], "--response-header"),
            (["batch", "-", "--resume", "--restart"], "leave out"),
            (["sandbox", "--port", "65536"], "--port"),
            (["sandbox", "--lifetime", "0"], "--lifetime"),
            (["sandbox", "--latency", "-1"], "--latency"),
            (["sandbox", "--latency", "nan"], "latency_seconds must be a finite number"),
            (["sandbox", "--client", ""], "client_id"),
            (["sandbox", "--secret-file", "/nowhere/at/all"], "client_secret cannot be read"),
            (["sandbox", "--secret", "x"], "No such option"),
            (["demo", "--requests", "0"], "--requests"),
            (["demo", "--concurrency", "many"], "--concurrency"),
            (["demo", "--duration", "1"], "--duration"),
            (["demo", "--processes", "0"], "--processes"),
            (["completion", "tcsh"], "bash"),
            *((["doctor", "--timeout", seconds], "--timeout") for seconds in ("0", "inf")),
            (["request", "GET", "x", "--timeout", "0"], "--timeout"),
        ],
    )
    async def test_wrong_usage(self, arguments: list[str], says: str) -> None:
        """Wrong usage: exit code 2 and one line that names the argument."""
        assert_one_line(await simplestore(*arguments), code=2, says=says)

    async def test_version(self) -> None:
        """`--version` names the program and a version."""
        outcome = await simplestore("--version")

        assert (0, "") == (outcome.code, outcome.stderr)
        assert re.fullmatch(r"simplestore \d+\.\d+\.\d+\S*\n", outcome.stdout)

    async def test_missing_extra(self) -> None:
        """Without a library of the extra the error line names it."""
        program = f"""
import sys
from simplestore_async.cli import main
for missing, *sys.argv[1:] in ["click", "token"], ["rich", "demo"], ["msgspec", "batch", {__file__!r}]:
    sys.modules[missing] = None
    print(main())
    del sys.modules[missing]
"""
        outcome = await finish(await start(sys.executable, "-c", program))

        hint = 'is not installed: pip install "simplestore-async[cli]"'
        assert [f"simplestore: {name} {hint}" for name in ("click", "rich", "msgspec")] == outcome.stderr.splitlines()
        assert "2\n2\n2\n" == outcome.stdout
