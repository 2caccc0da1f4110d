"""OpenTelemetry spans of a request, its modules, LM calls and tools, sent to a collector in the background.

Off without `tracing.endpoint`. `journal.py` begins and ends spans by call id; no library is patched for it.
"""

import contextlib
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any, Final

import orjson
from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dspy_server import logs
from dspy_server.compat import Step, StepKind
from dspy_server.redact import MAX_CHARS, Redactor

TRACEPARENT: Final = "traceparent"
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
_TEXTS: Final = {
    StepKind.MODULE: ("dspy.inputs", "dspy.outputs"),
    StepKind.LM: ("gen_ai.input.messages", "gen_ai.output.messages"),
    StepKind.TOOL: ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
}

Attributes = Mapping[str, str | int | float | bool]


class Trace:
    """One sampled request's spans.

    Attributes:
        trace_id: 32 hex digits.
    """

    def __init__(self, tracer: Any, root: Span, *, has_text: bool) -> None:
        self.trace_id = format(root.get_span_context().trace_id, "032x")
        self._tracer = tracer
        self._root = root
        self._has_text = has_text
        self._shared: dict[str, str] = {}
        self._spans: dict[str, tuple[Span, StepKind, Token[Any]]] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self._token = _attach(root)

    def describe(self, **attributes: str) -> None:
        """Say this of the request and of each span that begins later, as `dspy.<name>`."""
        self._shared |= {f"dspy.{name}": value for name, value in attributes.items()}
        self._root.set_attributes(self._shared)

    def begin(self, call_id: str, step: Step) -> None:
        """A step's span, below that of the step around it, else below the request's."""
        with self._lock:
            if self._is_over:
                return
            parent = self._spans[step.parent][0] if step.parent in self._spans else self._root
            span = self._tracer.start_span(
                _get_name(step),
                context=set_span_in_context(parent),
                kind=SpanKind.CLIENT if step.kind is StepKind.LM else SpanKind.INTERNAL,
                attributes={**self._shared, **_build_attributes(step)},
            )
            self._spans[call_id] = (span, step.kind, _attach(span))
        if self._has_text:
            span.set_attribute(_TEXTS[step.kind][0], _dump(step.inputs))

    def end(self, call_id: str, outputs: Any, error: BaseException | None) -> None:
        """End a step's span; one that the request has ended already is ignored."""
        with self._lock:
            span, kind, token = self._spans.pop(call_id, (None, None, None))
        if span is None or kind is None or token is None:
            return
        _detach(token)
        if self._has_text and error is None:
            span.set_attribute(_TEXTS[kind][1], _dump(outputs))
        _end(span, "" if error is None else type(error).__name__)

    def note_attempt(self, model: str, status: str, usage: Mapping[str, int]) -> None:
        """One call on the wire, of the LM call that is under way: its model, how it ended, its tokens."""
        span = get_current_span()
        span.add_event("attempt", {"gen_ai.request.model": model, "dspy.status": status})
        span.set_attributes({"gen_ai.request.model": model, "gen_ai.provider.name": model.partition("/")[0]})
        if usage:
            span.update_name(f"chat {model}")
            span.set_attribute("gen_ai.response.model", model)
            span.set_attribute("gen_ai.usage.input_tokens", usage["prompt"])
            span.set_attribute("gen_ai.usage.output_tokens", usage["completion"])

    def finish(self, status: int, error: str) -> None:
        """The request is over: so are the steps that nobody ended, such as those of a thread that was given up."""
        with self._lock:
            self._is_over = True
            orphans = list(self._spans.values())
            self._spans.clear()
        for span, _, _ in reversed(orphans):
            span.set_attribute("dspy.orphan", value=True)
            _end(span, "")
        _detach(self._token)
        self._root.set_attribute("http.response.status_code", status)
        _end(self._root, error)


class Tracer:
    """The process's; build it with `build_tracer`."""

    def __init__(self, provider: TracerProvider, *, has_text: bool) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("dspy_server")
        self._has_text = has_text

    def start(self, method: str, route: str, traceparent: str | None) -> Trace | None:
        """A request's trace, as part of the caller's if it sent one; None if it is not sampled."""
        carrier = {} if traceparent is None else {TRACEPARENT: traceparent}
        root = self._tracer.start_span(
            f"{method} {route}",
            context=TraceContextTextMapPropagator().extract(carrier, context=otel_context.Context()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
        )
        if not root.is_recording():
            return None
        return Trace(self._tracer, root, has_text=self._has_text)

    def flush(self) -> None:
        """Send what waits; blocks."""
        self._provider.force_flush()

    def close(self, seconds: float) -> None:
        """Send what waits, for so long at most; blocks. What a dead collector did not take is lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(seconds)


def build_tracer(
    endpoint: str, sample: float, program: str, version: str, redactor: Redactor, *, has_text: bool
) -> Tracer | None:
    """The tracer, None without an endpoint; `sample` is the share of requests that no caller decided about."""
    if not endpoint:
        return None
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


def _get_name(step: Step) -> str:
    match step.kind:
        case StepKind.LM:
            return "chat"
        case StepKind.TOOL:
            return f"execute_tool {step.name}"
        case StepKind.MODULE:
            return step.name


def _build_attributes(step: Step) -> dict[str, str]:
    match step.kind:
        case StepKind.LM:
            return {"gen_ai.operation.name": "chat"}
        case StepKind.TOOL:
            return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": step.name}
        case StepKind.MODULE:
            return {"dspy.module": step.name}


def _dump(value: Any) -> str:
    """A value as text, now: it is alive, and may be another a moment later."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        text = str(value)
    return text[: 2 * MAX_CHARS]


def _attach(span: Span) -> Token[Any]:
    return otel_context.attach(set_span_in_context(span))


def _detach(token: Token[Any]) -> None:
    """Only in the context that attached it: a step may end in another task than it began in."""
    with contextlib.suppress(ValueError, RuntimeError):
        token.var.reset(token)


def _end(span: Span, error: str) -> None:
    if error:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
    span.end()
