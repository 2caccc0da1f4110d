"""Clients that leave: what is done for one of them ends when it has gone.

`ask.py` and `stream.py` wrap their work in it once the body is read; `app.py` counts such a request as 499.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request

from dspy_server.errors import ServerError

CLIENT_CLOSED: Final = 499
"""The status that such a request is counted with; nobody is there to receive it."""


class ClientGoneError(ServerError):
    """The client closed its connection before it got an answer."""


@asynccontextmanager
async def cancelled_when_gone(request: Request) -> AsyncIterator[None]:
    """Cancel what happens inside when the client leaves; the request's body must have been read.

    Raises:
        ClientGoneError: it left.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs is in a task
    has_gone = False

    async def watch() -> None:
        nonlocal has_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_gone = True
        task.cancel()

    before, watcher = task.cancelling(), asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError as exc:
        if has_gone and task.uncancel() <= before:
            raise ClientGoneError from exc
        raise
    finally:
        watcher.cancel()
