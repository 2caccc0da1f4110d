"""The tests' HTTP servers: quiet about clients that leave, not about what fails."""

import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from tests.servers import Server

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing resets the connection."""
ANSWER = b"x" * 50_000_000


def serve_one(answer: Callable[[BaseHTTPRequestHandler], None], request: bytes) -> None:
    """One client that sends this and resets the connection, until its handler is done."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
            pass

    class Watched(Server):
        def shutdown_request(self, request: object) -> None:
            super().shutdown_request(request)  # type: ignore[arg-type]  # handed on as it came
            done.set()

    server = Watched(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    client = socket.create_connection(("127.0.0.1", server.server_port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.sendall(request)
    client.close()
    assert done.wait(10)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\n\r\n"], ids=["half", "whole"]
)
def test_a_client_that_leaves_is_no_news(capsys: pytest.CaptureFixture[str], request_: bytes) -> None:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(ANSWER)

    serve_one(write, request_)
    assert capsys.readouterr().err == ""


def test_a_handler_that_fails_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: BaseHTTPRequestHandler) -> None:
        raise ValueError("odd")

    serve_one(fail, b"GET / HTTP/1.1\r\n\r\n")
    assert "ValueError: odd" in capsys.readouterr().err
