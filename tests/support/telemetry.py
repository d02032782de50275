"""An OpenTelemetry SDK in memory, and its exports as plain values."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simplestore_async.opentelemetry import OpenTelemetryListener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import ReadableSpan


CAUSE, OUTCOME, SOURCE = (f"simplestore.token.{name}" for name in ("cause", "outcome", "source"))
FIRST = {CAUSE: "first", OUTCOME: "renewed", SOURCE: "endpoint"}


@attrs.frozen
class Telemetry:
    """An SDK and its exports."""

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


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@contextmanager
def in_memory_sdk() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider(shutdown_on_exit=False, resource=Resource.get_empty())
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False, resource=Resource.get_empty())
    yield Telemetry(tracer_provider, meter_provider, exporter, reader)
    tracer_provider.shutdown()
    meter_provider.shutdown()
