"""`simplestore_async.opentelemetry`: real renewals as spans and metrics of a real SDK, which keeps its exports here."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import sys
import weakref
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from aiohttp import web
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simplestore_async import MemoryTokenCache, RenewalPolicy, RetryPolicy, TokenProvider, open_session
from simplestore_async.errors import ConfigurationError, InvalidClientError, TokenEndpointError
from simplestore_async.events import Event, RenewalStarted, TokenReceived
from simplestore_async.opentelemetry import OpenTelemetryListener
from simplestore_async.sandbox import Sandbox
from tests.support.programs import run_script
from tests.support.providers import DUE, HARD, LIFE, get_at_once, renewal_ends
from tests.support.servers import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import ReadableSpan

    from simplestore_async import AccessToken
    from tests.support.clocks import FakeClock
    from tests.support.servers import TokenServer

ONCE = RetryPolicy(attempts=1)
CAUSE, OUTCOME, SOURCE = (f"simplestore.token.{name}" for name in ("cause", "outcome", "source"))
FIRST = {CAUSE: "first", OUTCOME: "renewed", SOURCE: "endpoint"}


@attrs.frozen
class Telemetry:
    """An SDK, and what it has exported."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def listener(self, **options: Any) -> OpenTelemetryListener:
        return OpenTelemetryListener(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return [*self.exporter.get_finished_spans()]

    @property
    def metrics(self) -> list[Any]:
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else []
        return [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]

    def points(self, name: str) -> list[Any]:
        return [point for metric in self.metrics if name == metric.name for point in metric.data.data_points]

    def values(self, name: str) -> list[tuple[Mapping[str, Any], Any]]:
        """Return the attributes and the value of each point of a counter or a gauge."""
        return [(point.attributes, point.value) for point in self.points(f"simplestore.token.{name}")]

    def sums(self, name: str) -> list[tuple[Mapping[str, Any], int, float]]:
        """Return the attributes, the count and the sum of each point of a histogram."""
        return [(point.attributes, point.count, point.sum) for point in self.points(f"simplestore.token.{name}")]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider(shutdown_on_exit=False, resource=Resource.get_empty())
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False, resource=Resource.get_empty())
    yield Telemetry(tracer_provider, meter_provider, exporter, reader)
    tracer_provider.shutdown()
    meter_provider.shutdown()


async def begin(provider: TokenProvider) -> asyncio.Task[AccessToken]:
    """Return a caller that has run until it waits."""
    caller = asyncio.create_task(provider.get_token())
    await asyncio.sleep(0)
    return caller


