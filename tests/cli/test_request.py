"""`simplestore request`, run as a user runs it, against real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.api_servers import RawServer, redirecting, refusing_url
from tests.support.command import COMMAND, assert_one_line, finish, shell, simplestore, start
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.servers import Handler

BODY = bytes(range(256)) * 16


@pytest.fixture
def environment(token_server: TokenServer, api_server: ApiServer, tmp_path: Path) -> dict[str, str]:
    return {
        "SIMPLESTORE_CLIENT_ID": "app",
        "SIMPLESTORE_CLIENT_SECRET": SECRET,
        "SIMPLESTORE_TOKEN_URL": token_server.token_url,
        "SIMPLESTORE_BASE_URL": f"{api_server.url}/v1",
        "XDG_CACHE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path / "home"),
    }


def answering(**response: Any) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    return handle


class TestData:
    @pytest.mark.parametrize("text", ['{"state": "canary"}', "[1]", '"canary"', '{"' + "x" * 10_000])
    async def test_json_as_file(self, environment: dict[str, str], text: str) -> None:
        """JSON in the place of a file leads to `-`; it is not shown, and nothing is sent."""
        outcome = await simplestore("request", "PUT", "orders/42", "--data", text, environment=environment)
        assert_one_line(
            outcome, code=2, says="to send text, pipe it: echo '…' | simplestore request METHOD PATH --data -"
        )
        assert "canary" not in outcome.stderr

    async def test_missing_file(self, environment: dict[str, str]) -> None:
        """A file that is not there is named, with the hint at standard input."""
        outcome = await simplestore("request", "PUT", "orders/42", "--data", "order.json", environment=environment)
        assert_one_line(outcome, code=2, says="'order.json': No such file or directory; `-` reads standard input")


class TestTarget:
    async def test_get(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """The body is printed, and nothing else; the request carried the token."""
        outcome = await simplestore("request", "GET", "orders/42", environment=environment)

        assert (0, '{"path": "/v1/orders/42"}', "") == (outcome.code, outcome.stdout, outcome.stderr)
        assert ["canary-token-1"] == api_server.tokens
        assert [("GET", b"")] == [(request.method, request.body) for request in api_server.requests]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/orders", "/v1/orders"),
            ("//evil.example/orders", "/v1/evil.example/orders"),
            ("orders:42", "/v1/orders:42"),
            ("a ключ", "/v1/a ключ"),
            ("../v2/orders", "/v2/orders"),
            ("?page=2", "/v1/"),
        ],
    )
    async def test_relative(self, api_server: ApiServer, environment: dict[str, str], path: str, expected: str) -> None:
        """A path of any form is joined to the base URL, and never leads to another host."""
        await simplestore("request", "get", path, environment=environment)

        assert [expected] == [request.path for request in api_server.requests]
        assert ["page=2" if "?" in path else ""] == [request.query for request in api_server.requests]

    async def test_whole_url(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A URL of the base URL's origin may be given whole."""
        outcome = await simplestore("request", "GET", f"{api_server.url}/v2?page=2", environment=environment)

        assert 0 == outcome.code
        assert [("/v2", "page=2")] == [(request.path, request.query) for request in api_server.requests]

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("https://evil.example/orders", "PATH leads to https://evil.example"),
            ("HTTP://127.0.0.1:1/orders", "PATH leads to http://127.0.0.1:1"),
            ("http://user:pass@127.0.0.1/", "PATH must not have a user name"),
            ("ftp://127.0.0.1/", "PATH must be an absolute URL that starts with https://"),
            ("http://[/", "PATH is not a URL"),
        ],
    )
    async def test_elsewhere(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], url: str, says: str
    ) -> None:
        """A URL of another origin, or none: exit code 2, and nothing is sent to anybody."""
        assert_one_line(await simplestore("request", "GET", url, environment=environment), code=2, says=says)
        assert [] == token_server.requests + api_server.requests

    async def test_no_base_url(self, environment: dict[str, str]) -> None:
        """Without a base URL: exit code 2, and the variable is named."""
        outcome = await simplestore("request", "GET", "x", environment=environment | {"SIMPLESTORE_BASE_URL": ""})
        assert_one_line(outcome, code=2, says="SIMPLESTORE_BASE_URL is not set")

    @pytest.mark.parametrize("path", ["orders", "http://127.0.0.1/"])
    async def test_wrong_base_url(self, environment: dict[str, str], path: str) -> None:
        """A base URL that cannot be right: exit code 2, and the variable is named."""
        wrong = environment | {"SIMPLESTORE_BASE_URL": "http://api.example"}
        outcome = await simplestore("request", "GET", path, environment=wrong)
        assert_one_line(outcome, code=2, says="SIMPLESTORE_BASE_URL uses plain http")

    async def test_no_token(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]
    ) -> None:
        """If no token can be obtained: exit code 1, and the request is not sent."""
        token_server.replies = [{"error": "invalid_client"}]
        outcome = await simplestore("request", "GET", "x", environment=environment)

        assert_one_line(outcome, code=1, says="Control Panel")
        assert [] == api_server.requests


