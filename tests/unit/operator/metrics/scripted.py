"""A Prometheus that answers what a test tells it to, over real HTTP, however odd."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from tests.servers import Server

Answer = Callable[["Handler"], None]
NOW = 1_700_000_000.0


@dataclass
class Scripted:
    """Where it listens, what it was asked, and what it answers."""

    url: str
    answer: Answer
    queries: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One exchange; `script` is set by `run_scripted`."""

    script: Scripted
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(length).decode())
        self.form = {name: values[0] for name, values in form.items()}
        self.script.queries.append(self.form)
        self.script.headers.append(dict(self.headers.items()))
        self.script.answer(self)

    do_GET = do_POST  # noqa: N815  the standard library's name

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library's name
        pass


@contextmanager
def run_scripted(answer: Answer) -> Iterator[Scripted]:
    handler = type("ScriptedHandler", (Handler,), {})
    server = Server(("127.0.0.1", 0), handler)
    script = Scripted(f"http://127.0.0.1:{server.server_port}", answer)
    handler.script = script  # type: ignore[attr-defined]  # made two lines above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def series(name: str | None, value: Any, **labels: str) -> dict[str, Any]:
    """One row; `name` None for the time of a scrape."""
    own = {"dspy_reading": "sampled_at"} if name is None else {"__name__": name}
    return {"metric": own | labels, "value": [NOW, str(value)]}


CLOCK = {"metric": {}, "value": [NOW, str(NOW)]}


def success(rows: list[dict[str, Any]], **more: Any) -> bytes:
    data = {"resultType": "vector", "result": rows}
    return json.dumps({"status": "success", "data": data} | more).encode()


def is_state_query(form: dict[str, str]) -> bool:
    return "vector(time())" in form["query"]


def is_counters_query(form: dict[str, str]) -> bool:
    return form["query"].startswith("{__name__=~") and not is_state_query(form)