async def get_slowly(provider: TokenProvider, server: TokenServer, clock: FakeClock) -> None:
    """Let a caller wait for a renewal that takes half a second."""
    server.gate.clear()
    caller = await begin(provider)
    await server.arrived.wait()
    clock.advance(0.5)
    server.gate.set()
    await caller


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class TestSpan:
    async def test_success(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal is a span of our scope: its cause from the start, and in the end what came, for how many."""
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
        """A renewal that fails is an error in our own words, with the error's class and the HTTP status."""
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

    async def test_failure_without_an_answer(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A renewal that no endpoint answered has no HTTP status."""
        credentials = token_server.credentials(client_secret=lambda: 1 / 0)
        async with token_server.provider(credentials=credentials, on_event=telemetry.listener()) as provider:
            await asyncio.gather(provider.get_token(), return_exceptions=True)

        [span] = telemetry.spans
        assert "simplestore_async.errors.TokenError" == attributes_of(span)["error.type"]
        assert "http.response.status_code" not in attributes_of(span)

    # case 8
    async def test_no_caller_owns_it(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """It is the root of a trace of its own, and the span of the caller that started it stays the current one."""
        tracer = telemetry.tracer_provider.get_tracer("caller")
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            with tracer.start_as_current_span("caller") as callers:
                await provider.get_token()
                assert callers is trace.get_current_span()

        renewal, caller = telemetry.spans
        assert ("simplestore.token.renewal", "caller") == (renewal.name, caller.name)
        assert renewal.parent is None
        assert renewal.context.trace_id != caller.context.trace_id

    async def test_what_the_renewal_does_is_within_it(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A span that is made while the renewal runs, here by what reads the secret, is its child."""
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

    async def test_lasts_as_long_as_the_renewal(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """It begins before the request is made, and ends once the answer was read."""
        instants: list[int | None] = []

        def listen(event: Event) -> None:
            listener(event)
            if isinstance(event, RenewalStarted):
                instants.append(trace.get_current_span().start_time)  # type: ignore[attr-defined]  # the SDK's span has it

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

    async def test_renewals_at_once(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Renewals of two providers that share a listener, and run at once, are not mistaken for each other."""
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
            await requests_arrive(token_server, 2)
            callers.append(await begin(rejected))
            await requests_arrive(token_server, 3)
            token_server.gate.set()
            await asyncio.gather(*callers, return_exceptions=True)

        assert {("first", "failed"), ("rejected", "renewed")} == {
            (attributes_of(span)[CAUSE], attributes_of(span)[OUTCOME]) for span in telemetry.spans
        }
        assert 2 == len({span.context.trace_id for span in telemetry.spans})

    # case 9
    async def test_two_loops_at_once(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Renewals of one provider on two event loops, in two threads, are a span each, and both are counted."""
        token_server.gate.clear()
        provider = token_server.provider(on_event=telemetry.listener())
        there = asyncio.create_task(asyncio.to_thread(asyncio.run, provider.get_token()))
        await requests_arrive(token_server, 1)
        here = await begin(provider)
        await requests_arrive(token_server, 2)
        token_server.gate.set()
        await asyncio.gather(here, there)

        assert [None, None] == [span.parent for span in telemetry.spans]
        assert 2 == len({span.context.trace_id for span in telemetry.spans})
        assert 2 == sum(value for _, value in telemetry.values("renewals"))

    async def test_cancelled_renewal(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A renewal that ends with its provider leaves no span, and counts as nothing."""
        token_server.gate.clear()
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            caller = await begin(provider)
            await token_server.arrived.wait()
        token_server.gate.set()
        await asyncio.wait([caller])

        assert caller.exception()
        assert [] == telemetry.spans
        assert [] == telemetry.metrics

    async def test_events_from_elsewhere(self, telemetry: Telemetry) -> None:
        """Events that are handed on outside the renewal are measured, and make no span."""
        listener = telemetry.listener()

        listener(
            TokenReceived(
                cause="due",
                source="cache",
                is_unchanged=False,
                duration_seconds=0.5,
                life_seconds=60,
                waiter_count=0,
            )
        )
        listener(Event())

        assert [] == telemetry.spans
        assert [({CAUSE: "due", OUTCOME: "renewed", SOURCE: "cache"}, 1)] == telemetry.values("renewals")


async def requests_arrive(server: TokenServer, count: int) -> None:
    while len(server.requests) < count:
        server.arrived.clear()
        await server.arrived.wait()


class TestMeasurements:
    async def test_success(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal is counted by cause, outcome and source; how long it took, and was waited for, is in seconds."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener()) as provider:
            await get_slowly(provider, token_server, clock)

        assert [(FIRST, 1)] == telemetry.values("renewals")
        assert [(FIRST, 1, 0.5)] == telemetry.sums("renewal.duration")
        assert [(FIRST, 1, 0.5)] == telemetry.sums("renewal.wait")

    async def test_failure(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal that fails is counted by the class of its error; the outage that begins with it is counted once."""
        token_server.replies = [503, 503]
        async with token_server.provider(clock=clock, retry=ONCE, on_event=telemetry.listener()) as provider:
            for _ in range(2):
                with pytest.raises(TokenEndpointError):
                    await provider.get_token()
                clock.advance(1)
            await provider.get_token()

        error_type = {"error.type": "simplestore_async.errors.TokenEndpointError"}
        failed = {CAUSE: "first", OUTCOME: "failed"} | error_type
        assert [(failed, 2), (FIRST, 1)] == telemetry.values("renewals")
        assert [(error_type, 1)] == telemetry.values("outages")

    async def test_background(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal in the background is one of a token that is due, and nobody waited for it."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener()) as provider:
            await provider.get_token()
            clock.advance(DUE)
            get_at_once(provider)
            await renewal_ends()

        assert [(FIRST, 1), (FIRST | {CAUSE: "due"}, 1)] == telemetry.values("renewals")
        assert [] == telemetry.sums("renewal.wait")

    async def test_unchanged(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal that brings the held token again is told apart."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener()) as provider:
            token_server.replies = [
                {"access_token": "same", "expires_in": LIFE},
                {"access_token": "same", "expires_in": LIFE},
            ]
            await provider.get_token()
            clock.advance(DUE)
            get_at_once(provider)
            await renewal_ends()

        assert [(FIRST, 1), (FIRST | {CAUSE: "due", OUTCOME: "unchanged"}, 1)] == telemetry.values("renewals")

    async def test_cache(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A token that another provider left in the cache has the cache for its source."""
        cache = MemoryTokenCache()
        async with (
            token_server.provider(cache=cache) as other,
            token_server.provider(cache=cache, on_event=telemetry.listener()) as provider,
        ):
            assert await other.get_token() is await provider.get_token()

        assert [(FIRST | {SOURCE: "cache"}, 1)] == telemetry.values("renewals")

    async def test_cache_fails(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Each use of a cache that fails is counted by what was asked of it."""

        class Full(MemoryTokenCache):
            async def set(self, key: str, token: AccessToken, /) -> None:
                raise OSError

        async with token_server.provider(cache=Full(), on_event=telemetry.listener()) as provider:
            await provider.get_token()

        assert [({"simplestore.token.cache_operation": "set"}, 1)] == telemetry.values("cache_failures")

    async def test_rejections(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A rejected token is counted, and so is its replacement that is kept although it is rejected too."""
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            assert provider.invalidate(await provider.get_token())
            assert not provider.invalidate(await provider.get_token())

        assert [
            ({"simplestore.token.is_replaced": True}, 1),
            ({"simplestore.token.is_replaced": False}, 1),
        ] == telemetry.values("rejections")
        assert [(FIRST, 1), (FIRST | {CAUSE: "rejected"}, 1)] == telemetry.values("renewals")

    async def test_overdue(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A renewal that callers waited for in vain is counted, before it has ended."""
        policy = RenewalPolicy(max_wait_seconds=2.0**-10)
        async with token_server.provider(clock=clock, policy=policy, on_event=telemetry.listener()) as provider:
            old = await provider.get_token()
            clock.advance(HARD)
            token_server.gate.clear()
            assert old is await provider.get_token()
            assert [({}, 1)] == telemetry.values("overdue_renewals")
            token_server.gate.set()

    async def test_units(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """What is measured in time is in seconds, in buckets from a millisecond to a renewal's budget."""
        async with token_server.provider(clock=clock, on_event=telemetry.listener(clock=clock)) as provider:
            await get_slowly(provider, token_server, clock)

        assert {
            "simplestore.token.renewals": "{renewal}",
            "simplestore.token.renewal.duration": "s",
            "simplestore.token.renewal.wait": "s",
            "simplestore.token.remaining_life": "s",
        } == {metric.name: metric.unit for metric in telemetry.metrics}
        bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)
        for name in ("duration", "wait"):
            [point] = telemetry.points(f"simplestore.token.renewal.{name}")
            assert bounds == point.explicit_bounds


class TestRemainingLife:
    @pytest.fixture(autouse=True)
    def nothing_odd_is_measured(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """The SDK ignores what is no finite number, and only says so."""
        yield
        said = [record for record in caplog.get_records("call") if record.name.startswith("opentelemetry")]
        assert [] == [record.getMessage() for record in said]

    async def test_falls(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """It is what is left when it is observed, until the token expires; then it is gone until the next one comes."""
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

    async def test_by_the_machines_clock(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Unless it is told otherwise it follows the clock that providers follow."""
        async with token_server.provider(on_event=telemetry.listener()) as provider:
            await provider.get_token()

        [(_, life)] = telemetry.values("remaining_life")
        assert 0 < life <= 3_600

    async def test_failures(self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry) -> None:
        """A failure leaves it as it is while the token lives; it is gone once a rejected one cannot be replaced."""
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
    async def test_one_listener(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """Providers that share a listener are counted together."""
        listener = telemetry.listener()
        async with token_server.provider(on_event=listener) as one, token_server.provider(on_event=listener) as other:
            await one.get_token()
            await other.get_token()

        assert [(FIRST, 2)] == telemetry.values("renewals")
        assert 2 == len(telemetry.spans)

    async def test_a_listener_each(
        self, token_server: TokenServer, clock: FakeClock, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Listeners tell by their attributes whose are span, count and gauge; a gauge goes when its listener does."""
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

    async def test_two_sdks(self, token_server: TokenServer, telemetry: Telemetry) -> None:
        """A listener reports to the SDK that it was given, and to no other."""
        reader = InMemoryMetricReader()
        other = MeterProvider([reader], shutdown_on_exit=False, resource=Resource.get_empty())
        listeners = [telemetry.listener(), OpenTelemetryListener(meter_provider=other)]
        async with token_server.provider(on_event=listeners[1]) as provider:
            await provider.get_token()

        assert [] == telemetry.metrics
        assert reader.get_metrics_data()
        other.shutdown()

    def test_nothing_is_kept(self, telemetry: Telemetry) -> None:
        """A listener that goes out of use is collected, whomever it reported to."""
        listeners = [telemetry.listener(), OpenTelemetryListener()]
        references = [weakref.ref(listener) for listener in listeners]

        del listeners
        gc.collect()

        assert [None, None] == [reference() for reference in references]

    def test_the_global_meter_is_asked_once(self) -> None:
        """Listeners to the global provider share what measures: without an SDK the API would keep each for good."""
        listeners = [OpenTelemetryListener(), OpenTelemetryListener(meter_provider=metrics.get_meter_provider())]

        assert listeners[0]._instruments is listeners[1]._instruments


class TestGlobalProviders:
    async def test_without_an_sdk(self, token_server: TokenServer, caplog: pytest.LogCaptureFixture) -> None:
        """Where no SDK is configured a listener does nothing, silently."""
        caplog.set_level(logging.INFO)
        async with token_server.provider(on_event=OpenTelemetryListener()) as provider:
            await provider.get_token()

        assert [] == [record for record in caplog.records if record.name.startswith(("simplestore", "opentelemetry"))]

    async def test_sdk_that_comes_later(self, token_server: TokenServer) -> None:
        """Listeners report to the global providers, whether these are set before or after, and named or not."""
        environment = {
            "SIMPLESTORE_CLIENT_ID": "app",
            "SIMPLESTORE_CLIENT_SECRET": "secret",
            "SIMPLESTORE_TOKEN_URL": token_server.token_url,
        }
        said = await run_script(_GLOBAL_PROVIDERS, environment)

        names = "default early explicit late named"
        assert [names] * 3 == said.splitlines()


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


async def test_sandbox_and_session(telemetry: Telemetry) -> None:
    """`open_session` takes a listener; a revoked token is a rejection and two renewals."""
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
    """Nothing that is exported holds a secret, a token, a scope, a client id or a URL's query, whatever happens."""
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
        ({"attributes": ["shop"]}, 'attributes must be a mapping, such as {"shop": "7"}, which list is not'),
        (
            {"attributes": {"shops": ["canary"]}},
            "attributes['shops'] must have a string for its name, and for its value a string, a number or a bool",
        ),
        (
            {"attributes": {7: "canary"}},
            "attributes[7] must have a string for its name, and for its value a string, a number or a bool",
        ),
    ],
)
def test_wrong_argument(options: dict[str, Any], words: str) -> None:
    """A wrong argument is named, and what it must be; its value is not."""
    with pytest.raises(ConfigurationError) as caught:
        OpenTelemetryListener(**options)

    assert words == str(caught.value)


def test_attributes_are_copied(telemetry: Telemetry) -> None:
    """Attributes that are changed later do not change what a listener exports."""
    attributes = {"shop": "7"}
    listener = telemetry.listener(attributes=attributes)

    attributes["shop"] = "8"

    assert {"shop": "7"} == listener._attributes


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the API package the import says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "simplestore_async.opentelemetry")

    with pytest.raises(ImportError) as caught:
        importlib.import_module("simplestore_async.opentelemetry")

    assert (
        'simplestore_async.opentelemetry needs opentelemetry-api: pip install "simplestore-async[opentelemetry]"'
        == str(caught.value)
    )
