"""`simplestore request`: target, body and headers of the request, and its token."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.api_servers import refusing_url
from tests.support.command import assert_one_line, finish, simplestore, start_simplestore
from tests.support.servers import SECRET, ApiServer, TokenServer

if TYPE_CHECKING:
    from pathlib import Path

BODY = bytes(range(256)) * 16


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
        """Any path is joined to the base URL and never leads to another host."""
        await simplestore("request", "get", path, environment=environment)

        assert [expected] == [request.path for request in api_server.requests]
        assert ["page=2" if "?" in path else ""] == [request.query for request in api_server.requests]

    async def test_complete_url(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """A complete URL of the base URL's origin is accepted."""
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
        """A URL of another origin, or an invalid one: exit code 2, and nothing is sent."""
        assert_one_line(await simplestore("request", "GET", url, environment=environment), code=2, says=says)
        assert [] == token_server.requests + api_server.requests

    @pytest.mark.parametrize(
        ("base_url", "path", "says"),
        [
            ("", "x", "SIMPLESTORE_BASE_URL is not set"),
            ("http://api.example", "orders", "SIMPLESTORE_BASE_URL uses plain http"),
            ("http://api.example", "http://127.0.0.1/", "SIMPLESTORE_BASE_URL uses plain http"),
        ],
        ids=["none", "path", "url"],
    )
    async def test_wrong_base_url(self, environment: dict[str, str], base_url: str, path: str, says: str) -> None:
        """A missing or invalid base URL: exit code 2, and the variable is named."""
        environment["SIMPLESTORE_BASE_URL"] = base_url
        assert_one_line(await simplestore("request", "GET", path, environment=environment), code=2, says=says)


class TestBody:
    async def test_file(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """A file arrives byte for byte; if the token is rejected, it is resent with another token."""
        (tmp_path / "body").write_bytes(BODY)
        api_server.rejected = {"canary-token-1"}
        outcome = await simplestore("request", "POST", "x", "--data", str(tmp_path / "body"), environment=environment)

        assert (0, '{"path": "/v1/x"}', "") == (outcome.code, outcome.stdout, outcome.stderr)
        assert ["canary-token-1", "canary-token-2"] == api_server.tokens
        assert [("POST", BODY)] * 2 == [(request.method, request.body) for request in api_server.requests]

    async def test_stdin(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Megabytes from a pipe are sent and resent without a warning."""
        api_server.rejected = {"canary-token-1"}
        body = os.urandom(3 << 20)
        reading, writing = os.pipe()
        process = await start_simplestore("request", "PUT", "x", "--data", "-", environment=environment, stdin=reading)
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            await asyncio.to_thread(pipe.write, body)
        outcome = await finish(process)

        assert (0, "") == (outcome.code, outcome.stderr)
        assert [body, body] == [request.body for request in api_server.requests]

    async def test_headers_of_a_body(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """The default Content-Type is JSON, and the file's name is not sent."""
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

    @pytest.mark.parametrize("text", ['{"state": "canary"}', "[1]", '"canary"', '{"' + "x" * 10_000])
    async def test_json_as_file(self, environment: dict[str, str], text: str) -> None:
        """JSON in place of a file name is wrong usage with a hint at `-`; it is not shown."""
        outcome = await simplestore("request", "PUT", "x", "--data", text, environment=environment)
        assert_one_line(outcome, code=2, says="pipe it: echo '…' | simplestore request METHOD PATH --data -")
        assert "canary" not in outcome.stderr

    async def test_no_file(self, api_server: ApiServer, environment: dict[str, str], tmp_path: Path) -> None:
        """A missing file, or a directory, is wrong usage; nothing is sent."""
        for path, says in (
            (tmp_path / "gone", "gone': No such file or directory; `-` reads standard input"),
            (tmp_path, str(tmp_path)),
        ):
            outcome = await simplestore("request", "POST", "x", "--data", str(path), environment=environment)
            assert_one_line(outcome, code=2, says=says)
        assert [] == api_server.requests


class TestHeaders:
    async def test_more_headers(self, api_server: ApiServer, environment: dict[str, str]) -> None:
        """Headers are sent unchanged, also two of one name."""
        headers = "-H", "X-One: 1: a", "--header", "Accept:text/csv", "-H", "X-Two: a", "-H", "X-Two: b", "-H", "X-No:"
        await simplestore("request", "GET", "x", *headers, environment=environment)

        received = api_server.requests[0].headers
        assert ("1: a", "text/csv", "") == (received["X-One"], received["Accept"], received["X-No"])
        assert ["a", "b"] == received.getall("X-Two")
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
        """An invalid header is wrong usage; its value, which may be a secret, is not shown."""
        outcome = await simplestore("--debug", "request", "GET", "x", "-H", header, environment=environment)

        assert 2 == outcome.code
        assert says in outcome.stderr.splitlines()[-1]
        assert "s3cr3t" not in outcome.stderr
        assert [] == api_server.requests


class TestCache:
    async def test_shared(self, token_server: TokenServer, api_server: ApiServer, environment: dict[str, str]) -> None:
        """With `--cache` calls share a token, also with `token --cache`; without it each requests its own."""
        for options in ["--cache"], []:
            await simplestore("request", "GET", "x", *options, environment=environment)
        outcome = await simplestore("token", "--header", "--cache", environment=environment)

        assert ["canary-token-1", "canary-token-2"] == api_server.tokens
        assert "Authorization: Bearer canary-token-1\n" == outcome.stdout
        assert 2 == len(token_server.requests)


@pytest.mark.parametrize("outcome_of", ["api", "endpoint", "connection"])
async def test_secrecy(
    token_server: TokenServer, api_server: ApiServer, environment: dict[str, str], outcome_of: str
) -> None:
    """With `--debug`, no failure shows the secret or a token, and the last line is the error."""
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
