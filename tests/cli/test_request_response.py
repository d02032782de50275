"""`simplestore request`: output of the response, and of a failure."""

from __future__ import annotations

import asyncio
import base64
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.support.api_servers import answering, redirecting, refusing_url
from tests.support.command import assert_one_line, finish, read_line, shell, simplestore, start_simplestore
from tests.support.platforms import needs_posix, needs_proc
from tests.support.raw_server import RawServer
from tests.support.wire_faults import hangs_after, says

if TYPE_CHECKING:
    from tests.support.raw_server import Script
    from tests.support.servers import ApiServer, TokenServer

BODY = bytes(range(256)) * 16


class TestResponse:
    async def test_compressed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A compressed body is decompressed."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.Response(body=BODY)
            response.enable_compression(web.ContentCoding.gzip)
            return response

        api_server.handler = handle
        process = await start_simplestore("request", "GET", "x", "-i", environment=environment)
        stdout, _ = await process.communicate()

        assert b"Content-Encoding: gzip" in stdout
        assert stdout.endswith(b"\r\n\r\n" + BODY)

    async def test_as_it_comes(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Each part of the body is printed when it arrives."""
        may_go_on = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"first\n")
            await may_go_on.wait()
            await response.write(b"second\n")
            return response

        api_server.handler = handle
        process = await start_simplestore("request", "GET", "x", environment=environment)
        assert "first\n" == await read_line(process.stdout)
        may_go_on.set()
        assert (0, "second\n") == ((outcome := await finish(process)).code, outcome.stdout)

    async def test_include(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--include` prints the status line and every header before the body, as curl does."""
        two = CIMultiDict([("X-Two", "a"), ("X-Two", "b")])
        api_server.handler = answering(status=203, reason="Fine So Far", text="body", headers=two)
        process = await start_simplestore("request", "GET", "x", "--include", environment=environment)
        stdout, _ = await process.communicate()
        head, _, body = stdout.partition(b"\r\n\r\n")

        assert b"HTTP/1.1 203 Fine So Far" == head.split(b"\r\n")[0]
        assert [b"X-Two: a", b"X-Two: b"] == [line for line in head.split(b"\r\n") if line.startswith(b"X-")]
        assert b"body" == body

    @pytest.mark.parametrize(
        ("status", "code", "stderr"),
        [
            (304, 0, ""),
            (404, 22, "simplestore: 404 Not Found\n"),
            (503, 22, "simplestore: 503 Service Unavailable\n"),
        ],
    )
    async def test_status(
        self, api_server: ApiServer, environment: dict[str, str], status: int, code: int, stderr: str
    ) -> None:
        """From status 400 on the exit code is 22, stderr names the status, and the body is still printed."""
        body = "" if status == 304 else "why"
        api_server.handler = answering(status=status, text=body or None)
        outcome = await simplestore("request", "GET", "x", environment=environment)
        assert (code, body, stderr) == (outcome.code, outcome.stdout, outcome.stderr)

    async def test_hostile_reason(self, environment: dict[str, str]) -> None:
        """A hostile reason phrase on stderr cannot move the cursor."""
        async with RawServer(says(b"HTTP/1.1 400 a\x1b[2Jb\r\nContent-Length: 0\r\n\r\n")) as server:
            elsewhere = environment | {"SIMPLESTORE_BASE_URL": server.url}
            outcome = await simplestore("request", "GET", "x", environment=elsewhere)
        assert (22, "simplestore: 400 a\\x1b[2Jb\n") == (outcome.code, outcome.stderr)

    async def test_head(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """HEAD has a response without body; `--output -` is standard output."""
        outcome = await simplestore("request", "head", "x", "-o", "-", environment=environment)
        assert (0, "", "HEAD") == (outcome.code, outcome.stdout, api_server.requests[0].method)


class TestOutput:
    async def test_file(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """`--output` writes everything to a file, also an empty body."""
        options = "-o", str(tmp_path / "out"), "-i"
        api_server.handler = answering(body=BODY)
        outcome = await simplestore("request", "GET", "x", *options, environment=environment)

        assert (0, "", "") == (outcome.code, outcome.stdout, outcome.stderr)
        assert (tmp_path / "out").read_bytes().startswith(b"HTTP/1.1 200 OK\r\n")
        assert (tmp_path / "out").read_bytes().endswith(b"\r\n\r\n" + BODY)

        api_server.handler = answering(status=204)
        await simplestore("request", "GET", "x", "-o", str(tmp_path / "empty"), environment=environment)
        assert b"" == (tmp_path / "empty").read_bytes()

    async def test_no_response(self, environment: dict[str, str], tmp_path: Path) -> None:
        """Without a response the file is unchanged; with `--json` stdout is empty, and the error is an object."""
        (tmp_path / "out").write_text("before")
        nowhere = environment | {"SIMPLESTORE_BASE_URL": refusing_url()}
        await simplestore("request", "GET", "x", "-o", str(tmp_path / "out"), environment=nowhere)
        assert "before" == (tmp_path / "out").read_text()

        outcome = await simplestore("request", "GET", "x", "--json", environment=nowhere)
        assert (1, "") == (outcome.code, outcome.stdout)
        assert ("RequestError", 1) == (outcome.error["type"], outcome.error["exit_code"])
        assert outcome.error["message"].startswith("cannot connect to 127.0.0.1:")

    async def test_no_such_directory(self, environment: dict[str, str], tmp_path: Path) -> None:
        """A file that cannot be created: exit code 1, and the file is named."""
        path = str(tmp_path / "gone" / "out")
        outcome = await simplestore("request", "GET", "x", "-o", path, environment=environment)
        assert_one_line(outcome, code=1, says=path)

    @needs_posix
    async def test_closed_pipe(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A closed output pipe ends the command silently."""
        api_server.handler = answering(body=b"line\n" * 1_000_000)
        outcome = await shell("simplestore request GET x | head -n 1", environment=environment)
        assert ("line\n", "") == (outcome.stdout, outcome.stderr)

    @needs_proc
    async def test_full_disk(self, environment: dict[str, str]) -> None:
        """On a full disk: exit code 1, and the reason."""
        with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - it blocks nothing
            process = await start_simplestore("request", "GET", "x", environment=environment, stdout=full.fileno())
        outcome = await finish(process)
        assert_one_line(outcome, code=1, says="No space left on device")

    @needs_posix
    async def test_closed_streams(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Closed standard streams count as empty ones."""
        outcome = await shell("simplestore request POST x --data - <&- >&- 2>&-; echo $?", environment=environment)

        assert ("0\n", "") == (outcome.stdout, outcome.stderr)
        assert [b""] == [request.body for request in api_server.requests]


class TestRedirects:
    async def test_not_followed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A redirect is not followed by default: exit code 0."""
        api_server.handler = redirecting(api_server, {"/v1/x": "/v1/y"})
        outcome = await simplestore("request", "GET", "x", "-i", environment=environment)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert "Location: /v1/y" in outcome.stdout
        assert 1 == len(api_server.requests)

    async def test_followed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--location` follows it, with the token within the API's origin."""
        api_server.handler = redirecting(api_server, {"/v1/x": "/v1/y"})
        outcome = await simplestore("request", "GET", "x", "-L", environment=environment)

        assert (0, '{"path": "/v1/y"}') == (outcome.code, outcome.stdout)
        assert ["canary-token-1", "canary-token-1"] == api_server.tokens


class TestJson:
    async def test_text(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--json` prints the response as one object; headers of one name are a list."""
        two = CIMultiDict([("X-Two", "a"), ("X-Two", "b")])
        api_server.handler = answering(text="ключ", reason="Fine", headers=two)
        outcome = await simplestore("request", "GET", "x", "--json", environment=environment)

        assert outcome.stdout.isascii()
        response = outcome.json
        headers = response.pop("headers")
        assert {"status": 200, "reason": "Fine", "body": "ключ", "is_base64": False} == response
        assert (["a", "b"], ["text/plain; charset=utf-8"]) == (headers["x-two"], headers["content-type"])

    async def test_bytes(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A body other than UTF-8 is in base64."""
        api_server.handler = answering(body=BODY)
        response = (await simplestore("request", "GET", "x", "--json", environment=environment)).json

        assert response["is_base64"]
        assert BODY == base64.b64decode(response["body"])

    async def test_status(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """From status 400 on the response is printed, and the error is an object on stderr."""
        api_server.handler = answering(status=404, text="why")
        outcome = await simplestore("request", "GET", "x", "--json", environment=environment)

        assert (22, 404, "why") == (outcome.code, outcome.json["status"], outcome.json["body"])
        assert {"type": "StatusError", "message": "404 Not Found", "exit_code": 22} == outcome.error


class TestFailure:
    @pytest.mark.parametrize(
        ("script", "stdout"),
        [
            (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "half"),
            (says(b"220 mail.example ESMTP\r\n"), ""),
            (says(), ""),
        ],
        ids=["cut", "smtp", "closed"],
    )
    async def test_broken_response(self, environment: dict[str, str], script: Script, stdout: str) -> None:
        """A truncated or invalid response: exit code 1; the part received is printed."""
        async with RawServer(script) as broken:
            elsewhere = environment | {"SIMPLESTORE_BASE_URL": broken.url}
            outcome = await simplestore("request", "GET", "x", environment=elsewhere)

        assert (1, stdout) == (outcome.code, outcome.stdout)
        assert outcome.stderr.startswith("simplestore: no complete response: ")
        assert 1 == outcome.stderr.count("\n")

    @pytest.mark.parametrize("variable", ["SIMPLESTORE_BASE_URL", "SIMPLESTORE_TOKEN_URL"])
    async def test_timeout(self, environment: dict[str, str], variable: str) -> None:
        """An API or a token endpoint that does not respond: exit code 1 after the time limit."""
        async with RawServer(hangs_after(), reads_first=False) as silent:
            elsewhere = environment | {variable: f"{silent.url}/"}
            outcome = await simplestore("request", "GET", "x", "--timeout", "0.3", environment=elsewhere)
        assert_one_line(outcome, code=1, says="no complete response within 0.3 s (--timeout)")

    @needs_posix
    async def test_interrupted(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]
    ) -> None:
        """Ctrl-C ends it at once, with 130 and no traceback."""
        token_server.gate.clear()
        process = await start_simplestore("request", "GET", "x", environment=environment)
        await token_server.arrived.wait()
        process.send_signal(signal.SIGINT)
        outcome = await finish(process)
        token_server.gate.set()

        assert (130, "", "") == (outcome.code, outcome.stdout, outcome.stderr.strip())
        assert [] == api_server.requests
