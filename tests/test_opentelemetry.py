"""`OpenTelemetryListener`: spans of real renewals in a real SDK with in-memory exporters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry import trace

from simplestore_async import RetryPolicy, open_session
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenEndpointError
from simplestore_async.events import Event, RenewalStarted
from simplestore_async.opentelemetry import OpenTelemetryListener
from simplestore_async.sandbox import Sandbox
from tests.support.loops import request_arrives
from tests.support.providers import begin
from tests.support.servers import SECRET
from tests.support.telemetry import CAUSE, FIRST, OUTCOME, Telemetry, attributes_of

if TYPE_CHECKING:
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer


ONCE = RetryPolicy(attempts=1)


class TestSpan:
    async def test_success(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal is one span of the package's scope with cause, outcome, waiters and lifetime."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener()) as provider:
            await asyncio.gather(*(provider.get_token() for _ in range(3)))

        [span] = telemetry.spans
        assert ("simplestore.token.renewal", trace.SpanKind.INTERNAL) == (span.name, span.kind)
        assert (trace.StatusCode.UNSET, None) == (span.status.status_code, span.status.description)
        assert FIRST | {
            "simplestore.token.waiter_count": 3,
            "simplestore.token.life_seconds": 3_600.0,
        } == attributes_of(span)
        assert span.instrumentation_scope is not None
        assert "simplestore_async" == span.instrumentation_scope.name
        assert span.instrumentation_scope.version

    async def test_failure(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """The span of a failed renewal has the error's message, class and HTTP status, and no exception event."""
        token_server.replies = [503]
        async with token_server.provider(clock=clock, retry=ONCE, on_event=telemetry.listener()) as provider:
            with pytest.raises(TokenEndpointError) as caught:
                await provider.get_token()

        [span] = telemetry.spans
        assert (trace.StatusCode.ERROR, str(caught.value)) == (span.status.status_code, span.status.description)
        assert {
            CAUSE: "first",
            OUTCOME: "failed",
            "error.type": "simplestore_async.errors.TokenEndpointError",
            "http.response.status_code": 503,
            "simplestore.token.waiter_count": 1,
            "simplestore.token.retry_in_seconds": 1.0,
        } == attributes_of(span)
        assert () == span.events  # no exception with its traceback

    async def test_failure_without_a_response(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """The span of a renewal that failed without a response has no HTTP status."""
        credentials = token_server.credentials(client_secret=lambda: 1 / 0)
        async with token_server.provider(credentials=credentials, on_event=telemetry.listener()) as provider:
            await asyncio.gather(provider.get_token(), return_exceptions=True)

        [span] = telemetry.spans
        assert "simplestore_async.errors.TokenError" == attributes_of(span)["error.type"]
        assert "http.response.status_code" not in attributes_of(span)

    async def test_own_trace(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A renewal has its own trace, and the current span of the caller that started it stays current."""
        tracer = telemetry.tracer_provider.get_tracer("caller")
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            with tracer.start_as_current_span("caller") as current:
                await provider.get_token()
                assert current is trace.get_current_span()

        renewal, caller = telemetry.spans
        assert ("simplestore.token.renewal", "caller") == (renewal.name, caller.name)
        assert renewal.parent is None
        assert renewal.context.trace_id != caller.context.trace_id

    async def test_child_span(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A span created during the renewal, here by the secret's callable, is its child."""
        tracer = telemetry.tracer_provider.get_tracer("vault")

        async def read_secret() -> str:
            with tracer.start_as_current_span("vault"):
                await asyncio.sleep(0)
            return SECRET

        credentials = token_server.credentials(client_secret=read_secret)
        async with token_server.provider(credentials=credentials, on_event=telemetry.listener()) as provider:
            await provider.get_token()

        vault, renewal = telemetry.spans
        assert ("vault", renewal.context) == (vault.name, vault.parent)

    async def test_duration(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """The span starts before the request and ends once the response was read."""
        instants: list[int | None] = []

        def listen(event: Event) -> None:
            listener(event)
            if isinstance(event, RenewalStarted):
                instants.append(trace.get_current_span().start_time)  # type: ignore[attr-defined]  # of the SDK's span

        listener = telemetry.listener()
        token_server.gate.clear()
        async with token_server.provider(on_event=listen) as provider:
            caller = await begin(provider)
            await token_server.arrived.wait()
            assert [] == telemetry.spans
            token_server.gate.set()
            await caller

        [span] = telemetry.spans
        assert instants == [span.start_time]
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time < span.end_time

    async def test_concurrent_renewals(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Concurrent renewals of two providers with one listener have separate spans and counts."""
        listener = telemetry.listener()
        async with (
            token_server.provider(on_event=listener, retry=ONCE) as failing,
            token_server.provider(on_event=listener) as rejected,
        ):
            rejected.invalidate(await rejected.get_token())
            telemetry.exporter.clear()
            token_server.gate.clear()
            token_server.replies = [400]
            callers = [await begin(failing)]
            await request_arrives(token_server, 2)
            callers.append(await begin(rejected))
            await request_arrives(token_server, 3)
            token_server.gate.set()
            await asyncio.gather(*callers, return_exceptions=True)

        assert {("first", "failed"), ("rejected", "renewed")} == {
            (attributes_of(span)[CAUSE], attributes_of(span)[OUTCOME]) for span in telemetry.spans
        }
        assert 2 == len({span.context.trace_id for span in telemetry.spans})
        assert 3 == sum(value for _, value in telemetry.values("renewals"))

    async def test_cancelled_renewal(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A renewal that is cancelled by closing its provider causes neither a span nor a measurement."""
        token_server.gate.clear()
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            caller = await begin(provider)
            await token_server.arrived.wait()
        token_server.gate.set()
        await asyncio.wait([caller])

        assert caller.exception()
        assert [] == telemetry.spans
        assert [] == telemetry.metrics


async def test_sandbox_and_session(telemetry: Telemetry) -> None:
    """With `open_session()` a revoked token is measured as a rejection and a further renewal."""
    async with (
        Sandbox() as sandbox,
        open_session(sandbox.credentials, base_url=sandbox.base_url, on_event=telemetry.listener()) as session,
    ):
        for _ in range(2):
            async with session.get("orders") as response:
                assert 200 == response.status
            sandbox.revoke_all()

    assert [(FIRST, 1), (FIRST | {CAUSE: "rejected"}, 1)] == telemetry.values("renewals")
    assert 1 == len(telemetry.values("rejections"))


async def test_secrecy(token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
    """No export contains a secret, a token, a scope, a client id or a URL's query."""
    credentials = token_server.credentials(
        client_id="canary-client", scope="canary-scope", token_url=f"{token_server.token_url}?tenant=canary"
    )
    token_server.replies = [
        web.json_response({"error": SECRET, "error_description": SECRET}, status=400),
        web.json_response({"error": "invalid_client", "title": SECRET}, status=401),
        web.json_response({"access_token": "canary token"}),
    ]
    listener = telemetry.listener(clock=clock)
    async with token_server.provider(credentials=credentials, clock=clock, retry=ONCE, on_event=listener) as provider:
        for kind in (TokenEndpointError, InvalidClientError, Exception):
            with pytest.raises(kind):
                await provider.get_token()
            clock.advance(60)
        provider.invalidate(await provider.get_token())
        await provider.get_token()

    data = telemetry.reader.get_metrics_data()
    assert data is not None
    exported = [data.to_json(), *(span.to_json() for span in telemetry.spans)]
    assert 6 == len(exported)
    assert [] == [text for text in exported if "canary" in text]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tracer_provider": trace.NoOpTracer()}, "tracer_provider must be a TracerProvider, got NoOpTracer"),
        ({"meter_provider": 1}, "meter_provider must be a MeterProvider, got int"),
        ({"clock": 1}, "clock must be a Clock, got int"),
        ({"attributes": ["shop"]}, 'attributes must be a mapping, got list; write it like {"shop": "7"}'),
        (
            {"attributes": {"shops": ["canary"]}},
            "attributes['shops'] must have a string as name, and a string, a number or a bool as value",
        ),
        (
            {"attributes": {7: "canary"}},
            "attributes[7] must have a string as name, and a string, a number or a bool as value",
        ),
    ],
    ids=["tracer provider", "meter provider", "clock", "attributes", "attribute of type list", "name of type int"],
)
def test_wrong_argument(options: dict[str, Any], words: str) -> None:
    """The error of a wrong argument has its name and the expected type but not its value."""
    with pytest.raises(ConfigurationError) as caught:
        OpenTelemetryListener(**options)

    assert words == str(caught.value)


def test_attributes_are_copied(telemetry: Telemetry) -> None:
    """Later changes to the caller's attributes do not affect the listener."""
    attributes = {"shop": "7"}
    listener = telemetry.listener(attributes=attributes)

    attributes["shop"] = "8"

    assert {"shop": "7"} == listener._attributes
