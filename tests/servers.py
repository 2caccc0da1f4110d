"""HTTP servers of the tests' own."""

import sys
from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """A client that leaves in the middle is no failure of the server: many tests are about such clients.

    Prometheus is one: it gives a scrape up after a second, and when its targets change.
    """

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whatever else fails is printed as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # handed on as it came
