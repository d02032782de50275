"""Recorders, tracers and deadlines of a token request show no secret."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import vcr  # type: ignore[import-untyped]
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simplestore_async import TokenEndpoint
from simplestore_async.sandbox import Sandbox
from tests.support.raw_server import RawServer
from tests.support.servers import SECRET
from tests.support.token_requests import raw_credentials
from tests.support.tracebacks import everything_shown
from tests.support.wire_faults import GRANT, JSON_HEAD, hangs_after, length, shows_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(client_id="app", client_secret=SECRET) as sandbox:
        yield sandbox


def make_endpoint(sandbox: Sandbox, auth_method: Any) -> TokenEndpoint:
    """Return an endpoint with a secret header."""
    credentials = attrs.evolve(sandbox.credentials, auth_method=auth_method)
    return TokenEndpoint(credentials, headers={"X-API-Key": "canary-key"})


@pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
async def test_cassette(sandbox: Sandbox, tmp_path: Path, auth_method: str) -> None:
    """Vcrpy's filter removes the secret from the form, and vcrpy records neither Authorization nor secret headers."""
    endpoint = make_endpoint(sandbox, auth_method)
    cassette = tmp_path / "cassette.yaml"
    recorder = vcr.VCR(filter_post_data_parameters=["client_secret"])
    with recorder.use_cassette(str(cassette)):
        recorded = await endpoint.request_token()
    with recorder.use_cassette(str(cassette), record_mode="none", match_on=["method", "uri"]):
        replayed = await endpoint.request_token()

    text = cassette.read_text()
    assert (recorded.value, 1) == (replayed.value, sandbox.counters.token_requests)
    assert "grant_type=client_credentials" in text
    assert not shows_secret(text)
    assert "canary" not in text


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of OpenTelemetry's instrumentation of aiohttp, with every header captured."""
    for direction in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_{direction}", ".*")
    exporter = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=tracer_provider)
    yield exporter
    instrumentor.uninstrument()


async def test_spans(sandbox: Sandbox, spans: InMemorySpanExporter) -> None:
    """Spans contain the public headers of the token request, and neither Authorization nor headers of the user."""
    await make_endpoint(sandbox, "client_secret_basic").request_token()

    (span,) = spans.get_finished_spans()
    shown = span.to_json()
    # The oldest instrumentation cannot capture the headers of a client's request.
    if version("opentelemetry-instrumentation-aiohttp-client") >= "0.66":
        assert "application/x-www-form-urlencoded" in shown
    assert not shows_secret(shown)
    assert "canary-key" not in shown
    (request,) = sandbox.requests
    assert all(name in request.headers for name in ("Authorization", "X-API-Key", "Traceparent"))


@pytest.mark.parametrize("auth_method", ["client_secret_post", "client_secret_basic"])
async def test_deadline_of_the_caller(auth_method: Any) -> None:
    """The error of a caller cancelled during a response shows neither secret nor token in any frame's locals."""
    reached = asyncio.Event()
    async with RawServer(hangs_after(JSON_HEAD + length(999), GRANT, reached=reached)) as server:
        request = asyncio.ensure_future(TokenEndpoint(raw_credentials(server, auth_method=auth_method)).request_token())
        await reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await request
    shown = everything_shown(caught.value)

    assert "pieces = [b'***']" in shown
    assert not shows_secret(shown)
    assert "canary-token" not in shown
