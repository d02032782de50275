"""Requests on the wire and results of their responses: `simplestore_async.batch.run_batch`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from simplestore_async import open_session
from simplestore_async.batch import BatchDatabase, BatchPolicy, BatchRequest, BatchSummary, RequestFile, run_batch
from simplestore_async.sandbox import Sandbox, Status
from tests.support.api_servers import answering
from tests.support.batches import Runner, make_line, requests_of

if TYPE_CHECKING:
    from simplestore_async.batch import Outcome
    from tests.support.servers import ApiServer


async def test_one_token_for_all(runner: Runner) -> None:
    """Every request has a result, and all share one token request."""
    summary = await runner.run(requests_of(*["GET", "POST", "PUT", "DELETE"] * 25), policy=BatchPolicy())

    counts: dict[Outcome, int] = {"succeeded": 100, "refused": 0, "failed": 0, "unknown": 0}
    assert BatchSummary(counts=counts, statuses={200: 100}, remaining=None, is_stopped=False, sent=100) == summary
    assert summary.rate > 0
    assert set(range(1, 101)) == {result.line for result in runner.results}
    assert (1, 100) == (runner.sandbox.counters.token_requests, runner.sandbox.counters.api_requests)


async def test_request_on_the_wire(runner: Runner) -> None:
    """Method, path, headers and body are sent unchanged, and no Content-Type is added."""
    headers = ("X-One", "1"), ("Content-Type", "text/csv")
    await runner.run(
        [
            BatchRequest(id=1, method="PATCH", path="//a:b?c=d e", headers=headers, body=b"x,y"),
            BatchRequest(id=2, method="POST", path=f"{runner.sandbox.base_url}z", body=b""),
            BatchRequest(id=3, method="GET", path="/y"),
        ],
        policy=BatchPolicy(concurrency=1),
    )
    first, second, third = (result.body for result in runner.results)
    assert ["PATCH", "/api/a:b", {"c": "d e"}, "x,y"] == [first[name] for name in ("method", "path", "query", "body")]
    assert ("1", "text/csv") == (first["headers"]["X-One"], first["headers"]["Content-Type"])
    assert ("/api/z", "/api/y", False) == (second["path"], third["path"], "Content-Type" in second["headers"])


async def test_json_is_verbatim(runner: Runner, api_server: ApiServer) -> None:
    """A line's `json` is sent byte for byte; a stored JSON response keeps the digits of its numbers."""
    text = '{"price":1.10,"n":123456789012345678901234567890,"x":1e400}'
    api_server.handler = answering(text=text.replace(",", ",\n"), content_type="application/json")
    path = runner.directory / "orders.jsonl"
    path.write_text(f'{{"id":1,"method":"POST","path":"a","json":{text}}}')
    requests = RequestFile(path, base_url=f"{api_server.url}/")
    with BatchDatabase(runner.directory / "batch", requests=requests, results=runner.directory / "results") as database:
        await runner.run(requests, database=database, base_url=api_server.url)
    assert [text.encode()] == [request.body for request in api_server.requests]
    assert f'"body":{text},' in (runner.directory / "results").read_text()


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"text": '{"é": [1]}', "content_type": "application/json"}, ({"é": [1]}, "json")),
        ({"text": "[1]", "content_type": "application/problem+json"}, ([1], "json")),
        ({"text": "[1", "content_type": "application/json"}, ("[1", "text")),
        ({"text": "NaN", "content_type": "application/json"}, ("NaN", "text")),
        ({"text": "[1]"}, ("[1]", "text")),
        ({"body": b"\xff\x00"}, (base64.b64encode(b"\xff\x00").decode(), "base64")),
        ({}, (None, None)),
    ],
    ids=str,
)
async def test_body(
    runner: Runner, api_server: ApiServer, response: dict[str, Any], expected: tuple[object, str | None]
) -> None:
    """A response body is valid JSON with a JSON content type, else text, else base64; the results file has the same."""
    headers = {"Location": "/orders/7", "ETag": '"1"', "X-Other": "2"}
    api_server.handler = answering(headers=headers, status=201, **response)
    policy = BatchPolicy(response_headers=("etag",))
    await runner.run_file([make_line(1, "POST")], base_url=f"{api_server.url}/", policy=policy)
    (result,) = runner.results
    assert expected == (result.body, result.body_format)
    assert (201, "succeeded", 1) == (result.status, result.outcome, result.attempts)
    assert result.duration_seconds > 0
    (stored,) = runner.stored
    assert expected == (stored["body"], stored["body_format"])
    assert {"Location": "/orders/7", "etag": '"1"'} == stored["headers"] == result.headers
    assert ("POST", "orders/1") == (stored["method"], stored["path"])


