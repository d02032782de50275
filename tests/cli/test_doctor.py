"""`simplestore doctor`: lines, terminals, failures and secrecy."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from aiohttp import web

from tests.support.api_servers import answering, refusing_url
from tests.support.command import COMMAND, finish, patched, simplestore, start, start_simplestore
from tests.support.doctor import assert_row, doctor, failures_in, read_rows
from tests.support.platforms import needs_posix, needs_proc
from tests.support.servers import SECRET, ApiServer, TokenServer
from tests.support.terminals import in_terminal, on_terminal

NAMES: Final = "client secret, token URL, scope, base URL, characters, other variables, proxies, trusted CAs"


class TestLines:
    async def test_verbose(self, environment: dict[str, str]) -> None:
        """With `-v` each result has a line, in the order of `--json`, with advice below; the last line has totals."""
        environment["SIMPLESTORE_CLEINT_ID"] = "x"
        forced = {"FORCE_COLOR": "1", "COLUMNS": "20"}
        outcome = await simplestore("doctor", "--verbose", environment=environment | forced)
        lines = outcome.stdout.splitlines()
        rows = read_rows(await simplestore("doctor", "--json", environment=environment))

        assert (0, "") == (outcome.code, outcome.stderr)
        found = [re.fullmatch(r"(ok|warning|failed|skipped) +(.+?: .+?): (.+)", line) for line in lines]
        assert [*rows] == [match[2] for match in found if match]
        assert [row.state for row in rows.values()] == [match[1] for match in found if match]
        assert "         -> did you mean SIMPLESTORE_CLIENT_ID?" in lines
        assert re.fullmatch(r"\d+ checks: \d+ ok, 1 warning, 3 skipped", lines[-1])
        assert "\x1b" not in outcome.stdout

    async def test_folded(self, environment: dict[str, str]) -> None:
        """Passed checks are one line per subject, skipped ones one per reason."""
        environment["SIMPLESTORE_CLIENT_ID"] = ""
        lines = (await simplestore("doctor", environment=environment)).stdout.splitlines()
        for line in (
            f"ok       Settings: {NAMES}",
            "ok       Token endpoint: DNS, TCP, clock",
            "skipped  Token endpoint: TLS: plain http, on this machine only",
            "skipped  Token endpoint: token: not checked, because of Settings: client id",
            "ok       Installation: Python, packages, extras",
        ):
            assert line in lines

    async def test_failed(self, environment: dict[str, str]) -> None:
        """Failures are repeated at the end with their advice, and by name on stderr; the exit code is 1."""
        environment |= {"SIMPLESTORE_CLIENT_ID": "", "SIMPLESTORE_SCOPE": '"'}
        outcome = await simplestore("doctor", environment=environment)
        head, _, tail = outcome.stdout.partition("\nFailures:\n")

        assert 1 == outcome.code
        stderr = r"simplestore: 2 of \d+ checks failed: Settings: client id, Settings: scope\n"
        assert re.fullmatch(stderr, outcome.stderr)
        failures = [line for line in head.splitlines() if line.startswith("failed")]
        repeated = tail.splitlines()
        assert failures == [line for line in repeated if line.startswith("failed")]
        assert 2 == len(failures) == sum(line.startswith("         -> ") for line in repeated)
        assert re.fullmatch(r"\d+ checks: .* 2 failed, .* \(--verbose for details\)", repeated[-1])

    @needs_proc
    async def test_full_disk(self, environment: dict[str, str]) -> None:
        """A full disk is an error in one line, and leaves nothing running."""
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - it blocks nothing
            process = await start_simplestore("doctor", environment=environment, stdout=full.fileno())
        outcome = await finish(process)
        assert (1, "simplestore: No space left on device\n") == (outcome.code, outcome.stderr)

    @pytest.mark.slow
    async def test_ascii(self, environment: dict[str, str]) -> None:
        """An ASCII locale does not break the checklist."""
        environment |= {"SIMPLESTORE_CLIENT_ID": "ключ", "PYTHONIOENCODING": "ascii"}
        outcome = await finish(await start(*COMMAND, "doctor", "-v", environment=environment))

        assert 0 == outcome.code
        assert "Settings: client id: \\u043a" in outcome.stdout


@needs_posix
class TestTerminal:
    async def test_signs_and_words(self, environment: dict[str, str]) -> None:
        """A state is a sign and a word, under its subject; the lines fit the terminal."""
        environment |= {"SIMPLESTORE_CLIENT_ID": "", "SIMPLESTORE_CLEINT_ID": "x"}
        output = await on_terminal("doctor", environment=environment)
        text = re.sub(r"\x1b\[[\d;]*m", "", output).replace("\r", "")

        assert text != output.replace("\r", "")
        assert text.startswith("Settings\n  ✗ failed   client id: SIMPLESTORE_CLIENT_ID is empty, which counts as not")
        for line in (
            r"  ! warning  other variables: not read: SIMPLESTORE_CLEINT_ID",
            r" +→ did you mean SIMPLESTORE_CLIENT_ID\?",
            r"  - skipped  token: not checked, because of Settings: client id",
            r"Shared tokens",
            r"  ✓ ok       directory, key, files",
            r"Failures:\n  ✗ failed   Settings: client id: .*",
        ):
            assert re.search(f"^{line} *$", text, re.MULTILINE), line
        assert max(map(len, text.splitlines()[:-1])) <= 80
        assert not re.search(r"\w-?\n +\w+_", text)

    @pytest.mark.slow
    async def test_dumb(self, environment: dict[str, str]) -> None:
        """A dumb terminal gets plain lines."""
        output = await on_terminal("doctor", environment=environment | {"TERM": "dumb"})
        assert "ok       Settings: client id, " in output
        assert "\x1b" not in output

    async def test_ctrl_c(self, token_server: TokenServer, environment: dict[str, str]) -> None:
        """Ctrl-C during a token request ends the command with 130 and no traceback."""
        token_server.gate.clear()
        async with in_terminal("doctor", environment=environment) as terminal:
            await token_server.arrived.wait()
            terminal.type(b"\x03")
            assert 130 == await terminal.wait()
        token_server.gate.set()

        assert "Settings" in terminal.shown
        assert "Traceback" not in terminal.shown


class TestBrokenCheck:
    async def test_goes_on(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A check that raises an unexpected error fails with its type only; the others continue."""

        def fail(*_: object, **__: object) -> NoReturn:
            raise LookupError("canary")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        rows = await doctor(environment=environment)

        row = rows["Token endpoint: DNS"]
        assert_row(row, state="failed", says="the check itself failed: LookupError", advises="doctor --debug")
        assert "canary" not in str(row)
        assert ["Token endpoint: DNS", "API: DNS"] == failures_in(rows)
        assert "ok" == rows["Installation: extras"].state

    @pytest.mark.slow
    async def test_debug(self, environment: dict[str, str]) -> None:
        """With `--debug` its stack is printed, without the text of its error."""
        patch = "import socket\ndef fail(*_, **__): raise LookupError('can' + 'ary')\nsocket.getaddrinfo = fail"
        outcome = await patched(patch, "--debug", "doctor", environment=environment)

        assert "DEBUG simplestore_async: doctor: Token endpoint: DNS: LookupError\n" in outcome.stderr
        assert "in _resolve\n" in outcome.stderr
        assert "canary" not in outcome.stdout + outcome.stderr


