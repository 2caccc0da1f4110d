"""OpenTelemetry spans of a request, its modules, LM calls and tools.

`journal.py` begins and ends spans by call id; no library is patched for it. `exporter.py` sends them.
"""

import contextlib
import threading
from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dspy_server.compat import Step, StepKind
from dspy_server.redact import MAX_CHARS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT: Final = "traceparent"
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
    """The process's; `exporter.py` builds it."""

    def __init__(self, provider: "TracerProvider", *, has_text: bool) -> None:
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
