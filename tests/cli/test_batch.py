"""`simplestore batch`: results, exit codes and usage."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.sandbox import Late, Status
from tests.support.api_servers import ConnectProxy
from tests.support.batches import Directory, make_line, read_results, write_lines
from tests.support.command import assert_one_line, finish, patched, read_line, simplestore, start_simplestore

if TYPE_CHECKING:
    from pathlib import Path


class TestResults:
    async def test_file(self, directory: Directory) -> None:
        """Results go to the file, the summary to stdout; the same command again sends nothing."""
        directory.write("GET", "POST", "DELETE")
        for expected in r"3 in 0:00:0\S+ \(\d+/s\)", "nothing was left to send":
            outcome = await directory.run()
            assert (0, "") == (outcome.code, outcome.stderr)
            first, second = outcome.stdout.splitlines()
            assert "3 succeeded, 0 refused, 0 failed, 0 unknown, 0 remaining; HTTP 200: 3" == first
            assert re.fullmatch(expected, second)
        assert [1, 2, 3] == directory.lines
        assert 3 == directory.sandbox.counters.api_requests

    async def test_stdout(self, directory: Directory) -> None:
        """Without --output results go to stdout, one per line, and the summary to stderr."""
        directory.write("POST", "GET")
        outcome = await finish(await directory.start_on_stdout())

        results = sorted(map(json.loads, outcome.stdout.splitlines()), key=lambda result: result["line"])
        names = "id", "line", "method", "path", "outcome", "status"
        first, second = ([result[name] for name in names] for result in results)
        assert [1, 1, "POST", "orders/1", "succeeded", 200] == first
        assert [2, 2, "GET", "orders/2", "succeeded", 200] == second
        assert '{"number": 1}' == results[0]["body"]["body"]
        assert outcome.stderr.startswith("2 succeeded, 0 refused, 0 failed, 0 unknown, 0 remaining; HTTP 200: 2\n")

    async def test_results(self, directory: Directory) -> None:
        """`batch results` prints all results again, in the order of the file; a file without a batch is an error."""
        directory.write("POST", "GET")
        outcome = await simplestore("batch", "results", str(directory.file))
        assert_one_line(outcome, code=1, says="there is no batch")
        await directory.run("--response-header", "content-type")
        outcome = await simplestore("batch", "results", str(directory.file))
        assert (0, "") == (outcome.code, outcome.stderr)
        results = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert [1, 2] == [result["line"] for result in results]
        assert sorted(read_results(directory.results), key=lambda result: int(result["line"])) == results
        assert {"content-type": "application/json"} == results[0]["headers"]

    async def test_as_they_arrive(self, directory: Directory) -> None:
        """Each result is printed when its response arrives."""
        directory.write("GET", "GET")
        directory.sandbox.api.fail_next(1, Late(0.001))
        directory.sandbox.api.fail_next(1, Late(3_600))
        process = await directory.start_on_stdout()
        assert '"succeeded"' in await read_line(process.stdout)
        process.kill()
        await finish(process)

    async def test_json(self, directory: Directory) -> None:
        """With --json the summary is an object."""
        directory.write("GET", "POST")
        summary = (await directory.run("--json")).json
        assert summary.pop("elapsed_seconds") > 0
        assert summary.pop("rate") > 0
        counts = {"succeeded": 2, "refused": 0, "failed": 0, "unknown": 0, "remaining": 0}
        assert counts | {"is_stopped": False, "statuses": {"200": 2}} == summary

    async def test_stdin(self, directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`-` reads standard input; the same content again sends nothing, other content is another batch."""
        monkeypatch.chdir(tmp_path)
        for number, sent in (1, 1), (1, 1), (2, 2):
            environment = directory.sandbox.environment
            with write_lines(directory.file, [make_line(number, "POST")]).open("rb") as stdin:
                process = await start_simplestore("batch", "-", environment=environment, stdin=stdin.fileno())
            outcome = await finish(process)
            assert 0 == outcome.code, outcome.stderr
            assert sent == directory.sandbox.counters.api_requests

    async def test_secrets(self, directory: Directory) -> None:
        """Neither token nor secret is in results, database or output, even with --debug."""
        directory.write("POST", "GET")
        directory.sandbox.api.fail_next(1, Status(500))
        outcome = await simplestore("--debug", *directory.command, environment=directory.sandbox.environment)
        stored = directory.database.read_bytes().decode("latin-1")
        everything = outcome.stdout + outcome.stderr + directory.results.read_text() + stored
        assert "Bearer ***" in everything
        tokens = list(directory.sandbox._server.tokens._tokens)
        assert tokens
        assert not [token for token in [*tokens, "sandbox-secret"] if token in everything]

    async def test_redis(self, directory: Directory, redis_server: Any) -> None:
        """With SIMPLESTORE_REDIS_URL batches share one token."""
        directory.write("GET")
        for _ in range(2):
            outcome = await directory.run("--restart", SIMPLESTORE_REDIS_URL=redis_server.url)
            assert (0, "") == (outcome.code, outcome.stderr)
        assert (1, 2) == (directory.sandbox.counters.token_requests, directory.sandbox.counters.api_requests)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("fault", "options", "code", "says"),
        [
            (Status(404), [], 22, "1 of 2 requests were refused"),
            (Late(30), ["--timeout", "3"], 1, "1 of 2 requests failed or are unknown"),
            (Status(500), [], 1, "1 of 2 requests failed or are unknown"),
        ],
        ids=["refused", "late", "unknown"],
    )
    async def test_results(self, directory: Directory, fault: Any, options: list[str], code: int, says: str) -> None:
        """The exit code reflects the results, also when nothing is left to send; --resend sends the request again."""
        directory.write("POST", "GET")
        directory.sandbox.api.fail_next(1, fault)
        for more in [], ["--resume"]:
            outcome = await directory.run("--concurrency", "1", *options, *more)
            assert (code, f"simplestore: {says}\n") == (outcome.code, outcome.stderr)
        assert 2 == directory.sandbox.counters.api_requests
        assert 0 == (await directory.run("--resend", "unknown", "--resend", "404")).code
        assert [1, 2] == directory.lines
        assert {"succeeded"} == {result["outcome"] for result in read_results(directory.results)}

    async def test_unfinished(self, directory: Directory) -> None:
        """Exit code 75: the same command continues, and is printed with its options."""
        directory.write(*["GET"] * 9)
        directory.sandbox.api.fail_next(2, Status(429, retry_after=0))
        options = "--concurrency", "1", "--stop-after", "1", "--response-header", "ETag", "--plain"
        outcome = await directory.run(*options)
        assert 75 == outcome.code
        command = " ".join([f"simplestore batch {directory.file} --output {directory.results}", *options])
        assert f"continue with: {command}\n" in outcome.stdout
        assert 75 == (await directory.run("--concurrency", "1", "--stop-after", "1")).code
        assert 0 == (await directory.run("--concurrency", "1", "--stop-after", "1")).code

    async def test_settings(self, directory: Directory) -> None:
        """Exit code 2: settings are invalid, or belong to another batch."""
        directory.write("POST")
        assert_one_line(await simplestore(*directory.command), code=2, says="SIMPLESTORE")
        await directory.run()
        assert_one_line(await directory.run(SIMPLESTORE_CLIENT_ID="other"), code=2, says="client_id")

    async def test_input(self, directory: Directory) -> None:
        """Exit code 65: invalid lines are listed by number, nothing is sent or written; --check reports the same."""
        write_lines(directory.file, [make_line(1), {"id": 2}, make_line(3, headers={"X": "s3c\nr3t"}), make_line(1)])
        for more in [], ["--check"]:
            outcome = await directory.run(*more)
            assert (65, "") == (outcome.code, outcome.stdout)
            lines = outcome.stderr.splitlines()
            assert ["line 2", "line 3", "line 4"] == [line.partition(":")[0] for line in lines[:3]]
            assert lines[3].startswith("simplestore: 3 of 4 lines of ")
            assert "s3c" not in outcome.stderr

        outcome = await directory.run("--json")
        assert 2 == json.loads(outcome.stderr.splitlines()[0])["problem"]["line"]
        assert ("BatchFileError", 65) == (outcome.error["type"], outcome.error["exit_code"])
        assert not directory.database.exists()
        assert not directory.results.exists()
        assert (0, 0) == (directory.sandbox.counters.token_requests, directory.sandbox.counters.api_requests)

    async def test_check(self, directory: Directory) -> None:
        """--check sends and writes nothing."""
        directory.write("POST", "GET")
        outcome = await directory.run("--check")
        assert (0, f"{directory.file}: 2 valid requests\n") == (outcome.code, outcome.stdout)
        assert not directory.database.exists()
        assert 0 == directory.sandbox.counters.token_requests

    async def test_refused_credentials(self, directory: Directory) -> None:
        """Refused credentials end the batch with one error; with valid ones the same command continues."""
        directory.write(*["POST"] * 50)
        outcome = await directory.run(SIMPLESTORE_CLIENT_SECRET="wr0ng")
        assert 1 == outcome.code
        assert 1 == outcome.stderr.count("Control Panel")
        assert "50 remaining\n" in outcome.stdout

        assert 0 == (await directory.run("--cache", "--rate", "10000")).code
        assert list(range(1, 51)) == directory.lines


async def test_no_directory(directory: Directory, tmp_path: Path) -> None:
    """A file that cannot be written is named."""
    directory.write("GET")
    path = str(tmp_path / "gone" / "results")
    outcome = await simplestore("batch", str(directory.file), "-o", path, environment=directory.sandbox.environment)
    assert_one_line(outcome, code=1, says="results.new: No such file or directory")
    assert not directory.database.exists()


async def test_proxy(directory: Directory) -> None:
    """Requests go through the proxy that the environment names."""
    directory.write("GET")
    async with ConnectProxy({"api.example:443": 1}) as proxy:
        urls = {"SIMPLESTORE_BASE_URL": "https://api.example/", "https_proxy": proxy.url}
        outcome = await directory.run("--stop-after", "1", **urls, no_proxy="127.0.0.1,localhost")
    assert 75 == outcome.code
    assert {"api.example:443"} == proxy.targets


@pytest.mark.slow
async def test_without_uvloop(directory: Directory) -> None:
    """The command works without uvloop."""
    directory.write("GET", "POST")
    environment = directory.sandbox.environment
    assert 0 == (await patched("sys.modules['uvloop'] = None", *directory.command, environment=environment)).code
    assert [1, 2] == directory.lines
