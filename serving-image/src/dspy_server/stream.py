"""`POST /ask/stream`: the same walk as `/ask`, told as server-sent events while it happens.

`chunk {field, text}` while an LM is speaking, then `final {outputs, meta}` or `error {problem}`. What fails before the
first event is an ordinary problem with its own status.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dspy_server import ask, bodies, compat, problems
from dspy_server.answers import Answer
from dspy_server.clients import CLIENT_CLOSED, ClientGoneError, cancelled_when_gone
from dspy_server.server import Exchange, Server, get_problem, read_body

Conclude = Callable[[int], None]

SILENCE_SECONDS: Final = 15.0
"""After so long without an event a comment keeps proxies from closing the connection."""
_COMMENT: Final = b": still working\n\n"
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def answer(server: Server, request: Request, exchange: Exchange) -> Response:
    """The answer to one question as a stream, once its first event is there or the silence gets too long.

    Raises:
        ProblemError, UserLimitError: it failed before that.
        ClientGoneError: nobody waits for it any more.
    """
    body = await read_body(server, request)
    question = await ask.check(server, request, exchange, bodies.get_inputs(body))
    telling = _Telling()
    question = replace(
        question, listener=compat.find_listener(question.choice.program.module, telling.add_chunk)
    )
    telling.begin(ask.solve(server, question, exchange))
    try:
        async with cancelled_when_gone(request):
            first = await telling.get_next()
        if first is None and telling.is_over:
            telling.get_answer()  # raises what went wrong
    except BaseException:
        telling.cancel()
        raise
    return EventStream(server, exchange, telling, first)


class _Telling:
    """The work for one question, and the chunks that it has told so far."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._work: asyncio.Task[Answer] | None = None

    def add_chunk(self, field: str, text: str) -> None:
        """A piece of an output field."""
        self._chunks.put_nowait(build_event("chunk", {"field": field, "text": text}))

    def begin(self, work: Any) -> None:
        """Start; the end of the work is told too."""
        self._work = asyncio.create_task(work, name="stream")
        self._work.add_done_callback(self._end)

    def _end(self, work: asyncio.Task[Answer]) -> None:
        if not work.cancelled():
            work.exception()  # seen, also where nobody asks for it any more
        self._chunks.put_nowait(None)

    async def get_next(self) -> bytes | None:
        """The next chunk; None at the end, or after a silence."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                return await self._chunks.get()
        except TimeoutError:
            return None

    @property
    def is_over(self) -> bool:
        """Whether the work has ended and everything was told."""
        return self._work is not None and self._work.done() and self._chunks.empty()

    def get_answer(self) -> Answer:
        """The answer, after the end; raises what the work raised."""
        assert self._work is not None  # noqa: S101 - begin() comes first
        return self._work.result()

    def cancel(self) -> None:
        """Nobody listens any more."""
        if self._work is not None:
            self._work.cancel()


class EventStream(Response):
    """A response that goes on while the program works.

    Attributes:
        conclude: told the status that the request is counted with, when it is over.
    """

    media_type = "text/event-stream"

    def __init__(self, server: Server, exchange: Exchange, telling: _Telling, first: bytes | None) -> None:
        super().__init__(headers={**_HEADERS, problems.REQUEST_ID_HEADER: exchange.request_id})
        del self.headers["content-length"]
        self.conclude: Conclude = lambda _: None
        self._server = server
        self._exchange = exchange
        self._telling = telling
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events; a client that leaves ends the work."""
        status = CLIENT_CLOSED
        try:
            async with cancelled_when_gone(Request(scope, receive)):
                await send(
                    {"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers}
                )
                chunk = self._first
                while chunk is not None or not self._telling.is_over:
                    await _send(send, _COMMENT if chunk is None else chunk)
                    chunk = await self._telling.get_next()
                status, last = self._build_last()
                await _send(send, last, is_last=True)
        except (ClientGoneError, OSError):
            status = CLIENT_CLOSED
        finally:
            self._telling.cancel()
            self.conclude(status)

    def _build_last(self) -> tuple[int, bytes]:
        """The last event, and the status that it would be as a plain answer."""
        try:
            answer = self._telling.get_answer()
        except Exception as exc:  # noqa: BLE001 - whatever it is, a client gets a problem
            problem = get_problem(self._server, self._exchange, exc)
            return problem.status, build_event(
                "error", problems.build_body(problem, self._exchange.request_id)
            )
        return HTTPStatus.OK, build_event("final", {"outputs": answer.outputs, "meta": answer.meta})


async def _send(send: Send, data: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not is_last})


def build_event(kind: str, data: Any) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data))
