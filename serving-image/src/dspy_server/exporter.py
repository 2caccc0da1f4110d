"""Sends spans to a collector, by OTLP over HTTP, in the background; what they say is redacted on a copy.

Imported only where `tracing.endpoint` is set: it takes 4 MB and a quarter of a second.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Status

from dspy_server import logs
from dspy_server.redact import MAX_CHARS, Redactor
from dspy_server.tracing import Tracer

TRACE_PATH: Final = "/v1/traces"
QUEUE: Final = 4096
"""Spans that wait for the collector; what comes when they are so many is dropped."""
BATCH: Final = 512
DELAY_MILLIS: Final = 1000
EXPORT_SECONDS: Final = 5.0
_LIMITS: Final = SpanLimits(
    max_span_attributes=64, max_events=32, max_event_attributes=16, max_span_attribute_length=2 * MAX_CHARS
)
_STRUCTURAL: Final = frozenset(
    {
        "dspy.request_id", "dspy.revision", "dspy.track", "dspy.program", "gen_ai.request.model",
        "gen_ai.response.model", "gen_ai.provider.name", "gen_ai.operation.name", "http.route", "http.request.method",
        "error.type",
    }
)  # fmt: skip
"""Attributes that the server names itself: an id of digits must not be taken for a phone."""


def build_tracer(
    endpoint: str, sample: float, program: str, version: str, redactor: Redactor, *, has_text: bool
) -> Tracer:
    """The tracer; `sample` is the share of requests that no caller decided about."""
    logging.getLogger("opentelemetry").setLevel(
        logging.CRITICAL + 1
    )  # it would log every batch; `_Exporter` speaks
    url = endpoint.rstrip("/")
    url = url if url.endswith(TRACE_PATH) else url + TRACE_PATH
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample)),
        resource=Resource.create({"service.name": program, "service.version": version}),
        span_limits=_LIMITS,
        shutdown_on_exit=False,
    )
    exporter = _Exporter(OTLPSpanExporter(endpoint=url, timeout=EXPORT_SECONDS), redactor)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE,
            schedule_delay_millis=DELAY_MILLIS,
            max_export_batch_size=BATCH,
        )
    )
    return Tracer(provider, has_text=has_text)


class _Exporter(SpanExporter):
    """Hands redacted copies on, and says once that the collector does not take them, and once that it does again."""

    def __init__(self, inner: SpanExporter, redactor: Redactor) -> None:
        self._inner = inner
        self._redactor = redactor
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export([self._redact(span) for span in spans])
        is_failing = result is not SpanExportResult.SUCCESS
        if is_failing and not self._is_failing:
            logs.get_logger().warning("spans_not_sent", lost=len(spans))
        elif self._is_failing and not is_failing:
            logs.get_logger().info("spans_sent_again")
        self._is_failing = is_failing
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._inner.force_flush(timeout_millis)

    def _redact(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=self._redactor.redact_text(span.name),
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._redact_attributes(span.attributes),
            events=[
                Event(event.name, self._redact_attributes(event.attributes), event.timestamp)
                for event in span.events
            ],
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),  # a description may quote an input
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _redact_attributes(self, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {
            name: value if name in _STRUCTURAL else self._redact_value(value)
            for name, value in (attributes or {}).items()
        }

    def _redact_value(self, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # many a collector speaks JSON, which has no NaN
        return self._redactor.redact(value)
