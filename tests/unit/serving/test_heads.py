"""Requests on a real socket whose heads have no end: 400, and the connection is closed."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from tests.unit.serving.worlds import until

from dspy_server import heads

PIECE = b"a" * 8192
PIECES = 64
"""Of a piece each: eight times what a head may be."""

ENDLESS = {
    "a path": (b"GET /", [PIECE] * PIECES),
    "one header": (b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ", [PIECE] * PIECES),
    "many headers": (b"GET / HTTP/1.1\r\nhost: x\r\n", [b"x-more: " + PIECE + b"\r\n"] * PIECES),
    "one trailer": (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-long: ",
        [PIECE] * PIECES,
    ),
    "many trailers": (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        [b"x-more: " + PIECE + b"\r\n"] * PIECES,
    ),
    "the extension of a chunk": (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2;x=",
        [PIECE] * PIECES,
    ),
}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say how long the body was."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def listen() -> AsyncIterator[int]:
    """A listener with the server's parser; its port."""
    listener = uvicorn.Server(
        uvicorn.Config(echo, host="127.0.0.1", port=0, http=heads.Protocol, lifespan="off", log_config=None)
    )
    task = asyncio.create_task(listener._serve())
    await until(lambda: listener.started)
    yield int(listener.servers[0].sockets[0].getsockname()[1])
    listener.should_exit = True
    await task


async def exchange(port: int, pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """Send pieces until the other side has had enough: how many bytes it took, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    said = asyncio.create_task(reader.read())
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            await asyncio.sleep(0)
            if said.done():
                break
        return sent, await asyncio.wait_for(said, 5)
    finally:
        writer.close()


@pytest.mark.parametrize(("begin", "pieces"), ENDLESS.values(), ids=ENDLESS)
async def test_a_head_without_an_end_is_refused(begin: bytes, pieces: list[bytes]) -> None:
    async with listen() as port:
        try:
            _, said = await exchange(port, [begin, *pieces])
        except ConnectionError:
            return
    assert said.startswith(b"HTTP/1.1 400 "), said[:80]
    assert said.endswith(b"Invalid HTTP request received.")


async def test_a_head_and_a_large_body_in_one_piece_are_a_request() -> None:
    size = 4 * heads.MAX_HEAD_BYTES
    request = f"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n".encode()
    async with listen() as port:
        _, said = await exchange(port, [request + b"b" * size])
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(str(size).encode())


async def test_requests_on_one_connection_are_counted_one_by_one() -> None:
    header = b"x-some: " + b"a" * (heads.MAX_HEAD_BYTES // 2) + b"\r\n"
    kept = b"GET / HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n"
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + header + b"\r\n"
    async with listen() as port:
        _, said = await exchange(port, [kept, kept, kept, last])
    assert said.count(b"HTTP/1.1 200 ") == 4
