"""While no fault is on, what the operator asks at once is asked in a row: answers take no time, and tasks would.

Used by `run.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from dspy_operator.reconcile import execute, snapshot


def ask_in_a_row(is_calm: Callable[[], bool]) -> AbstractContextManager[object]:
    """While this lasts, `gather` makes tasks only where one of them may have to wait."""

    async def gather(*asked: Coroutine[Any, Any, Any], return_exceptions: bool = False) -> list[Any]:
        if not is_calm():
            return await asyncio.gather(*asked, return_exceptions=return_exceptions)
        return await _ask(asked, return_exceptions=return_exceptions)

    stack = ExitStack()
    for module in (snapshot, execute):
        stack.enter_context(patch.object(module, "asyncio", SimpleNamespace(gather=gather)))
    return stack


async def _ask(asked: tuple[Coroutine[Any, Any, Any], ...], *, return_exceptions: bool) -> list[Any]:
    results: list[Any] = []
    try:
        for one in asked:
            try:
                results.append(await one)
            except Exception as error:
                if not return_exceptions:
                    raise
                results.append(error)
    finally:
        for one in asked:
            one.close()  # those that were not asked; for the others that is nothing
    return results
