"""Batches of iterables, callbacks and cancellation: `simplestore_async.batch.run_batch`."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from simplestore_async import open_session
from simplestore_async.batch import BatchPolicy, BatchRequest, BatchResult, run_batch
from simplestore_async.errors import ConfigurationError
from simplestore_async.sandbox import Late
from tests.support.batches import Runner, requests_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.servers import ApiServer


def generate(*requests: BatchRequest) -> Iterator[BatchRequest]:
    yield from requests


async def generate_async(*requests: BatchRequest) -> AsyncIterator[BatchRequest]:
    for request in requests:
        await asyncio.sleep(0)
        yield request


@pytest.mark.parametrize("make", [lambda *some: some, generate, generate_async], ids=["tuple", "iterator", "async"])
async def test_iterables(runner: Runner, make: Any) -> None:
    """Requests may come from any iterable; results have the key and data of their requests."""
    order = object()
    request = BatchRequest(id="a", method="POST", path="orders/1", key="customer", data=order)
    summary = await runner.run(make(request, *requests_of("GET", "POST")))
    assert 3 == summary.counts["succeeded"]
    (result,) = [result for result in runner.results if result.id == "a"]
    assert (order, "customer") == (result.data, result.key)


async def test_empty(runner: Runner) -> None:
    """A batch without requests ends at once."""
    assert 0 == (await runner.run([])).done


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine")], ids=repr)
@pytest.mark.parametrize("is_async", [False, True])
async def test_iterable_raises(runner: Runner, is_async: bool, error: BaseException) -> None:
    """An exception of the iterable is raised after the requests in flight have ended."""

    def requests() -> Iterator[BatchRequest]:
        yield from requests_of(*["POST"] * 50)
        raise error

    async def requests_async() -> AsyncIterator[BatchRequest]:
        for request in requests():
            yield request

    with pytest.raises(type(error), match="mine"):
        await runner.run(requests_async() if is_async else requests())
    assert dict.fromkeys(range(1, 51), "succeeded") == runner.outcomes()


async def test_async_on_result(runner: Runner) -> None:
    """`on_result` may be a coroutine function; calls never overlap."""
    busy, seen = 0, 0

    async def on_result(_: BatchResult) -> None:
        nonlocal busy, seen
        busy += 1
        assert 1 == busy
        await asyncio.sleep(0.001)  # so that another could come
        busy -= 1
        seen += 1

    await runner.run(requests_of(*["GET"] * 20), on_result=on_result)
    assert 20 == seen


@pytest.mark.parametrize("error", [KeyError("mine"), asyncio.CancelledError("mine")], ids=repr)
async def test_on_result_raises(runner: Runner, error: BaseException) -> None:
    """An exception of `on_result` ends the batch, and is raised."""

    def fail(_: BatchResult) -> None:
        raise error

    with pytest.raises(type(error), match="mine"):
        await runner.run(requests_of(*["GET"] * 100), on_result=fail)
    assert runner.sandbox.counters.api_requests < 100


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([*requests_of("POST"), *requests_of("POST")], "id"),
        ([*requests_of("POST"), BatchRequest(id=2, method="POST", path="../admin")], "path"),
        ([*requests_of("POST"), "orders/2"], "requests"),
    ],
    ids=["id twice", "path", "type"],
)
async def test_invalid_requests(runner: Runner, requests: list[Any], field: str) -> None:
    """A sequence is checked before anything is sent; an iterator before each request."""
    for some, sent in (requests, 0), (iter(requests), 1):
        with pytest.raises(ConfigurationError) as caught:
            await runner.run(some)
        assert (field, sent) == (caught.value.field, runner.sandbox.counters.api_requests)


async def test_unusable_session(runner: Runner) -> None:
    """A session without base URL, or one that was not entered, is refused."""
    async with aiohttp.ClientSession() as session:
        opening: Any = open_session(runner.sandbox.credentials, base_url=runner.sandbox.base_url)
        for each in session, opening:
            with pytest.raises(ConfigurationError) as caught:
                await run_batch(requests_of("GET"), session=each)
            assert "session" == caught.value.field


REFUSED_HEADERS = (
    *("Authorization", "Content-Length", "Host", "expect", "Connection", "Proxy-Connection", "Upgrade"),
    *("X-HTTP-Method-Override", "X-Original-URL", "X-Forwarded-Host", "Transfer-Encoding", "TE"),
)
INVALID: list[tuple[type, str, list[Any]]] = [
    (BatchRequest, "method", ["TRACE", "get"]),
    (BatchRequest, "id", ["", True]),
    (BatchRequest, "path", ["a\nb"]),
    (BatchRequest, "headers", [(("X-A", "a\r\nb"),), (("X A", "a"),), {"If-Match": "7"}, ("AB",)]),
    (BatchRequest, "headers", [((name, "x"),) for name in REFUSED_HEADERS]),
    (BatchRequest, "headers", [((b"If-Match", "7"),), (("If-Match", b"7"),)]),
    (BatchRequest, "key", [["a"]]),
    (BatchRequest, "body", [{"state": "shipped"}, "text"]),
    (BatchPolicy, "concurrency", [0]),
    (BatchPolicy, "attempts", [True]),
    (BatchPolicy, "rate", [0]),
    (BatchPolicy, "timeout_seconds", [float("nan")]),
    (BatchPolicy, "patience_seconds", ["1"]),
    (BatchPolicy, "stop_after", [0]),
    (BatchPolicy, "resend", [frozenset({"succeeded"}), frozenset({600}), "unknown"]),
    (BatchPolicy, "idempotency_key", ["a b", "Authorization", 7]),
    (BatchPolicy, "response_headers", ["ETag", ("a b",), None]),
]


@pytest.mark.parametrize(
    ("kind", "field", "value"), [(kind, field, value) for kind, field, values in INVALID for value in values]
)
def test_invalid_field(kind: type, field: str, value: Any) -> None:
    """The error of an invalid field, or of a header that would change the target, names the field."""
    fields = {"id": 1, "method": "GET", "path": "a"} if kind is BatchRequest else {}
    with pytest.raises(ConfigurationError) as caught:
        kind(**fields | {field: value})
    assert field == caught.value.field


def test_repr() -> None:
    """The repr of a request or result has no headers, body or data."""
    request = BatchRequest(id=1, method="GET", path="a", headers=(("X", "s3cr3t"),), body=b"s3cr3t", data="s3cr3t")
    result = BatchResult(request=request, outcome="succeeded", body_text="s3cr3t", headers={"X": "s3cr3t"})
    assert not re.search("s3cr3t", repr(request) + repr(result))


async def test_cancelled(runner: Runner) -> None:
    """After a cancellation requests in flight may finish within `grace_seconds`; the others are unknown."""
    runner.sandbox.api.fail_next(2, Late(0.3))
    runner.sandbox.api.fail_next(2, Late(3_600))
    policy = BatchPolicy(concurrency=4, grace_seconds=1.0)
    running = asyncio.create_task(runner.run(requests_of(*["POST"] * 20), policy=policy))
    await runner.requests_arrive(4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ["succeeded", "succeeded", "unknown", "unknown"] == sorted(result.outcome for result in runner.results)
    assert 4 == runner.sandbox.counters.api_requests


async def test_bytes_in_flight(runner: Runner, api_server: ApiServer) -> None:
    """`bytes_in_flight` limits the bodies in flight; a single larger one is sent alone."""
    sizes: list[int] = []
    in_flight = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal in_flight
        size = len(await request.read())
        in_flight += size
        sizes.append(in_flight)
        await asyncio.sleep(0.01)  # so that others come
        in_flight -= size
        return web.Response()

    api_server.handler = handle
    requests = [BatchRequest(id=n, method="POST", path="a", body=bytes(1_000 * (1 + 4 * (n == 7)))) for n in range(20)]
    policy = BatchPolicy(concurrency=20, bytes_in_flight=3_000)
    assert 20 == (await runner.run(requests, base_url=api_server.url, policy=policy)).counts["succeeded"]
    assert {3_000, 5_000} <= set(sizes)
    assert max(sizes) == 5_000