class TestBody:
    @pytest.mark.parametrize(
        "source", ["file", "stdin", *(pytest.param(name, marks=pytest.mark.slow) for name in ("file as stdin", "pipe"))]
    )
    async def test_body(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path, source: str) -> None:
        """A body arrives byte for byte; if the token is rejected, once more with another token."""
        (tmp_path / "body").write_bytes(BODY)
        api_server.rejected = {"canary-token-1"}
        script = {
            "file": 'simplestore request POST orders --data "$1"',
            "stdin": 'cat "$1" | simplestore request POST orders --data -',
            "file as stdin": 'simplestore request POST orders --data - <"$1"',
            "pipe": 'mkfifo "$1.pipe"; cat "$1" >"$1.pipe" & simplestore request POST orders --data "$1.pipe"',
        }[source]
        outcome = await shell(script, str(tmp_path / "body"), environment=environment)

        assert (0, '{"path": "/v1/orders"}', "") == (outcome.code, outcome.stdout, outcome.stderr)
        assert ["canary-token-1", "canary-token-2"] == api_server.tokens
        assert [("POST", BODY)] * 2 == [(request.method, request.body) for request in api_server.requests]

    async def test_headers_of_a_body(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """A body is JSON unless its type is given, and its file's name is not sent."""
        (tmp_path / "private name").write_bytes(b"[]")
        send = "request", "POST", "x", "--data", str(tmp_path / "private name")
        for options in [], ["--content-type", "text/csv"], ["-H", "content-type: a/b", "--content-type", "text/csv"]:
            await simplestore(*send, *options, environment=environment)

        kinds = [request.headers["Content-Type"] for request in api_server.requests]
        assert ["application/json", "text/csv", "a/b"] == kinds
        assert all("private" not in str(request.headers) for request in api_server.requests)
        assert {"2"} == {request.headers["Content-Length"] for request in api_server.requests}

    async def test_empty_body(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """An empty body is a body; without `--data` there is none, and no content type."""
        for options in ["--data", os.devnull], []:
            await simplestore("request", "PUT", "x", *options, environment=environment)

        assert [b"", b""] == [request.body for request in api_server.requests]
        assert [True, False] == ["Content-Type" in request.headers for request in api_server.requests]

    async def test_large_stdin(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Megabytes from a pipe are sent without a warning."""
        body = os.urandom(3 << 20)
        command = *COMMAND, "request", "PUT", "x", "--data", "-"
        process = await start(*command, environment=environment, stdin=asyncio.subprocess.PIPE)
        outcome = await finish(process, stdin=body)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert [body] == [request.body for request in api_server.requests]

    async def test_no_file(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """A file that is not there, or a directory, is wrong usage; nothing is sent."""
        for path in tmp_path / "gone", tmp_path:
            outcome = await simplestore("request", "POST", "x", "--data", str(path), environment=environment)
            assert_one_line(outcome, code=2, says=str(path))
        assert [] == api_server.requests


class TestHeaders:
    async def test_more_headers(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Headers are sent as they are given, also two of one name."""
        headers = "-H", "X-One: 1: a", "--header", "Accept:text/csv", "-H", "X-Two: a", "-H", "X-Two: b", "-H", "X-No:"
        await simplestore("request", "GET", "x", *headers, environment=environment)

        received = api_server.requests[0].headers
        assert ("1: a", "text/csv", ["a", "b"], "") == (
            received["X-One"],
            received["Accept"],
            received.getall("X-Two"),
            received["X-No"],
        )
        assert ["canary-token-1"] == api_server.tokens

    @pytest.mark.parametrize(
        ("header", "says"),
        [
            ("authorization: Bearer s3cr3t", "authorization is set by the command itself"),
            ("Content-Length: s3cr3t", "Content-Length is set by the command itself"),
            ("Transfer-Encoding: s3cr3t", "Transfer-Encoding is set by the command itself"),
            ("s3cr3t", "must be NAME:VALUE"),
            (": s3cr3t", "must be NAME:VALUE"),
            ("X Y: s3cr3t", "must be NAME:VALUE"),
            ("X-Api-Key: s3cr3t\r\nX-Other: y", "the value of X-Api-Key holds a line break"),
        ],
    )
    async def test_refused_header(
        self, api_server: ApiServer, environment: dict[str, str], header: str, says: str
    ) -> None:
        """A header that cannot be sent is wrong usage; its value, which may be a secret, is not shown."""
        outcome = await simplestore("--debug", "request", "GET", "x", "-H", header, environment=environment)

        assert 2 == outcome.code
        assert says in outcome.stderr.splitlines()[-1]
        assert "s3cr3t" not in outcome.stderr
        assert [] == api_server.requests

    @pytest.mark.parametrize("arguments", [["GET", "a\nb"], ["POST", "x", "--content-type", "a\nb"]])
    async def test_refused_text(self, environment: dict[str, str], arguments: list[str]) -> None:
        """A line break has no place in a path or a content type."""
        outcome = await simplestore("request", *arguments, environment=environment)
        assert_one_line(outcome, code=2, says="must not contain a line break")

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "G\nT"])
    async def test_refused_method(self, environment: dict[str, str], method: str) -> None:
        """TRACE would show the token, CONNECT is no request; others there are none."""
        assert_one_line(await simplestore("request", method, "x", environment=environment), code=2, says="'METHOD'")


class HostileReason(RawServer):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 a\x1b[2Jb\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()


class TestAnswer:
    async def test_bytes(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A body comes out byte for byte."""
        api_server.handler = answering(body=BODY)
        outcome = await simplestore("request", "GET", "x", environment=environment)
        assert BODY == outcome.stdout.encode(errors="surrogateescape")

    async def test_compressed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A body that was compressed for the way comes out as it was before."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.Response(body=BODY)
            response.enable_compression(web.ContentCoding.gzip)
            return response

        api_server.handler = handle
        outcome = await simplestore("request", "GET", "x", "-i", environment=environment)

        assert "Content-Encoding: gzip" in outcome.stdout
        assert outcome.stdout.encode(errors="surrogateescape").endswith(b"\r\n\r\n" + BODY)

    async def test_as_it_comes(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """The first part is printed before the rest arrives."""
        may_go_on = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"first\n")
            await may_go_on.wait()
            await response.write(b"second\n")
            return response

        api_server.handler = handle
        process = await start(*COMMAND, "request", "GET", "x", environment=environment)
        assert process.stdout is not None
        assert b"first\n" == await process.stdout.readline()
        may_go_on.set()
        assert (0, "second\n") == ((outcome := await finish(process)).code, outcome.stdout)

    async def test_include(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--include` prints the status line and every header before the body, as curl does."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.Response(status=203, reason="Fine So Far", text="body")
            response.headers.extend([("X-Two", "a"), ("X-Two", "b")])
            return response

        api_server.handler = handle
        outcome = await simplestore("request", "GET", "x", "--include", environment=environment)
        head, _, body = outcome.stdout.partition("\r\n\r\n")

        assert "HTTP/1.1 203 Fine So Far" == head.split("\r\n")[0]
        assert ["X-Two: a", "X-Two: b"] == [line for line in head.split("\r\n") if line.startswith("X-")]
        assert "body" == body

    @pytest.mark.parametrize(
        ("status", "code", "stderr"),
        [
            (204, 0, ""),
            (304, 0, ""),
            (404, 22, "simplestore: 404 Not Found\n"),
            (503, 22, "simplestore: 503 Service Unavailable\n"),
        ],
    )
    async def test_status(
        self, api_server: ApiServer, environment: dict[str, str], status: int, code: int, stderr: str
    ) -> None:
        """From 400 on the exit code is 22, and a line on stderr names the status; the body is printed all the same."""
        body = "" if status in {204, 304} else "why"
        api_server.handler = answering(status=status, text=body or None)
        outcome = await simplestore("request", "GET", "x", environment=environment)
        assert (code, body, stderr) == (outcome.code, outcome.stdout, outcome.stderr)

    async def test_hostile_reason(self, environment: dict[str, str]) -> None:
        """A server's words on stderr cannot move the cursor."""
        async with HostileReason() as server:
            elsewhere = environment | {"SIMPLESTORE_BASE_URL": server.url}
            outcome = await simplestore("request", "GET", "x", environment=elsewhere)
        assert (22, "simplestore: 400 a\\x1b[2Jb\n") == (outcome.code, outcome.stderr)

    async def test_head(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """HEAD has a response without body."""
        outcome = await simplestore("request", "head", "x", environment=environment)
        assert (0, "", "HEAD") == (outcome.code, outcome.stdout, api_server.requests[0].method)

    async def test_every_token_is_rejected(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """If the second token is rejected, too, the response is the API's."""
        api_server.rejected = {"canary-token-1", "canary-token-2"}
        outcome = await simplestore("request", "GET", "x", environment=environment)

        assert_one_line(outcome, code=22, says="401 Unauthorized")
        assert ["canary-token-1", "canary-token-2"] == api_server.tokens


class TestOutput:
    async def test_file(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """`--output` writes everything to a file, which is made even if it stays empty."""
        options = "-o", str(tmp_path / "out"), "-i"
        api_server.handler = answering(body=BODY)
        outcome = await simplestore("request", "GET", "x", *options, environment=environment)

        assert (0, "", "") == (outcome.code, outcome.stdout, outcome.stderr)
        assert (tmp_path / "out").read_bytes().startswith(b"HTTP/1.1 200 OK\r\n")
        assert (tmp_path / "out").read_bytes().endswith(b"\r\n\r\n" + BODY)

        api_server.handler = answering(status=204)
        await simplestore("request", "GET", "x", "-o", str(tmp_path / "empty"), environment=environment)
        assert b"" == (tmp_path / "empty").read_bytes()

    async def test_stdout_by_its_sign(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--output -` is standard output."""
        outcome = await simplestore("request", "GET", "x", "-o", "-", environment=environment)
        assert (0, '{"path": "/v1/x"}') == (outcome.code, outcome.stdout)

    async def test_no_response(self, environment: dict[str, str], tmp_path: Path) -> None:
        """Without a response the file stays as it was."""
        (tmp_path / "out").write_text("before")
        nowhere = environment | {"SIMPLESTORE_BASE_URL": refusing_url()}
        await simplestore("request", "GET", "x", "-o", str(tmp_path / "out"), environment=nowhere)
        assert "before" == (tmp_path / "out").read_text()

    async def test_no_such_directory(self, environment: dict[str, str], tmp_path: Path) -> None:
        """A file that cannot be written: exit code 1, and the file is named."""
        path = str(tmp_path / "gone" / "out")
        outcome = await simplestore("request", "GET", "x", "-o", path, environment=environment)
        assert_one_line(outcome, code=1, says=path)

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
    async def test_closed_pipe(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A reader that goes away ends it, without a word."""
        api_server.handler = answering(body=b"line\n" * 1_000_000)
        outcome = await shell("simplestore request GET x | head -n 1", environment=environment)
        assert ("line\n", "") == (outcome.stdout, outcome.stderr)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
    async def test_full_disk(self, environment: dict[str, str]) -> None:
        """Where stdout can take nothing: exit code 1, and the reason."""
        outcome = await shell("simplestore request GET x >/dev/full", environment=environment)
        assert_one_line(outcome, code=1, says="No space left on device")

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells")
    async def test_closed_streams(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Standard streams that were closed are as good as empty ones."""
        outcome = await shell("simplestore request POST x --data - <&- >&- 2>&-; echo $?", environment=environment)

        assert ("0\n", "") == (outcome.stdout, outcome.stderr)
        assert [b""] == [request.body for request in api_server.requests]


class TestRedirects:
    async def test_not_followed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A redirect is a response like others: exit code 0."""
        api_server.handler = redirecting(api_server, {"/v1/x": "/v1/y"})
        outcome = await simplestore("request", "GET", "x", "-i", environment=environment)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert "Location: /v1/y" in outcome.stdout
        assert 1 == len(api_server.requests)

    async def test_followed(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--location` follows it, with the token as long as the origin is the API's."""
        api_server.handler = redirecting(api_server, {"/v1/x": "/v1/y"})
        outcome = await simplestore("request", "GET", "x", "-L", environment=environment)

        assert (0, '{"path": "/v1/y"}') == (outcome.code, outcome.stdout)
        assert ["canary-token-1", "canary-token-1"] == api_server.tokens

    async def test_followed_elsewhere(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A redirect to another origin does not carry the token away."""
        async with ApiServer() as other:
            api_server.handler = redirecting(api_server, {"/v1/x": f"{other.url}/y"}, status=307)
            outcome = await simplestore("request", "GET", "x", "--location", environment=environment)
            assert [None] == other.tokens
        assert_one_line(outcome, code=22, says="401")

    async def test_without_end(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Redirects that lead round in circles are an error."""
        api_server.handler = redirecting(api_server, {"/v1/x": "/v1/x"})
        outcome = await simplestore("request", "GET", "x", "-L", environment=environment)
        assert_one_line(outcome, code=1, says="no complete response")


class CutShort(RawServer):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()


class NoHttp(RawServer):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()


class HangsUp(RawServer):
    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")


class TestFailure:
    async def test_refused_connection(self, environment: dict[str, str]) -> None:
        """A closed port: exit code 1, and the message names the host."""
        nowhere = environment | {"SIMPLESTORE_BASE_URL": refusing_url()}
        outcome = await simplestore("request", "GET", "x", environment=nowhere)
        assert_one_line(outcome, code=1, says="no complete response: Cannot connect to host 127.0.0.1")

    @pytest.mark.parametrize(("server", "stdout"), [(CutShort, "half"), (NoHttp, ""), (HangsUp, "")])
    async def test_broken_response(
        self, environment: dict[str, str], server: Callable[[], RawServer], stdout: str
    ) -> None:
        """A response cut short, or none: exit code 1; the part received is printed."""
        async with server() as broken:
            elsewhere = environment | {"SIMPLESTORE_BASE_URL": broken.url}
            outcome = await simplestore("request", "GET", "x", environment=elsewhere)

        assert (1, stdout) == (outcome.code, outcome.stdout)
        assert outcome.stderr.startswith("simplestore: no complete response: ")
        assert 1 == outcome.stderr.count("\n")

    @pytest.mark.parametrize("is_api_slow", [True, False])
    async def test_timeout(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], is_api_slow: bool
    ) -> None:
        """An API or a token endpoint that does not respond: exit code 1 when the time is over."""
        is_over = asyncio.Event()

        async def handle(request: web.Request) -> web.StreamResponse:
            await is_over.wait()
            return web.Response()

        if is_api_slow:
            api_server.handler = handle
        else:
            token_server.gate.clear()
        outcome = await simplestore("request", "GET", "x", "--timeout", "0.3", environment=environment)
        is_over.set()
        token_server.gate.set()
        assert_one_line(outcome, code=1, says="no complete response within 0.3 s (--timeout)")

    @pytest.mark.parametrize("seconds", ["0", "-1", "inf", "soon"])
    async def test_wrong_timeout(self, environment: dict[str, str], seconds: str) -> None:
        """A time that is none is wrong usage."""
        outcome = await simplestore("request", "GET", "x", "--timeout", seconds, environment=environment)
        assert_one_line(outcome, code=2, says="--timeout")

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
    async def test_interrupted(
        self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]
    ) -> None:
        """Ctrl-C ends it at once, with 130 and no traceback."""
        token_server.gate.clear()
        process = await start(*COMMAND, "request", "GET", "x", environment=environment)
        await token_server.arrived.wait()
        os.killpg(process.pid, signal.SIGINT)
        outcome = await finish(process)
        token_server.gate.set()

        assert (130, "", "") == (outcome.code, outcome.stdout, outcome.stderr.strip())
        assert [] == api_server.requests


class TestJson:
    async def test_text(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """`--json` prints the response as one object; headers of one name stand in a list."""

        async def handle(request: web.Request) -> web.StreamResponse:
            response = web.Response(text="ключ", reason="Fine")
            response.headers.extend([("X-Two", "a"), ("X-Two", "b")])
            return response

        api_server.handler = handle
        answer = (await simplestore("request", "GET", "x", "--json", environment=environment)).json

        assert {"status", "reason", "headers", "body", "is_base64"} == answer.keys()
        assert (200, "Fine", "ключ", False) == tuple(answer[name] for name in ("status", "reason", "body", "is_base64"))
        assert ["a", "b"] == answer["headers"]["x-two"]
        assert ["text/plain; charset=utf-8"] == answer["headers"]["content-type"]

    async def test_bytes(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A body that is no UTF-8 is in base64."""
        api_server.handler = answering(body=BODY)
        answer = (await simplestore("request", "GET", "x", "--json", environment=environment)).json

        assert answer["is_base64"]
        assert BODY == base64.b64decode(answer["body"])

    async def test_status(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A response of 400 or more is printed, and the error is an object on stderr."""
        api_server.handler = answering(status=404, text="why")
        outcome = await simplestore("request", "GET", "x", "--json", environment=environment)

        assert (22, 404, "why") == (outcome.code, outcome.json["status"], outcome.json["body"])
        assert {"type": "StatusError", "message": "404 Not Found", "exit_code": 22} == outcome.error

    async def test_no_response(self, environment: dict[str, str]) -> None:
        """Without a response stdout stays empty."""
        nowhere = environment | {"SIMPLESTORE_BASE_URL": refusing_url()}
        outcome = await simplestore("request", "GET", "x", "--json", environment=nowhere)

        assert (1, "") == (outcome.code, outcome.stdout)
        assert ("RequestError", 1) == (outcome.error["type"], outcome.error["exit_code"])

    @pytest.mark.parametrize("option", [["--include"], ["--output", "out"]])
    async def test_excludes(self, api_server: ApiServer, environment: dict[str, str], option: list[str]) -> None:
        """It prints the whole response, so that options for parts of it are wrong usage."""
        outcome = await simplestore("request", "GET", "x", "--json", *option, environment=environment)

        assert (2, "", "UsageError") == (outcome.code, outcome.stdout, outcome.error["type"])
        assert "leave out --include and --output" in outcome.error["message"]
        assert [] == api_server.requests


class TestCache:
    async def test_shared(self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]) -> None:
        """With `--cache` calls share a token, also with `token --cache`; without it each asks for one of its own."""
        for options in ["--cache"], []:
            await simplestore("request", "GET", "x", *options, environment=environment)
        outcome = await simplestore("token", "--header", "--cache", environment=environment)

        assert ["canary-token-1", "canary-token-2"] == api_server.tokens
        assert "Authorization: Bearer canary-token-1\n" == outcome.stdout
        assert 2 == len(token_server.requests)

    async def test_rejected(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A rejected token is replaced in the cache, too."""
        api_server.rejected = {"canary-token-1"}
        for _ in range(2):
            await simplestore("request", "GET", "x", "--cache", environment=environment)
        assert ["canary-token-1", "canary-token-2", "canary-token-2"] == api_server.tokens

    async def test_not_stored(self, environment: dict[str, str], tmp_path: Path) -> None:
        """Without `--cache` nothing is stored."""
        await simplestore("request", "GET", "x", environment=environment)
        assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("outcome_of", ["api", "endpoint", "connection"])
async def test_secrecy(
    token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], outcome_of: str
) -> None:
    """With `--debug`, for any failure, neither secret nor token is shown, and the last line is the error."""
    if outcome_of == "api":
        api_server.rejected = {"canary-token-1", "canary-token-2"}
    elif outcome_of == "endpoint":
        echo = {"error": "invalid_client", "error_description": SECRET, "title": json.dumps(SECRET)}
        token_server.replies = [web.json_response(echo, status=400)]
    else:
        environment["SIMPLESTORE_BASE_URL"] = refusing_url()
    outcome = await simplestore("--debug", "request", "GET", "x", environment=environment)

    assert 0 != outcome.code
    assert "DEBUG simplestore_async: renewal started: first" in outcome.stderr
    assert "Traceback" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("simplestore: ")
    assert "canary" not in outcome.stdout + outcome.stderr
