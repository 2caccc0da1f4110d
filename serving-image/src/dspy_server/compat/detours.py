"""DSPy's detours: five times a call of an LM it goes to a worker thread, most often for less than the way costs.

`loops.py` asks before it goes there.
"""

import functools
from typing import Any

import dspy
from dspy.clients import execution
from dspy.clients.engines.lm15_engine import AsyncLM15Engine

# ruff: noqa: SLF001 - this module is about what is inside of DSPy


def is_short(work: object) -> bool:
    """Whether `work`, as `asyncio.to_thread` hands it over, is a step of DSPy's that neither waits nor reads a file.

    A step is one only with what it has now: a message may quote a file, a cache may have a disk, an engine's first call
    may fetch credentials.
    """
    if not isinstance(work, functools.partial) or not work.args:
        return False
    step = work.args[0]
    if step is execution._price_result:
        return True
    if step is execution._cached or step is execution._store:
        return bool(getattr(dspy.cache, "is_in_memory", False))
    if step is execution.prepare:
        return _is_text(*work.args[2:])
    return getattr(step, "__func__", None) is AsyncLM15Engine._target and bool(step.__self__._providers)


def _is_text(prompt: Any, messages: Any, settings: Any) -> bool:
    """Whether a call's messages are text and nothing else."""
    if prompt is not None or not messages or "request" in settings:
        return False
    return all(isinstance(message.get("content"), str) for message in messages)
