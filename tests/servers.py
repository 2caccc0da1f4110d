"""HTTP servers of the tests' own, and where others may listen."""

import socket
import ssl
import sys
from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """A client that leaves, or does not trust the certificate, is no failure of the server.

    Many tests are about such clients. Prometheus is one: it gives a scrape up after a second, and when its targets
    change.
    """

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whatever else fails is printed as ever."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # handed on as it came


def get_free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