async def test_body_too_long(runner: Runner, api_server: ApiServer) -> None:
    """A response body beyond 16 MiB is left out; the result is otherwise complete."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 20))

    api_server.handler = handle
    await runner.run(requests_of(*["POST"] * 5), base_url=api_server.url)
    assert [(200, "succeeded", None)] * 5 == [(each.status, each.outcome, each.body) for each in runner.results]
    assert {"ResponseTooLongError"} == {result.error_type for result in runner.results}


@pytest.mark.parametrize("status", [301, 400, 404, 409, 501])
async def test_refused(runner: Runner, api_server: ApiServer, status: int) -> None:
    """3xx, 4xx and 501 are refused, without retry; redirects are not followed."""
    api_server.handler = answering(status=status, headers={"Location": "/elsewhere"})
    await runner.run(requests_of("GET", "POST"), base_url=api_server.url)
    assert [("refused", status, 1)] * 2 == [(each.outcome, each.status, each.attempts) for each in runner.results]
    assert 2 == len(api_server.requests)


async def test_raise_for_status(sandbox: Sandbox) -> None:
    """`raise_for_status` of the session has no effect on a batch."""
    sandbox.api.fail_next(1, Status(404))
    async with open_session(sandbox.credentials, base_url=sandbox.base_url, raise_for_status=True) as session:
        summary = await run_batch(requests_of("GET"), session=session)
    assert 1 == summary.counts["refused"]


async def test_cookies(runner: Runner, api_server: ApiServer) -> None:
    """Response cookies are dropped; the session keeps its own cookies and stays open."""
    api_server.handler = answering(headers={"Set-Cookie": "theirs=1"})
    base_url = f"http://localhost:{api_server.port}"
    async with open_session(runner.sandbox.credentials, base_url=base_url, cookies={"mine": "2"}) as session:
        await run_batch(requests_of("GET", "GET", "GET"), session=session, policy=BatchPolicy(concurrency=1))
        assert ["mine"] == [cookie.key for cookie in session.cookie_jar]
        async with session.get("") as response:
            assert 200 == response.status
    assert ["mine=2"] * 4 == [request.headers.get("Cookie") for request in api_server.requests]


async def test_body_file(runner: Runner, api_server: ApiServer) -> None:
    """A body file is streamed, again after 401 and 429; a missing one fails its own request only."""
    (runner.directory / "image").write_bytes(bytes(1 << 20))
    (runner.directory / "gone").write_bytes(b"x")
    statuses = iter([401, 429, 200])

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=next(statuses), headers={"Retry-After": "0"})

    api_server.handler = handle
    lines = [{"id": n, "method": "POST", "path": "a", "body_file": name} for n, name in ((1, "image"), (2, "gone"))]
    with runner.open(lines, base_url=f"{api_server.url}/") as database:
        (runner.directory / "gone").unlink()
        await runner.run(database.requests, database=database, base_url=api_server.url)
    assert {1: "succeeded", 2: "failed"} == runner.outcomes()
    assert [bytes(1 << 20)] * 3 == [request.body for request in api_server.requests]
    (failed,) = (result for result in runner.results if result.line == 2)
    assert ("FileNotFoundError", 0) == (failed.error_type, failed.attempts)
