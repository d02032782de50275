"""Options common to all commands: `--json`, `--debug` and `--help`; colours and completion."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.command import finish, patch_program, simplestore, start, start_simplestore
from tests.support.platforms import needs_bash, needs_posix, needs_proc
from tests.support.terminals import on_terminal

if TYPE_CHECKING:
    from simplestore_async.sandbox import Sandbox


# The command with a demo whose server refuses the first token request.
REFUSED = patch_program("""from simplestore_async.sandbox import Sandbox, Status
enter = Sandbox.__aenter__
async def enter_and_fail(self): await enter(self); self.fail_next(1, Status(400)); return self
Sandbox.__aenter__ = enter_and_fail""")
ONE_REQUEST = "demo", "--requests", "1", "--processes", "1"


class TestJsonErrors:
    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            (["token", "--json", "--shwo"], "UsageError"),
            (["tokens", "--json"], "UsageError"),
            (["cache", "--json"], "UsageError"),
            (["token", "--json"], "ConfigurationError"),
            (["token", "--json", "--header"], "UsageError"),
            (["request", "GET", "x", "--json"], "ConfigurationError"),
            (["request", "GET", "x", "--json", "--include"], "UsageError"),
            (["request", "GET", "x", "--json", "--output", "out"], "UsageError"),
            (["sandbox", "--json", "--client", ""], "ConfigurationError"),
            (["demo", "--json", "--duration", "1"], "UsageError"),
            (["batch", "-", "--json"], "UsageError"),  # without --output results and summary would share stdout
        ],
    )
    async def test_type(self, arguments: list[str], kind: str) -> None:
        """With `--json` an error, also of usage, is one object on stderr; stdout is empty."""
        outcome = await simplestore(*arguments)

        assert (2, "", 1) == (outcome.code, outcome.stdout, outcome.stderr.count("\n"))
        error = outcome.error
        assert error.pop("message")
        assert {"type": kind, "exit_code": 2} == error

    @needs_proc
    async def test_full_disk(self) -> None:
        """An error of the operating system is an OSError."""
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - it blocks nothing
            process = await start_simplestore("cache", "path", "--json", stdout=full.fileno())
        error = (await finish(process)).error
        assert {"type": "OSError", "message": "No space left on device", "exit_code": 1} == error


class TestDebug:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--debug", "token", "--json"],
            ["token", "--debug", "--json"],
            ["token", "--json", "--debug"],
            ["--debug", "token", "--json", "--debug"],
        ],
    )
    async def test_success(self, sandbox: Sandbox, arguments: list[str]) -> None:
        """`--debug`, before and after the command, logs to stderr once, and leaves stdout unchanged."""
        outcome = await simplestore(*arguments, environment=sandbox.environment)

        assert "Bearer" == outcome.json["token_type"]
        started, received = outcome.stderr.splitlines()
        assert "DEBUG simplestore_async: renewal started: first" == started
        assert received.startswith("DEBUG simplestore_async: token received from endpoint")

    @pytest.mark.parametrize("arguments", [["token"], ["sandbox", "--client", ""]])
    async def test_json_error(self, arguments: list[str]) -> None:
        """With `--json` the last line is still the object."""
        outcome = await simplestore("--debug", *arguments, "--json")
        assert "Traceback" in outcome.stderr
        assert "ConfigurationError" == outcome.error["type"]

    @needs_posix
    @pytest.mark.slow
    async def test_demo(self) -> None:
        """The demo's processes log under their numbers, without a live display."""
        output = await on_terminal("--debug", *ONE_REQUEST, environment={"TERM": "xterm-256color", "NO_COLOR": ""})

        assert "process 1: DEBUG simplestore_async: renewal started: first" in output
        assert "1 of 1 requests, " in output
        assert "\x1b" not in output

    @pytest.mark.parametrize("arguments", [["cache", "--debug", "list"], ["cache", "list", "--debug"]], ids=str)
    async def test_group(self, arguments: list[str]) -> None:
        """Groups and their commands accept `--debug`."""
        assert 0 == (await simplestore(*arguments)).code


def styles_in(output: str) -> list[str]:
    """Return the sequences that set colour, weight and the like (ECMA-48 8.3.117)."""
    return re.findall(r"\x1b\[[\d;:]*m", output)


