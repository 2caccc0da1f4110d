"""An HTTPS server whose paths are the faults that a fetch can meet."""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.servers import Server

from dspy_server.artifact import MAX_BYTES

PROGRAM = b'{"metadata": {}, "padding": "' + b"x" * 20_000 + b'"}'
LOGIN = "Basic cm9ib3Q6aHVudGVyMg=="  # robot:hunter2


@dataclass
class Site:
    """What it does and has seen.

    Attributes:
        program: what it serves.
        seen: path and authorization of each request.
    """

    port: int = 0
    program: bytes = PROGRAM
    seen: list[tuple[str, str]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


class SiteServer(Server):
    """The server of one site."""

    site: Site


class Handler(BaseHTTPRequestHandler):
    """One method for each path."""

    @property
    def site(self) -> Site:
        assert isinstance(self.server, SiteServer)
        return self.server.site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.seen.append((self.path, self.headers.get("authorization", "")))
        with suppress(OSError):
            getattr(self, f"do_{path.strip('/').partition('.')[0]}", self.do_nothing)()

    def do_program(self) -> None:
        self.send(200, self.site.program)

    def do_nothing(self) -> None:
        self.send(404)

    def do_moved(self) -> None:
        self.send(302, location="/program.json")

    def do_away(self) -> None:
        self.send(302, location=f"https://localhost:{self.site.port}/program.json")

    def do_plain(self) -> None:
        self.send(302, location=f"http://127.0.0.1:{self.site.port}/program.json")

    def do_loop(self) -> None:
        self.send(302, location="/loop")

    def do_private(self) -> None:
        self.do_program() if self.headers.get("authorization") == LOGIN else self.send(401)

    def do_large(self) -> None:
        self.head(200, {"content-length": str(MAX_BYTES + 1)})

    def do_endless(self) -> None:
        self.head(200, {})
        while not self.site.stop.is_set():
            self.wfile.write(b"x" * 65536)

    def do_slow(self) -> None:
        self.head(200, {"content-length": "1000"})
        while not self.site.stop.wait(0.05):
            self.wfile.write(b"x")

    def do_cut(self) -> None:
        self.head(200, {"content-length": str(len(PROGRAM))})
        self.wfile.write(PROGRAM[:100])
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.head(status, {"content-length": str(len(body)), **headers})
        self.wfile.write(body)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
        pass
