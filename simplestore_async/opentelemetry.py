"""Events as OpenTelemetry spans and metrics. Rule: bounded attributes, no secrets, and only the API package.

Requires the extra `opentelemetry`. A renewal reports its events within its own `contextvars.Context`; its span is kept
there, so that spans of concurrent renewals cannot be confused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import attrs

from ._core import __version__
from ._core.clock import Clock, default_clock
from ._core.validation import check_type
from .errors import ConfigurationError, TokenEndpointError
from .events import (
    CacheFailed,
    OutageBegan,
    RenewalFailed,
    RenewalOverdue,
    RenewalStarted,
    TokenReceived,
    TokenRejected,
)

try:
    from opentelemetry import context, metrics, trace
except ImportError as _missing:
    raise ImportError(
        'simplestore_async.opentelemetry needs opentelemetry-api: pip install "simplestore-async[opentelemetry]"'
    ) from _missing

if TYPE_CHECKING:
    from .errors import SimpleStoreError
    from .events import Event

__all__ = ["OpenTelemetryListener"]

_SCOPE: Final = ("simplestore_async", __version__)

# The names of the semantic conventions, where they have one; their package has no stable version to depend on.
_ERROR_TYPE: Final = "error.type"
_CAUSE: Final = "simplestore.token.cause"
_OUTCOME: Final = "simplestore.token.outcome"

# From a memory cache to a renewal's whole budget.
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)


@attrs.define(eq=False)
class _LastToken:
    """Expiry of the last token of a listener, and where it is exported."""

    meter_provider: metrics.MeterProvider | None
    attributes: Mapping[str, str | float]
    clock: Clock
    expires_at: float = -inf

    @property
    def reports_to(self) -> metrics.MeterProvider:
        """The provider of its meters; the global one may be set after the listener is created."""
        return self.meter_provider or metrics.get_meter_provider()


# Shared by all listeners: a meter keeps the callback of the first gauge of a name and drops the others, so that each
# callback must observe for all listeners that export to the same provider.
_last_tokens: Final[dict[ref[_LastToken], None]] = {}


def _observe_lives(
    meter_provider: metrics.MeterProvider | None, _: metrics.CallbackOptions
) -> list[metrics.Observation]:
    exporter = meter_provider or metrics.get_meter_provider()
    # Copied first: this is the exporter's thread, and listeners come and go on others.
    tokens = [token for reference in [*_last_tokens] if (token := reference()) is not None]
    lives = [(token, token.expires_at - token.clock.monotonic()) for token in tokens if token.reports_to is exporter]
    return [metrics.Observation(life, token.attributes) for token, life in lives if life > 0]


class _Instruments:
    """The metrics."""

    def __init__(self, meter_provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter(*_SCOPE, meter_provider)
        seconds = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_BUCKETS)
        self.renewals = meter.create_counter(
            "simplestore.token.renewals", unit="{renewal}", description="Renewals that ended"
        )
        self.duration = seconds("simplestore.token.renewal.duration", description="Duration of a renewal")
        self.wait = seconds(
            "simplestore.token.renewal.wait", description="Longest wait of callers that had no other token"
        )
        self.overdue = meter.create_counter(
            "simplestore.token.overdue_renewals",
            unit="{renewal}",
            description="Renewals still pending when their callers got the held token",
        )
        self.rejections = meter.create_counter(
            "simplestore.token.rejections", unit="{rejection}", description="Tokens that the API rejected"
        )
        self.outages = meter.create_counter(
            "simplestore.token.outages", unit="{outage}", description="First failures after a success"
        )
        self.cache_failures = meter.create_counter(
            "simplestore.token.cache_failures", unit="{failure}", description="Cache operations that failed"
        )
        meter.create_observable_gauge(
            "simplestore.token.remaining_life",
            callbacks=[partial(_observe_lives, meter_provider)],
            unit="s",
            description="Remaining life of the token",
        )


@cache
def _global_instruments() -> _Instruments:
    # Created once: without a configured SDK, the API keeps every instrument that it creates.
    return _Instruments(None)


class OpenTelemetryListener:
    """Turn a provider's events into OpenTelemetry spans and metrics: pass it as `on_event`.

    Each renewal is a span, `simplestore.token.renewal`. It is the root of a trace, because no single caller owns a
    renewal. Its HTTP requests are within it if aiohttp's client is instrumented. Its status is an error if the renewal
    failed. A renewal cancelled with its provider or event loop leaves no span.

    The names of metrics, and of attributes without a semantic convention, begin with `simplestore.token.`:

    - `renewals` counts renewals by `cause`, `outcome` (`renewed`, `unchanged`, `failed`), `source` or `error.type`.
    - `renewal.duration` and `renewal.wait`, with the same attributes, are histograms of
      `TokenReceived.duration_seconds` and, if callers without a token waited, `TokenReceived.longest_wait_seconds`.
    - `overdue_renewals`, `rejections` by `is_replaced`, `outages` by `error.type`, and `cache_failures` by
      `cache_operation` count the events `RenewalOverdue`, `TokenRejected`, `OutageBegan` and `CacheFailed`.
    - `remaining_life` is a gauge of the last token, read when it is observed. It is absent without a token: after
      expiry, after a renewal that failed without one, or once the listener is garbage-collected.

    Safe to share among providers, event loops and threads. Providers that share a listener, or whose listeners have the
    same attributes, share its gauge. No attribute contains a secret, token, client id, scope or URL. The span of a
    failed renewal has the error's text, like the log.

    Args:
        tracer_provider: where spans go; by default the global one, even if it is set later.
        meter_provider: where metrics go; by default the global one, even if it is set later.
        attributes: your own attributes for every span and measurement, such as `{"shop": "7"}` to distinguish
            providers. Each combination is a time series: use values from a bounded set.
        clock: the provider's clock, if it was given one; for tests.

    Raises:
        ConfigurationError: if an argument is wrong.
        ImportError: importing the module, if `opentelemetry-api` is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        attributes: Mapping[str, str | float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_type("tracer_provider", tracer_provider, trace.TracerProvider | None)
        check_type("meter_provider", meter_provider, metrics.MeterProvider | None)
        check_type("clock", clock, Clock | None)
        self._attributes = _read_attributes(attributes)
        if meter_provider is metrics.get_meter_provider():
            meter_provider = None  # shares the global instruments
        self._tracer = trace.get_tracer(*_SCOPE, tracer_provider)
        self._instruments = _global_instruments() if meter_provider is None else _Instruments(meter_provider)
        self._span_key = context.create_key("simplestore-token-renewal")
        self._last_token = _LastToken(meter_provider, self._attributes, clock or default_clock())
        _last_tokens[ref(self._last_token, _last_tokens.pop)] = None

    def __call__(self, event: Event) -> None:
        """Export *event*; thread-safe."""
        instruments, own = self._instruments, self._attributes
        match event:
            case RenewalStarted():
                self._begin_span(event)
            case TokenReceived() | RenewalFailed():
                attributes = own | {_CAUSE: event.cause} | _outcome(event)
                instruments.renewals.add(1, attributes)
                instruments.duration.record(event.duration_seconds, attributes)
                if event.longest_wait_seconds > 0:
                    instruments.wait.record(event.longest_wait_seconds, attributes)
                self._note_life(event)
                self._end_span(event, attributes)
            case RenewalOverdue():
                instruments.overdue.add(1, own)
            case TokenRejected():
                instruments.rejections.add(1, own | {"simplestore.token.is_replaced": event.is_replaced})
            case OutageBegan():
                instruments.outages.add(1, own | {_ERROR_TYPE: _type_name(event.error)})
            case CacheFailed():
                instruments.cache_failures.add(1, own | {"simplestore.token.cache_operation": event.operation})
            case _:
                pass  # the end of an outage, and events of later versions

    def _note_life(self, event: TokenReceived | RenewalFailed) -> None:
        if isinstance(event, TokenReceived):
            self._last_token.expires_at = self._last_token.clock.monotonic() + event.life_seconds
        elif not event.is_token_alive:
            self._last_token.expires_at = -inf

    def _begin_span(self, event: RenewalStarted) -> None:
        # Within an empty context it is a root.
        span = self._tracer.start_span(
            "simplestore.token.renewal", context.Context(), attributes=self._attributes | {_CAUSE: event.cause}
        )
        # Not detached: this context is the renewal's own, and ends with it.
        context.attach(context.set_value(self._span_key, span, trace.set_span_in_context(span)))

    def _end_span(self, event: TokenReceived | RenewalFailed, attributes: dict[str, str | float]) -> None:
        span = context.get_value(self._span_key)
        if not isinstance(span, trace.Span):
            return  # forwarded from another context
        span.set_attributes(attributes | {"simplestore.token.waiter_count": event.waiter_count})
        if isinstance(event, TokenReceived):
            span.set_attribute("simplestore.token.life_seconds", event.life_seconds)
        else:
            span.set_attribute("simplestore.token.retry_in_seconds", event.retry_in_seconds)
            if isinstance(event.error, TokenEndpointError):
                span.set_attribute("http.response.status_code", event.error.status)
            span.set_status(trace.StatusCode.ERROR, str(event.error))
        span.end()


def _outcome(event: TokenReceived | RenewalFailed) -> dict[str, str | float]:
    if isinstance(event, TokenReceived):
        return {_OUTCOME: "unchanged" if event.is_unchanged else "renewed", "simplestore.token.source": event.source}
    return {_OUTCOME: "failed", _ERROR_TYPE: _type_name(event.error)}


def _type_name(error: SimpleStoreError) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _read_attributes(attributes: Mapping[Any, Any] | None) -> dict[str, str | float]:
    if attributes is None:
        return {}
    check_type("attributes", attributes, Mapping, expected="a mapping", hint='write it like {"shop": "7"}')
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"attributes[{name!r}]", "must have a string as name, and a string, a number or a bool as value"
            )
    return dict(attributes)