class TestColour:
    @needs_posix
    @pytest.mark.parametrize(
        "arguments",
        [["token"], ["doctor"], ["sandbox", "--port", "x"], pytest.param(ONE_REQUEST, marks=pytest.mark.slow)],
        ids=str,
    )
    async def test_no_color(self, sandbox: Sandbox, arguments: list[str]) -> None:
        """With NO_COLOR a terminal gets neither colours nor other styles, even where colour is forced."""
        environment = sandbox.environment | {"TERM": "xterm-256color", "NO_COLOR": "1", "FORCE_COLOR": "1"}
        output = await on_terminal(*arguments, environment=environment)

        assert output
        assert [] == styles_in(output)

    @pytest.mark.slow
    @needs_posix
    @pytest.mark.parametrize(("program", "failed"), [((), 0), (REFUSED, 1)], ids=["succeeds", "fails"])
    async def test_color(self, program: tuple[str, ...], failed: int) -> None:
        """The demo's live display has colours, and red failures."""
        environment = {"TERM": "xterm-256color", "NO_COLOR": "", "PYTHONIOENCODING": "utf-8"}
        output = await on_terminal(*ONE_REQUEST, environment=environment, program=program)

        assert styles_in(output)
        assert bool(failed) == (f"\x1b[31m{failed} failed" in output)
        assert f"{failed} failed" in output

    @pytest.mark.parametrize("arguments", [["--help"], ["token"], ["token", "--shwo"]])
    async def test_no_terminal(self, sandbox: Sandbox, arguments: list[str]) -> None:
        """Without a terminal there is no escape sequence, even where colour is forced."""
        environment = sandbox.environment | {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
        outcome = await simplestore(*arguments, environment=environment)
        assert "\x1b" not in outcome.stdout + outcome.stderr


class TestDemo:
    async def test_json(self) -> None:
        """`demo --json` prints the final table as one object, and nothing else."""
        outcome = await simplestore(*ONE_REQUEST, "--json", environment={"FORCE_COLOR": "1"})
        figures = outcome.json

        assert (0, "") == (outcome.code, outcome.stderr)
        assert (1, 20, False) == (figures["processes"], figures["token_lifetime_seconds"], figures["has_revoked"])
        assert figures["duration_seconds"] > 0
        once, never = ("token_requests", "tokens_issued", "api_requests"), ("failures", "refusals", "unauthorized")
        assert dict.fromkeys(once, 1) | dict.fromkeys(never, 0) == figures["server"]
        assert figures["callers"].pop("slowest_seconds") > 0
        assert {"requests": 1, "succeeded": 1, "failed": 0} == figures["callers"]

    @needs_posix
    @pytest.mark.slow
    async def test_next_steps(self, tmp_path: Path) -> None:
        """The next steps work when pasted, also if the command is not on PATH."""
        script = tmp_path / "my programs" / "simplestore"
        script.parent.mkdir()
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom simplestore_async.cli import main\nsys.exit(main())\n")
        script.chmod(0o755)
        _, _, steps = (await finish(await start(str(script), *ONE_REQUEST))).stdout.partition("your own shell:\n")
        stop = 'kill "$(sed "s/.*process \\([0-9]*\\).*/\\1/" "$1")"'
        pasted = await finish(await start("/bin/sh", "-c", f'exec 2>"$1"\n{steps}{stop}', "sh", str(tmp_path / "log")))

        assert 0 == pasted.code
        assert "type           Bearer\n" in pasted.stdout
        assert '"path": "/api/orders/42"' in pasted.stdout

    @pytest.mark.slow
    @needs_posix
    async def test_final_rate(self) -> None:
        """The last state of the live display has the average rate."""
        output = await on_terminal("demo", "--requests", "200", "--duration", "3", environment={"NO_COLOR": ""})
        rates = re.findall(r"(\d+)/s", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", output))
        assert 0 < int(rates[-2])

    @pytest.mark.slow
    async def test_failed(self) -> None:
        """If requests fail, the figures are still printed and the error is an object on stderr."""
        outcome = await finish(await start(*REFUSED, *ONE_REQUEST, "--json"))

        assert (1, 1) == (outcome.code, outcome.json["callers"]["failed"])
        assert ("CommandError", 1) == (outcome.error["type"], outcome.error["exit_code"])
        assert outcome.error["message"].startswith("1 of 1 requests failed; first failure: ")


class TestCompletion:
    @pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
    async def test_script(self, name: str) -> None:
        """Each shell has a script that queries this command; `--json` prints it in an object."""
        outcome = await simplestore("completion", name)
        assert 0 == outcome.code
        assert f"_SIMPLESTORE_COMPLETE={name}_complete" in outcome.stdout
        assert {"shell": name, "script": outcome.stdout} == (await simplestore("completion", name, "--json")).json

    @pytest.mark.parametrize(
        ("words", "offered"),
        [("to", {"token"}), ("request p", {"post", "put", "patch"}), ("cache list --di", {"--directory"})],
    )
    async def test_offers(self, words: str, offered: set[str]) -> None:
        """Commands, options and arguments are completed."""
        query = {"COMP_WORDS": f"simplestore {words}", "COMP_CWORD": str(len(words.split()))}
        outcome = await simplestore(environment=query | {"_SIMPLESTORE_COMPLETE": "bash_complete"})
        assert offered == {line.removeprefix("plain,").lower() for line in outcome.stdout.splitlines()}

    @needs_bash
    @pytest.mark.slow
    async def test_bash(self, tmp_path: Path) -> None:
        """In bash the script completes."""
        script = (
            'eval "$(simplestore completion bash)"; COMP_WORDS=(simplestore cache ""); COMP_CWORD=2; '
            '_simplestore_completion simplestore; echo "${COMPREPLY[@]}"'
        )
        # The script calls the command by `env`, which knows no functions of the shell.
        command = tmp_path / "simplestore"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m simplestore_async.cli "$@"\n')
        command.chmod(0o755)
        path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        outcome = await finish(await start("bash", "--norc", "-c", script, environment=path))

        assert (0, "") == (outcome.code, outcome.stderr)
        assert ["clear", "list", "path"] == sorted(outcome.stdout.split())


COMMANDS = (
    *("", "token", "request", "batch", "cache", "cache list", "cache clear", "cache path"),
    *("sandbox", "demo", "completion", "doctor"),
)
# Required lines of the help.
LINES = {
    "": [
        *("  0    done", "  1    no token", "  2    wrong usage or settings", "  22   the API responded 4xx or 5xx"),
        "  130  interrupted",
    ],
    "doctor": ["  0    every check passed, perhaps with warnings", "  1    a check failed"],
    "completion": [
        '  bash  add to ~/.bashrc:\n          eval "$(simplestore completion bash)"\n',
        "            > ~/.config/fish/completions/simplestore.fish\n",
    ],
    "sandbox": ['eval "$(simplestore sandbox &)"'],
}


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    async def test_command(self, command: str) -> None:
        """Each help is ASCII, fits 80 columns, breaks no word, and names the command and `--json`."""
        outcome = await simplestore(*command.split(), "--help")
        wide = (await simplestore(*command.split(), "--help", environment={"COLUMNS": "200"})).stdout

        assert (0, "", True) == (outcome.code, outcome.stderr, outcome.stdout.isascii())
        assert f"Usage: simplestore {command}".strip() in outcome.stdout
        assert command == "batch" or max(map(len, outcome.stdout.splitlines())) <= 80  # it shows a line of a file
        assert not re.search(r"[\w]-\n", outcome.stdout)
        assert wide.split() == outcome.stdout.split()
        assert ("--json" in outcome.stdout) == (command != "cache")
        assert [] == [line for line in LINES.get(command, []) if line not in outcome.stdout]

    @pytest.mark.parametrize("arguments", [[], ["cache"]])
    async def test_bare(self, arguments: list[str]) -> None:
        """A group without a command prints its help."""
        outcome = await simplestore(*arguments)
        assert outcome == await simplestore(*arguments, "--help")
        assert 0 == outcome.code

    @pytest.mark.slow
    async def test_without_docstrings(self) -> None:
        """`-OO` does not change the help."""
        command = sys.executable, "-OO", "-m", "simplestore_async.cli", "--help"
        assert await simplestore("--help") == await finish(await start(*command))

    async def test_summaries(self) -> None:
        """Each command has a summary of one line."""
        outcome = await simplestore()
        _, _, commands = outcome.stdout.partition("Commands:\n")
        summaries = commands.partition("\n\n")[0].splitlines()
        assert 8 == len(summaries)
        assert all(re.fullmatch(r"  [a-z]+ +[A-Z].*\.", line) for line in summaries)
