"""`simplestore batch`, used as a person uses it: in terminals, interrupted, resumed, on full disks, in pipes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from simplestore_async.sandbox import Late, Sandbox, Status
from tests.support.batches import make_line, read_results, write_lines
from tests.support.command import COMMAND, assert_one_line, finish, shell, simplestore, start
from tests.support.terminals import in_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.command import Outcome

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, terminals and shells")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


class Folder:
    """A folder with a file of requests, and the command at work in it."""

    def __init__(self, path: Path, sandbox: Sandbox) -> None:
        self.file = path / "orders.jsonl"
        self.journal = path / "orders.jsonl.journal"
        self.results = path / "results.jsonl"
        self.sandbox = sandbox

    def write(self, *methods: str) -> None:
        write_lines(self.file, (make_line(n, method) for n, method in enumerate(methods, 1)))

    @property
    def command(self) -> list[str]:
        return ["batch", str(self.file), "-o", str(self.results)]

    async def run(self, *options: str) -> Outcome:
        return await simplestore(*self.command, *options, environment=self.sandbox.environment)

    async def start(self, *options: str) -> asyncio.subprocess.Process:
        return await start(*COMMAND, *self.command, *options, environment=self.sandbox.environment)

    async def requests_arrive(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.sandbox.counters.api_requests < count:
                await asyncio.sleep(0.005)  # a sandbox sets no event

    @property
    def lines(self) -> list[int]:
        """The lines that have a result, in their order."""
        return sorted(result["line"] for result in read_results(self.results))


@pytest.fixture
def folder(tmp_path: Path, sandbox: Sandbox) -> Folder:
    return Folder(tmp_path, sandbox)


class TestResults:
    async def test_file(self, folder: Folder) -> None:
        """Results go to the file, the summary to stdout, and the journal stays."""
        folder.write("GET", "POST", "DELETE")
        outcome = await folder.run()

        assert (0, "") == (outcome.code, outcome.stderr)
        assert "3 succeeded, 0 refused, 0 failed, 0 unknown, 0 remaining\n" == outcome.stdout
        assert [1, 2, 3] == folder.lines
        assert folder.journal.exists()

    async def test_stdout(self, folder: Folder) -> None:
        """Without --output results go to stdout, a line each, and all else to stderr."""
        folder.write("POST", "GET")
        outcome = await simplestore("batch", str(folder.file), environment=folder.sandbox.environment)

        results = sorted(map(json.loads, outcome.stdout.splitlines()), key=lambda result: result["line"])
        assert [(1, 1, "succeeded", 200), (2, 2, "succeeded", 200)] == [
            tuple(result[name] for name in ("id", "line", "outcome", "status")) for result in results
        ]
        assert '{"number":1}' == results[0]["body"]["body"]
        assert "2 succeeded, 0 refused, 0 failed, 0 unknown, 0 remaining\n" == outcome.stderr

    async def test_without_uvloop(self, folder: Folder) -> None:
        """It is for speed only."""
        folder.write("GET", "POST")
        program = (
            f"import sys; sys.modules['uvloop'] = None; sys.argv[1:] = {folder.command!r}; "
            "from simplestore_async.cli import main; sys.exit(main())"
        )
        outcome = await finish(await start(sys.executable, "-c", program, environment=folder.sandbox.environment))

        assert (0, "") == (outcome.code, outcome.stderr)
        assert [1, 2] == folder.lines

    async def test_as_they_arrive(self, folder: Folder) -> None:
        """A result is there before the next answer comes."""
        folder.write("GET", "GET")
        folder.sandbox.api.fail_next(1, Late(0.001))
        folder.sandbox.api.fail_next(1, Late(3_600))
        process = await start(*COMMAND, "batch", str(folder.file), environment=folder.sandbox.environment)
        assert process.stdout is not None
        assert b'"succeeded"' in await process.stdout.readline()
        process.kill()
        await finish(process)

    async def test_json(self, folder: Folder) -> None:
        """With --json the summary is an object."""
        folder.write("GET", "POST")
        outcome = await folder.run("--json")
        assert {
            "succeeded": 2,
            "refused": 0,
            "failed": 0,
            "unknown": 0,
            "remaining": 0,
            "is_stopped": False,
        } == outcome.json

    @pytest.mark.parametrize(
        ("method", "fault", "code", "says"),
        [
            ("POST", Status(404), 22, "1 of 2 requests were answered with other than 2xx"),
            ("POST", Late(30), 1, "no complete answer came to 1 of 2 requests"),
        ],
        ids=["refused", "unknown"],
    )
    async def test_exit_code(self, folder: Folder, method: str, fault: Any, code: int, says: str) -> None:
        """The exit code tells what failed, and so it does when there is nothing left to resume."""
        folder.write(method, "GET")
        folder.sandbox.api.fail_next(1, fault)
        options = "--concurrency", "1", "--timeout", "0.5"
        for more in [], ["--resume"]:
            outcome = await folder.run(*options, *more)
            assert (code, f"simplestore: {says}\n") == (outcome.code, outcome.stderr)
        assert 2 == folder.sandbox.counters.api_requests
        assert [1, 2] == folder.lines

    async def test_resend_unknown(self, folder: Folder) -> None:
        """What is unknown is sent again only when that is said; its second result is the later line."""
        folder.write("POST")
        folder.sandbox.api.fail_next(1, Late(30))
        outcome = await folder.run("--timeout", "0.5")
        assert "send the unknown ones again with: simplestore batch" in outcome.stdout
        assert "--resend-unknown\n" in outcome.stdout

        outcome = await folder.run("--resume", "--resend-unknown")
        assert (0, "") == (outcome.code, outcome.stderr)
        assert ["unknown", "succeeded"] == [result["outcome"] for result in read_results(folder.results)]

    async def test_secrets(self, folder: Folder) -> None:
        """Neither token nor secret is in results, journal or output, even with --debug."""
        folder.write("POST", "GET")
        folder.sandbox.api.fail_next(1, Status(500))
        outcome = await simplestore("--debug", *folder.command, environment=folder.sandbox.environment)
        everything = outcome.stdout + outcome.stderr + folder.results.read_text() + folder.journal.read_text()
        assert "Bearer ***" in everything
        tokens = list(folder.sandbox._server.tokens._tokens)
        assert tokens
        assert not [token for token in [*tokens, "sandbox-secret"] if token in everything]


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["-"], "FILE cannot be standard input"),
            (["gone.jsonl"], "gone.jsonl"),
            (["FILE", "--resend-unknown"], "give --resume, too"),
            (["FILE", "--rate", "0"], "--rate"),
            (["FILE", "--concurrency", "0"], "--concurrency"),
        ],
        ids=str,
    )
    async def test_wrong(self, folder: Folder, arguments: list[str], says: str) -> None:
        """Wrong usage is one line on stderr."""
        folder.write("GET")
        words = [str(folder.file) if word == "FILE" else word for word in arguments]
        outcome = await simplestore("batch", *words, environment=folder.sandbox.environment)
        assert_one_line(outcome, code=2, says=says)

    async def test_json_on_stdout(self, folder: Folder) -> None:
        """Results and a summary in JSON would be one stream: that is wrong usage."""
        folder.write("GET")
        outcome = await simplestore("batch", str(folder.file), "--json", environment=folder.sandbox.environment)
        assert (2, "UsageError", "") == (outcome.code, outcome.error["type"], outcome.stdout)
        assert "name a file for the results with --output" in outcome.error["message"]

    async def test_no_folder(self, folder: Folder, tmp_path: Path) -> None:
        """A file that cannot be written is named."""
        folder.write("GET")
        path = str(tmp_path / "gone" / "results")
        outcome = await simplestore("batch", str(folder.file), "-o", path, environment=folder.sandbox.environment)
        assert_one_line(outcome, code=1, says=f"{path}: No such file or directory")
        assert not folder.journal.exists()

    async def test_no_settings(self, folder: Folder) -> None:
        """Without the environment nothing is looked at."""
        folder.write("GET")
        assert_one_line(await simplestore(*folder.command), code=2, says="SIMPLESTORE_BASE_URL is not set")

    async def test_bad_lines(self, folder: Folder) -> None:
        """Bad lines are told by their numbers, with what is wrong; nothing is sent, and nothing is written."""
        write_lines(folder.file, [make_line(1), {"id": 2}, make_line(3, headers={"X": "s3c\nr3t"}), make_line(1)])
        outcome = await folder.run()
        assert (2, "") == (outcome.code, outcome.stdout)
        assert [
            "line 2: method is missing",
            "line 3: headers: the value of X holds a line break or another character that is not text",
            "line 4: id is that of line 1, too",
        ] == outcome.stderr.splitlines()[:3]
        assert outcome.stderr.splitlines()[3].startswith("simplestore: nothing was sent: 3 of 4 lines of ")
        assert "s3c" not in outcome.stderr

        outcome = await folder.run("--json")
        assert {"problem": {"line": 2, "message": "method is missing"}} == json.loads(outcome.stderr.splitlines()[0])
        assert ("BatchFileError", 2) == (outcome.error["type"], outcome.error["exit_code"])
        assert not folder.journal.exists()
        assert not folder.results.exists()
        assert (0, 0) == (folder.sandbox.counters.token_requests, folder.sandbox.counters.api_requests)

    async def test_twice(self, folder: Folder) -> None:
        """A file is not sent again by mistake."""
        folder.write("POST")
        await folder.run()
        assert_one_line(await folder.run(), code=1, says="go on with --resume")
        assert 0 == (await folder.run("--resume")).code
        assert 1 == folder.sandbox.counters.api_requests

    async def test_refused_credentials(self, folder: Folder) -> None:
        """Refused credentials end it with one error; with the right ones the same is resumed."""
        folder.write(*["POST"] * 50)
        environment = folder.sandbox.environment | {"SIMPLESTORE_CLIENT_SECRET": "wr0ng"}
        outcome = await simplestore(*folder.command, environment=environment)
        assert 1 == outcome.code
        assert "Control Panel" in outcome.stderr
        assert 1 == outcome.stderr.count("\n")
        assert "50 remaining\ngo on with: simplestore batch " in outcome.stdout

        assert 0 == (await folder.run("--resume", "--cache", "--rate", "10000")).code
        assert list(range(1, 51)) == folder.lines


class TestInterrupted:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    async def test_once(self, folder: Folder, number: int, code: int) -> None:
        """A signal lets what is under way end, and says how to go on; going on does the rest."""
        folder.write(*["POST", "GET"] * 10)
        folder.sandbox.api.fail_for(0.5, Late(0.5))
        process = await folder.start("--concurrency", "4")
        await folder.requests_arrive(4)
        process.send_signal(number)
        outcome = await finish(process)

        assert code == outcome.code
        assert "stopping: what is under way has 10 s to end" in outcome.stderr
        assert "4 succeeded, 0 refused, 0 failed, 0 unknown, 16 remaining" in outcome.stdout
        assert f"go on with: simplestore batch {folder.file} --resume --output {folder.results}\n" in outcome.stdout
        assert 4 == len(folder.lines)
        assert 0 == (await folder.run("--resume")).code
        assert list(range(1, 21)) == folder.lines
        assert 20 == folder.sandbox.counters.api_requests

    async def test_twice(self, folder: Folder) -> None:
        """A second one ends it at once: what may have been done is unknown then."""
        folder.write(*["POST"] * 6)
        folder.sandbox.api.fail_next(2, Late(3_600))
        process = await folder.start("--concurrency", "2", "--json")
        await folder.requests_arrive(2)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"stopping" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        outcome = await finish(process)
        assert (130, True) == (outcome.code, outcome.json["is_stopped"])
        assert ("SigintError", 130) == (outcome.error["type"], outcome.error["exit_code"])

        outcome = await folder.run("--resume")
        assert 1 == outcome.code
        assert "4 succeeded, 0 refused, 0 failed, 2 unknown, 0 remaining" in outcome.stdout
        assert Counter(unknown=2, succeeded=4) == Counter(result["outcome"] for result in read_results(folder.results))
        assert 6 == folder.sandbox.counters.api_requests

    @pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.slow)])
    async def test_killed(self, folder: Folder, rounds: int) -> None:
        """Killed again and again: what reads has its result, what changes is sent once at most."""
        chance = random.Random(rounds)  # noqa: S311 - no secret
        folder.write(*[chance.choice(["GET", "POST", "PUT", "DELETE"]) for _ in range(rounds * 200)])
        folder.sandbox.api.fail_next(rounds * 200, Late(0.01))  # so that there is something left whenever it is killed
        for number in range(rounds):
            process = await folder.start(*(["--resume"] if folder.journal.exists() else []), "--concurrency", "5")
            arrived = folder.sandbox.counters.api_requests
            await folder.requests_arrive(arrived + chance.randrange(1, 8))
            process.kill()
            assert -signal.SIGKILL == (await finish(process)).code, number
        await folder.run("--resume")

        assert list(range(1, rounds * 200 + 1)) == folder.lines
        methods = {line["id"]: line["method"] for line in map(json.loads, folder.file.read_text().splitlines())}
        outcomes = {result["id"]: result["outcome"] for result in read_results(folder.results)}
        sent = Counter(int(request.path.rpartition("/")[2]) for request in folder.sandbox.api.requests)
        for id_, method in methods.items():
            assert outcomes[id_] in ({"succeeded"} if method == "GET" else {"succeeded", "unknown"})
            if method != "GET":
                assert sent[id_] <= 1
                assert sent[id_] == 1 or outcomes[id_] == "unknown"

    async def test_two_at_once(self, folder: Folder) -> None:
        """Two of them over one journal are one too many."""
        folder.write("GET")
        folder.sandbox.api.fail_next(1, Late(3_600))
        process = await folder.start()
        await folder.requests_arrive(1)
        assert_one_line(await folder.run("--resume"), code=1, says="another batch is at work")
        process.kill()
        await finish(process)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory(folder: Folder) -> None:
    """Neither requests nor results pile up: 20 000 take hardly more memory than 5 000."""
    peaks = {}
    for count in 5_000, 20_000:
        folder.write(*["GET"] * count)
        folder.journal.unlink(missing_ok=True)
        folder.results.unlink(missing_ok=True)
        program = (
            "import sys, resource; from simplestore_async.cli import main; sys.argv[1:] = sys.argv[2:]; code = main(); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
        )
        command = sys.executable, "-c", program, "-", *folder.command, "--concurrency", "50"
        outcome = await finish(await start(*command, environment=folder.sandbox.environment))
        assert 0 == outcome.code
        peaks[count] = int(outcome.stderr.splitlines()[-1])
    bytes_per_line = (peaks[20_000] - peaks[5_000]) * 1024 / 15_000
    assert bytes_per_line < 300, peaks  # of a request and its result, as objects, some 2 000 would be left


class TestOutput:
    async def test_closed_pipe(self, folder: Folder, tmp_path: Path) -> None:
        """A reader that goes away ends it cleanly, and it says how to go on."""
        folder.write(*["GET"] * 3_000)
        script = '{ simplestore batch "$1"; echo $? >"$2"; } | head -n 1'
        outcome = await shell(script, str(folder.file), str(tmp_path / "code"), environment=folder.sandbox.environment)

        assert 1 == outcome.stdout.count("\n")
        assert f"go on with: simplestore batch {folder.file} --resume\n" in outcome.stderr
        assert outcome.stderr.endswith("simplestore: whoever read the results went away\n")
        assert "1\n" == (tmp_path / "code").read_text()
        assert folder.sandbox.counters.api_requests < 3_000

    @pytest.mark.parametrize("blocks", [1, 8])
    async def test_full_disk(self, folder: Folder, blocks: int) -> None:
        """On a full disk nothing is sent that cannot be noted; with room again it goes on."""
        folder.write(*["POST"] * 100)
        script = f'ulimit -f {blocks}; simplestore batch "$1" -o "$2" --concurrency 3'
        outcome = await shell(script, str(folder.file), str(folder.results), environment=folder.sandbox.environment)

        assert 1 == outcome.code
        assert "cannot write what was sent, and so nothing more was sent: File too large" in outcome.stderr
        assert "go on with: " in outcome.stdout
        sent = folder.sandbox.counters.api_requests
        assert 0 < sent < 100

        outcome = await folder.run("--resume")
        results = read_results(folder.results)
        assert list(range(1, 101)) == folder.lines
        assert {"succeeded", "unknown"} == {result["outcome"] for result in results}
        assert 100 == folder.sandbox.counters.api_requests
        assert len([result for result in results if result["outcome"] == "unknown"]) <= 7 * 3

    async def test_plain(self, folder: Folder) -> None:
        """Where stderr is no terminal a pause is a line, without any sign of control."""
        folder.write("GET")
        folder.sandbox.api.fail_next(1, Status(429, retry_after=0.01))
        outcome = await folder.run()
        assert (0, "waiting 0.01 s: the API answers 429\n") == (outcome.code, outcome.stderr)


class TestTerminal:
    @pytest.mark.parametrize("color", ["", "1"])
    async def test_bar(self, folder: Folder, color: str) -> None:
        """In a terminal there is a bar with count, rate, failures and the time left, and news above it."""
        folder.write(*["GET"] * 30)
        folder.sandbox.api.fail_next(1, Status(429, retry_after=0.3))
        environment = folder.sandbox.environment | {"NO_COLOR": color}
        async with in_terminal(*COMMAND, *folder.command, environment=environment, columns=100) as terminal:
            assert 0 == await terminal.wait()
        for text in "30/30", "/s", "0 not succeeded", "left", "waiting 0.3 s: the API answers 429", "30 succeeded":
            assert text in terminal.shown
        assert bool(color) != ("\x1b[3" in terminal.shown or "\x1b[38" in terminal.shown)
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")  # the cursor is back

    async def test_plain(self, folder: Folder) -> None:
        """Results on a terminal, or --plain, mean no bar."""
        folder.write("GET")
        for options in ["batch", str(folder.file)], [*folder.command, "--journal", f"{folder.journal}2", "--plain"]:
            async with in_terminal(*COMMAND, *options, environment=folder.sandbox.environment, columns=100) as terminal:
                assert 0 == await terminal.wait()
            assert "1 succeeded" in terminal.shown
            assert "\x1b" not in terminal.shown

    @pytest.mark.slow
    async def test_progress_in_lines(self, folder: Folder) -> None:
        """Without a terminal a line each ten seconds tells how far it is, and how long it still takes."""
        folder.write(*["GET"] * 25)
        outcome = await folder.run("--rate", "2")

        assert 0 == outcome.code
        line, *others = outcome.stderr.splitlines()
        assert re.fullmatch(r"2[01] of 25, 2/s, 0 not succeeded, 0:00:0[1-3] left", line)
        assert not others

    async def test_ctrl_c(self, folder: Folder) -> None:
        """Ctrl-C, typed: it says that it stops, and how to go on; typed again it ends at once. The cursor is back."""
        folder.write(*["POST"] * 10)
        folder.sandbox.api.fail_next(2, Late(3_600))
        command = *COMMAND, *folder.command, "--concurrency", "2"
        async with in_terminal(*command, environment=folder.sandbox.environment, columns=100) as terminal:
            await folder.requests_arrive(2)
            terminal.type(b"\x03")
            await terminal.wait_for(lambda shown: "stopping: " in shown)
            terminal.type(b"\x03")
            assert 130 == await terminal.wait()
        assert "10 remaining" in terminal.shown
        assert "go on with: simplestore batch" in terminal.shown
        assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")

    async def test_nobody_reads(self, folder: Folder) -> None:
        """A pipe that nobody reads does not keep it from ending when told so twice."""
        folder.write(*["GET"] * 1_000)
        reader, writer = os.pipe()
        command = *COMMAND, "batch", str(folder.file)
        process = await start(*command, environment=folder.sandbox.environment, stdout=writer)
        os.close(writer)
        await folder.requests_arrive(200)  # whose results are more than the pipe takes
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert b"stopping" in await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert 143 == (await finish(process)).code
        os.close(reader)
