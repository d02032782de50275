"""`OpenTelemetryListener`: spans, metrics and shared instruments, in a real SDK with in-memory exporters."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from aiohttp import web
from opentelemetry import metrics, trace

from simplestore_async import RetryPolicy
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenEndpointError
from simplestore_async.events import (
    CacheFailed,
    Event,
    OutageBegan,
    RenewalFailed,
    RenewalOverdue,
    TokenReceived,
    TokenRejected,
)
from simplestore_async.opentelemetry import OpenTelemetryListener
from tests.support.programs import run_script
from tests.support.providers import DUE, LIFE, begin, get_at_once, renewal_ends
from tests.support.servers import SECRET
from tests.support.telemetry import CAUSE, FIRST, OUTCOME, SOURCE, Telemetry, attributes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer

ONCE = RetryPolicy(attempts=1)


async def request_arrives(server: TokenServer, count: int) -> None:
    """Wait until the server has received *count* requests."""
    while len(server.requests) < count:
        server.arrived.clear()
        await server.arrived.wait()


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
    ids=["tracer provider", "meter provider", "attributes", "attribute of type list", "name of type int"],
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


RECEIVED = TokenReceived(
    cause="first", source="endpoint", is_unchanged=False, duration_seconds=1, life_seconds=60, waiter_count=0
)
FAILED = RenewalFailed(
    cause="first",
    error=TokenEndpointError("refused", status=503),
    is_token_alive=False,
    duration_seconds=1,
    retry_in_seconds=1,
    waiter_count=0,
)
ERROR_TYPE = {"error.type": "simplestore_async.errors.TokenEndpointError"}


class TestMeasurements:
    async def test_success(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal is counted by cause, outcome and source, and its duration and wait are measured in seconds."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener(clock=clock)) as provider:
            token_server.gate.clear()
            caller = await begin(provider)
            await token_server.arrived.wait()
            clock.advance(0.5)
            token_server.gate.set()
            await caller

        assert [(FIRST, 1)] == telemetry.values("renewals")
        assert [(FIRST, 1, 0.5)] == telemetry.sums("renewal.duration")
        assert [(FIRST, 1, 0.5)] == telemetry.sums("renewal.wait")
        assert {
            "simplestore.token.renewals": "{renewal}",
            "simplestore.token.renewal.duration": "s",
            "simplestore.token.renewal.wait": "s",
            "simplestore.token.remaining_life": "s",
        } == {metric.name: metric.unit for metric in telemetry.metrics}
        # From a millisecond to the budget of a renewal.
        bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
        for name in ("duration", "wait"):
            [point] = telemetry.points(f"simplestore.token.renewal.{name}")
            assert bounds == point.explicit_bounds

    @pytest.mark.parametrize(
        ("event", "name", "attributes"),
        [
            (attrs.evolve(RECEIVED, source="cache"), "renewals", FIRST | {SOURCE: "cache"}),
            (attrs.evolve(RECEIVED, is_unchanged=True), "renewals", FIRST | {OUTCOME: "unchanged"}),
            (FAILED, "renewals", {CAUSE: "first", OUTCOME: "failed"} | ERROR_TYPE),
            (OutageBegan(error=FAILED.error, life_seconds=0), "outages", ERROR_TYPE),
            (CacheFailed(operation="set", problem=""), "cache_failures", {"simplestore.token.cache_operation": "set"}),
            (TokenRejected(age_seconds=1, is_replaced=True), "rejections", {"simplestore.token.is_replaced": True}),
            (TokenRejected(age_seconds=1, is_replaced=False), "rejections", {"simplestore.token.is_replaced": False}),
            (RenewalOverdue(waited_seconds=2, life_seconds=20), "overdue_renewals", {}),
        ],
        ids=["cache", "unchanged", "failure", "outage", "cache failure", "replaced", "kept", "overdue"],
    )
    def test_event(self, telemetry: Telemetry, event: Event, name: str, attributes: dict[str, Any]) -> None:
        """Each event is counted with its attributes; outside a renewal there is no span, without waiters no wait."""
        listener = telemetry.listener()
        for each in (event, event, Event()):
            listener(each)

        assert [(attributes, 2)] == telemetry.values(name)
        assert [] == telemetry.sums("renewal.wait")
        assert [] == telemetry.spans


class TestRemainingLife:
    @pytest.fixture(autouse=True)
    def no_invalid_measurement(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """Fail if the SDK logs a message, as it does for numbers that are not finite."""
        yield
        records = [record for record in caplog.get_records("call") if record.name.startswith("opentelemetry")]
        assert [] == [record.getMessage() for record in records]

    async def test_gauge(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """The gauge is the token's remaining life when observed, and absent while there is no valid token."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener(clock=clock)) as provider:
            assert [] == telemetry.values("remaining_life")
            await provider.get_token()
            assert [({}, 3_600.0)] == telemetry.values("remaining_life")
            clock.advance(3_599)
            assert [({}, 1.0)] == telemetry.values("remaining_life")
            clock.advance(1)
            assert [] == telemetry.values("remaining_life")
            await provider.get_token()
            assert [({}, 3_600.0)] == telemetry.values("remaining_life")

    async def test_failures(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A failed renewal leaves the gauge while the token is valid, and a rejected token removes it."""
        async with token_server.provider(clock=clock, retry=ONCE, on_event=telemetry.listener(clock=clock)) as provider:
            token = await provider.get_token()
            clock.advance(DUE)
            token_server.replies = [503, 503]
            get_at_once(provider)
            await renewal_ends()
            assert [({}, LIFE - DUE)] == telemetry.values("remaining_life")

            clock.advance(1)
            assert provider.invalidate(token)
            with pytest.raises(TokenEndpointError):
                await provider.get_token()
            assert [] == telemetry.values("remaining_life")


class TestSharing:
    async def test_one_listener_per_provider(
        self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Attributes separate the spans, counts and gauges of listeners, and a gauge ends with its listener."""
        async with (
            token_server.provider(
                clock=clock, on_event=telemetry.listener(clock=clock, attributes={"shop": "7"})
            ) as one,
            token_server.provider(
                clock=clock, on_event=telemetry.listener(clock=clock, attributes={"shop": "8", CAUSE: "mine"})
            ) as other,
        ):
            await one.get_token()
            clock.advance(60)
            await other.get_token()

            assert [(FIRST | {"shop": "7"}, 1), (FIRST | {"shop": "8"}, 1)] == telemetry.values("renewals")
            assert ["7", "8"] == [attributes_of(span)["shop"] for span in telemetry.spans]
            assert [({"shop": "7"}, 3_540.0), ({"shop": "8", CAUSE: "mine"}, 3_600.0)] == telemetry.values(
                "remaining_life"
            )
        del one
        gc.collect()
        assert ["8"] == [attributes["shop"] for attributes, _ in telemetry.values("remaining_life")]
        assert [] == [record for record in caplog.records if record.name.startswith("opentelemetry")]

    def test_shared_instruments(self) -> None:
        """Listeners of the global provider share instruments, which the API would otherwise keep forever."""
        listeners = [OpenTelemetryListener(), OpenTelemetryListener(meter_provider=metrics.get_meter_provider())]

        assert listeners[0]._instruments is listeners[1]._instruments


class TestGlobalProviders:
    async def test_sdk_is_set_later(self, token_server: TokenServer) -> None:
        """Listeners report to the global providers, whether these are set before or after, and named or not."""
        environment = {
            "SIMPLESTORE_CLIENT_ID": "app",
            "SIMPLESTORE_CLIENT_SECRET": "secret",
            "SIMPLESTORE_TOKEN_URL": token_server.token_url,
        }
        output = await run_script(_GLOBAL_PROVIDERS, environment)

        names = "default early explicit late named"
        assert [names] * 3 == output.splitlines()


_GLOBAL_PROVIDERS = """
import asyncio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from simplestore_async import TokenProvider
from simplestore_async.opentelemetry import OpenTelemetryListener

reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
meter_provider, tracer_provider = MeterProvider([reader]), TracerProvider()
tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))

def listener(name, **options):
    return OpenTelemetryListener(attributes={"name": name}, **options)

listeners = [
    listener("explicit", meter_provider=meter_provider),
    listener("early"),
    listener("default", meter_provider=metrics.get_meter_provider(), tracer_provider=trace.get_tracer_provider()),
]
metrics.set_meter_provider(meter_provider)
trace.set_tracer_provider(tracer_provider)
listeners += [listener("late"), listener("named", meter_provider=meter_provider, tracer_provider=tracer_provider)]

async def renew():
    for each in listeners:
        async with TokenProvider(on_event=each) as provider:
            await provider.get_token()

asyncio.run(renew())
[resource] = reader.get_metrics_data().resource_metrics
points = {metric.name: metric.data.data_points for scope in resource.scope_metrics for metric in scope.metrics}
for name in ("renewals", "remaining_life"):
    print(*sorted(point.attributes["name"] for point in points[f"simplestore.token.{name}"]))
print(*sorted(span.attributes["name"] for span in exporter.get_finished_spans()))
"""