SETTINGS: Final = {
    "none": {},
    "user in URLs": {
        "TOKEN_URL": "https://user:canary@a.invalid/",
        "BASE_URL": "https://canary@a.invalid/",
        "CLIENT_SECRET": f"{SECRET}\n",
    },
    "query": {
        "TOKEN_URL": "https://a.invalid/?key=canary",
        "BASE_URL": "https://a.invalid/?canary",
        "CLIENT_SECRET": f"'{SECRET}'",
    },
    "slash in a password": {"TOKEN_URL": "https://user:canary/x@a.invalid/", "CLIENT_SECRET_FILE": "/x"},
    "refused": {"TOKEN_URL": refusing_url(), "CACHE_KEY": "canary"},
}
RESPONSES: Final = {
    "echo": (400, json.dumps({"error": "invalid_client", "error_description": SECRET, "title": SECRET})),
    "scope": (200, json.dumps({"access_token": "canary-token", "scope": f"{SECRET} canary-token"})),
    "odd token": (200, json.dumps({"access_token": "canary token", "expires_in": 3600})),
    "garbage": (200, f"<html>{SECRET}"),
    "empty": (503, SECRET),
}


class TestSecrecy:
    @pytest.fixture
    def secrets(self, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
        """Canaries in place of every secret."""
        path = tmp_path / "home" / "simplestore-async"
        path.mkdir(0o700, parents=True)
        (path / f"token-v2-{'0' * 64}.json").write_text("canary")
        return environment | {
            "HTTPS_PROXY": "http://user:canary/proxy@proxy.invalid:3128",
            "http_proxy": "canary",
            "SIMPLESTORE_SECRET": "canary",
            "SIMPLESTORE_REDIS_URL": "redis://:canary@redis.invalid/0",
        }

    @pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
    async def test_settings(self, secrets: dict[str, str], settings: dict[str, str]) -> None:
        """For any wrong setting."""
        await assert_nothing_is_shown(secrets | {f"SIMPLESTORE_{name}": value for name, value in settings.items()})

    async def test_text(self, secrets: dict[str, str]) -> None:
        """In the checklist, with every finding."""
        await assert_nothing_is_shown(secrets, "-v")

    @pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
    async def test_responses(self, token_server: TokenServer, secrets: dict[str, str], response: Any) -> None:
        """For any response of the token endpoint."""
        status, text = response
        token_server.handler = answering(status=status, text=text, headers={"Date": "canary"})
        await assert_nothing_is_shown(secrets)

    async def test_api(self, api_server: ApiServer, secrets: dict[str, str]) -> None:
        """For any response of the API."""

        async def handle(request: web.Request) -> web.StreamResponse:
            token = request.headers["Authorization"]
            return web.Response(status=404, reason=token, text=token, headers={"WWW-Authenticate": token})

        api_server.handler = handle
        await assert_nothing_is_shown(secrets)


async def assert_nothing_is_shown(environment: dict[str, str], option: str = "--json") -> None:
    outcome = await simplestore("--debug", "doctor", option, environment=environment)
    assert ("Traceback" in outcome.stderr) is bool(outcome.code)
    assert ('"facts"' if option == "--json" else " checks: ") in outcome.stdout
    assert "canary" not in outcome.stdout + outcome.stderr
