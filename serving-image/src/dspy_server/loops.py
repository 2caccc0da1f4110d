"""The event loop of the process: what is shorter than the way to a worker thread and back is done at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

import uvloop

from dspy_server import compat

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class ServingLoop(uvloop.Loop):
    """uvloop's, but for DSPy's short steps."""

    def run_in_executor(  # type: ignore[override]  # a future, whatever uvloop's stub says
        self, executor: Executor | None, func: Callable[[*_Args], _T], *args: *_Args
    ) -> asyncio.Future[_T]:
        """Run `func` in a thread of `executor`, or right here."""
        if executor is not None or not compat.is_short(func):
            return super().run_in_executor(executor, func, *args)  # type: ignore[return-value]  # as above
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - as a thread hands on whatever was raised in it
            future.set_exception(exc)
        return future
