"""Requests on the wire: the HTTP parser that uvicorn brings has no end to a head, this one has.

`lifecycle.py` gives it to the listeners. Bodies have their own limits (`bodies.py`).
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 65536
"""Of a request's line, headers and trailers together; more is answered with 400 and closed."""


class HeadTooLargeError(ValueError):
    """More bytes of a head than anybody needs; the parser answers it with 400."""


class Protocol(HttpToolsProtocol):
    """One connection. What the parser keeps to itself, waiting for its end, is limited too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._silent = 0
        self._has_heard = False

    def data_received(self, data: bytes) -> None:
        """Bytes came; when nothing has come of very many, the parser is holding them."""
        self._has_heard = False
        super().data_received(data)
        self._silent = 0 if self._has_heard else self._silent + len(data)
        if self._silent > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer, whole."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._has_heard = True
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._has_heard = True
        self._head += size
        if self._head > MAX_HEAD_BYTES:
            raise HeadTooLargeError
