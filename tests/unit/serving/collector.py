"""A small OpenTelemetry collector: a real HTTP server that takes spans by OTLP, and trees made of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Tree = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Received:
    """A span as it came over the wire."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    is_error: bool


@dataclass
class Collector:
    """What came in; `status` is what it answers from now on."""

    url: str = ""
    status: int = 200
    posts: int = 0
    raw: bytes = b""
    spans: list[Received] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> None:
        with self.lock:
            self.posts += 1
            if self.status != 200:
                return
            self.raw += body
            for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = read(batch.resource.attributes)
                for scope in batch.scope_spans:
                    self.spans += [build(span) for span in scope.spans]

    def get_tree(self, trace_id: str) -> Tree:
        """Names of a trace's spans, children sorted; fails if it has not exactly one root or a span twice."""
        spans = [span for span in self.spans if span.trace_id == trace_id]
        known = {span.span_id for span in spans}
        assert len(known) == len(spans)
        roots = [span for span in spans if span.parent_id not in known]
        assert len(roots) == 1, [span.name for span in roots]
        return self._grow(roots[0], spans)

    def _grow(self, span: Received, spans: list[Received]) -> Tree:
        children = (self._grow(item, spans) for item in spans if item.parent_id == span.span_id)
        return span.name, tuple(sorted(children))


def read(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


def build(span: Any) -> Received:
    return Received(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        attributes=read(span.attributes),
        events=[(event.name, read(event.attributes)) for event in span.events],
        is_error=span.status.code == 2,
    )


@contextmanager
def run_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.take(body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
